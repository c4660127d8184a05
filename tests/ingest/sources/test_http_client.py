"""URLs of a list: which are fetched, which are refused, and that no server holds a worker up. Servers are on loopback only."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import ObjectRef, Unreadable, http_client, list_objects, read_objects
from synthgen.store import remote

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers by path; `url` is where it is, `asked` the paths that were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.answers[self.path](self)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.http.server_address[1]}"
        self.url = f"http://{self.host}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose address counts as public here."""
    monkeypatch.setattr(http_client, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def says(body: bytes, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "192.0.2.7", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:1::1",
    ],
)  # fmt: skip
def test_addresses_that_no_stranger_may_reach(address: str) -> None:
    assert not http_client.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert http_client.is_public(address)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://evil.org/a.png", "evil.org is not among source.hosts"),
        ("http://example.org.evil.org/a", "not among"),
        ("http://notexample.org/a", "not among"),
        ("http://example.org:8080/a", "example.org:8080 is not among"),
        ("ftp://example.org/a", "only http"),
        ("file:///etc/passwd", "only http"),
        ("http://user:pass@example.org/a", "user name or password"),
        ("http://example.org@evil.org/", "user name or password"),
        ("http://example.org/a\r\nHost: evil", "blanks or control"),
        ("http://[::1/a", "is not a URL"),
        ("http://", "only http"),
    ],
)
def test_urls_that_the_user_does_not_allow(url: str, told: str) -> None:
    with pytest.raises(http_client.UrlRefused, match=told.replace("(", "")):
        http_client.checked(url, ["example.org", "*.example.com"])


def test_a_star_allows_what_is_below_a_host_and_case_and_dots_do_not_matter() -> None:
    assert http_client.checked("https://Img.Example.COM./a?b=1", ["*.example.com"]) == http_client.CheckedUrl(
        "https", "img.example.com", 443, "/a?b=1"
    )
    with pytest.raises(http_client.UrlRefused):
        http_client.checked("https://example.com/", ["*.example.com"])


def test_letters_of_any_language_are_asked_for_as_a_browser_would(server: Server) -> None:
    server.answers = {
        "/a%C3%B1o/%E5%9B%BE.jpg?q=%C3%A9&b=%2F": says(
            b"", 302, Location="/caf\u00c3\u00a9%20|.jpg"
        ),  # the bytes of é in UTF-8
        "/caf%C3%A9%20%7C.jpg": says(b"image"),
    }
    assert http_client.fetch(f"{server.url}/año/图.jpg?q=é&b=%2F", [server.host], 10) == b"image"


def test_what_an_earlier_source_listed_is_still_read_from_where_it_is(server: Server, tmp_path: Path) -> None:
    server.answers["/a.png"] = says(b"of the list")
    (tmp_path / "b.png").write_bytes(b"of the folder")
    [local] = list_objects(SourceConfig(uri=str(tmp_path)))
    refs = [ObjectRef("a", f"{server.url}/a.png", "url"), ObjectRef("b", local.uri, local.version)]
    for uri in (str(tmp_path), "urls:list.txt"):
        found = read_objects(refs, SourceConfig(uri=uri, hosts=(server.host,)), ImagesConfig())
        assert {ref.object_id: data for ref, data in found} == {"a": b"of the list", "b": b"of the folder"}


def test_a_host_that_means_an_inner_address_is_refused_and_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, 1, 6, "", ("8.8.8.8", 80)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(http_client.UrlRefused, match=r"example.org is 127.0.0.1, which is not a public address"):
        http_client.fetch("http://example.org/a", ["example.org"], 10)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS that answers otherwise the second time is never asked a second time."""
    names, connected = [], []

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        names.append(host)
        return [(socket.AF_INET, 1, 6, "", ("8.8.8.8" if len(names) == 1 else "127.0.0.1", 80))]

    def connect(address: tuple[str, int], *_: object) -> socket.socket:
        connected.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(OSError, match="not in a test"):
        http_client.fetch("http://example.org/a", ["example.org"], 10)
    assert names == ["example.org"] and connected == [("8.8.8.8", 80)]


def test_an_image_is_fetched_and_a_redirect_to_an_allowed_place_followed(server: Server) -> None:
    server.answers = {"/moved": says(b"", 302, Location="/image"), "/image": says(b"pixels")}
    assert http_client.fetch(f"{server.url}/moved", [server.host], 100) == b"pixels"


@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "//evil.org/", "http://localhost:1/"]
)
def test_a_redirect_is_a_new_url_and_checked_like_one(server: Server, to: str) -> None:
    server.answers = {"/moved": says(b"", 301, Location=to)}
    with pytest.raises(http_client.UrlRefused):
        http_client.fetch(f"{server.url}/moved", [server.host], 100)


def test_an_allowed_name_that_leads_to_an_inner_address_after_a_redirect_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "is_public", lambda address: address == "127.0.0.1" and len(server.asked) == 0)
    server.answers = {"/moved": says(b"", 302, Location="/image"), "/image": says(b"pixels")}
    with pytest.raises(http_client.UrlRefused, match="not a public address"):
        http_client.fetch(f"{server.url}/moved", [server.host], 100)
    assert server.asked == ["/moved"]


def test_redirects_end(server: Server) -> None:
    server.answers = {"/loop": says(b"", 302, Location="/loop")}
    with pytest.raises(http_client.UrlRefused, match="more than 4 redirects"):
        http_client.fetch(f"{server.url}/loop", [server.host], 100)


def endless(request: BaseHTTPRequestHandler) -> None:
    """Chunks for ever, without a length."""
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 1000)


def trickle(request: BaseHTTPRequestHandler) -> None:
    """A byte now and then."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(200):
        request.wfile.write(b"x")
        time.sleep(0.05)


def slow_headers(request: BaseHTTPRequestHandler) -> None:
    for _ in range(200):
        request.wfile.write(b"H")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [says(b"x" * 200), endless], ids=["announced", "not announced"])
def test_more_bytes_than_the_limit_are_not_read(server: Server, answer: Answer) -> None:
    server.answers = {"/a": answer}
    with pytest.raises(http_client.TooLarge):
        http_client.fetch(f"{server.url}/a", [server.host], 100)


@pytest.mark.parametrize("answer", [trickle, slow_headers])
def test_a_server_that_sends_a_byte_now_and_then_is_cut_off(
    server: Server, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "FETCH_SECONDS", 0.4)
    server.answers = {"/a": answer}
    started = time.monotonic()
    with pytest.raises(OSError):
        http_client.fetch(f"{server.url}/a", [server.host], 10_000)
    assert time.monotonic() - started < 5


def test_what_is_cut_short_or_fails_may_pass_and_what_is_gone_does_not(server: Server) -> None:
    server.answers = {"/cut": says(b"abc", length=10), "/busy": says(b"", 503), "/gone": says(b"", 404)}
    for path in ("/cut", "/busy"):
        with pytest.raises(OSError):
            http_client.fetch(server.url + path, [server.host], 100)
    with pytest.raises(remote.Lasting, match="HTTP 404"):
        http_client.fetch(f"{server.url}/gone", [server.host], 100)


def test_a_list_of_urls_is_a_source_and_every_url_has_an_outcome(server: Server, tmp_path: Path) -> None:
    server.answers = {"/image": says(b"pixels"), "/big": says(b"x" * 200), "/gone": says(b"", 404)}
    (tmp_path / "list.txt").write_text(
        f"# mine\n{server.url}/image\n\n{server.url}/big\n{server.url}/gone\nhttp://evil.org/a.png\n"
    )
    source = SourceConfig(uri=f"urls:{tmp_path / 'list.txt'}", hosts=(server.host,))
    listed = list(list_objects(source))
    refs = [ObjectRef(str(number), one.uri, one.version) for number, one in enumerate(listed)]
    found = {ref.uri: data for ref, data in read_objects(refs, source, ImagesConfig(max_bytes=100))}
    assert found[f"{server.url}/image"] == b"pixels"
    reasons = {uri: data.reason for uri, data in found.items() if isinstance(data, Unreadable)}
    assert reasons == {
        f"{server.url}/big": "too_many_bytes",
        f"{server.url}/gone": "unreadable",
        "http://evil.org/a.png": "url_refused",
    }


def test_without_hosts_that_the_user_named_no_url_is_fetched(server: Server, tmp_path: Path) -> None:
    source = SourceConfig(uri=str(tmp_path))
    [(_, found)] = read_objects([ObjectRef("1", f"{server.url}/image", "url")], source, ImagesConfig())
    assert isinstance(found, Unreadable) and not server.asked


@pytest.mark.parametrize(
    ("text", "hosts", "told"),
    [
        ("http://a.org/x", (), "source.hosts is empty"),
        ("nonsense", ("a.org",), "list.txt:1: is not an http"),
        ("http://a.org/x?X-Amz-Signature=abc", ("a.org",), "list.txt:1: the URL carries a signature"),
    ],
)
def test_mistakes_about_lists_are_one_line(tmp_path: Path, text: str, hosts: tuple[str, ...], told: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserMistake, match=told) as error:
        list(list_objects(SourceConfig(uri=f"urls:{tmp_path / 'list.txt'}", hosts=hosts)))
    assert "\n" not in str(error.value) and "abc" not in str(error.value)
