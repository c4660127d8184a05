"""The HTTP client fetches allowed URLs, refuses all others, and no server holds it up; servers are on loopback only."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import GONE, ObjectRef, http_client, list_objects, read_objects
from synthgen.store import remote

Responder = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A server that responds by path and counts requests and connections."""

    def __init__(self) -> None:
        self.responders: dict[str, Responder] = {}
        self.requests: list[str] = []  # their paths
        self.connections = 0
        self.keeps_alive = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                super().setup()
                server.connections += 1
                self.protocol_version = "HTTP/1.1" if server.keeps_alive else "HTTP/1.0"

            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.responders[self.path](self)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.port = self.http.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server whose address counts as public here."""
    monkeypatch.setattr(http_client, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def no_connection_of_an_earlier_test() -> Iterator[None]:
    yield
    http_client._connections().close()


def respond(body: bytes, status: int = 200, length: int | None = None, **headers: str) -> Responder:
    def responder(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body)

    return responder


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.7", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:1::1",
    ],
)  # fmt: skip
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not http_client.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert http_client.is_public(address)


@pytest.mark.parametrize(
    ("url", "message"),
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
def test_a_url_that_the_user_does_not_allow_is_refused(url: str, message: str) -> None:
    with pytest.raises(http_client.UrlRefused, match=message):
        http_client.check_url(url, ["example.org", "*.example.com"])


def test_a_star_allows_every_host_below_and_case_and_dots_do_not_matter() -> None:
    assert http_client.check_url("https://Img.Example.COM./a?b=1", ["*.example.com"]) == http_client.CheckedUrl(
        "https", "img.example.com", 443, "/a?b=1"
    )
    with pytest.raises(http_client.UrlRefused):
        http_client.check_url("https://example.com/", ["*.example.com"])


def test_letters_of_any_language_are_encoded_as_a_browser_does(server: Server) -> None:
    server.responders = {
        "/a%C3%B1o/%E5%9B%BE.jpg?q=%C3%A9&b=%2F": respond(
            b"", 302, Location="/caf\u00c3\u00a9%20|.jpg"
        ),  # the bytes of é in UTF-8
        "/caf%C3%A9%20%7C.jpg": respond(b"image"),
    }
    assert http_client.fetch(f"{server.url}/año/图.jpg?q=é&b=%2F", [server.host], 10) == b"image"


def test_objects_of_an_earlier_source_are_still_read(server: Server, tmp_path: Path) -> None:
    server.responders["/a.png"] = respond(b"of the list")
    (tmp_path / "b.png").write_bytes(b"of the folder")
    [local] = list_objects(SourceConfig(uri=str(tmp_path)))
    refs = [ObjectRef("a", f"{server.url}/a.png", "url"), ObjectRef("b", local.uri, local.version)]
    for uri in (str(tmp_path), "urls:list.txt"):
        results = read_objects(refs, SourceConfig(uri=uri, hosts=(server.host,)), ImagesConfig())
        assert {ref.object_id: data for ref, data in results} == {"a": b"of the list", "b": b"of the folder"}


AddressInfo = tuple[int, int, int, str, tuple[str, int]]


def resolved(*addresses: str) -> list[AddressInfo]:
    """Return the answer of getaddrinfo for a name with these addresses."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]


def test_a_host_with_an_inner_address_is_refused_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved("8.8.8.8", "127.0.0.1"))
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(http_client.UrlRefused, match=r"example.org is 127.0.0.1, which is not a public address"):
        http_client.fetch("http://example.org/a", ["example.org"], 10)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS that answers otherwise the second time is not asked a second time."""
    names, connected = [], []

    def resolve(host: str, *_: object, **__: object) -> list[AddressInfo]:
        names.append(host)
        return resolved("8.8.8.8" if len(names) == 1 else "127.0.0.1")

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        connected.append(address)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(OSError, match="not in a test"):
        http_client.fetch("http://example.org/a", ["example.org"], 10)
    assert names == ["example.org"] and connected == [("8.8.8.8", 80)]


def test_fetches_from_one_host_share_a_connection(server: Server) -> None:
    """A redirect and an error use it too, as long as their bodies are short."""
    server.keeps_alive = True
    server.responders = {
        "/moved": respond(b"over there", 302, Location="/image"),
        "/image": respond(b"pixels"),
        "/gone": respond(b"no such image", 404),
        "/large": respond(b"x" * 2 * http_client.CHUNK, 404),
    }
    for path in ("/image", "/moved", "/image"):
        assert http_client.fetch(server.url + path, [server.host], 100) == b"pixels"
    for path in ("/gone", "/large"):
        with pytest.raises(FileNotFoundError, match="HTTP 404"):
            http_client.fetch(server.url + path, [server.host], 100)
    assert server.connections == 1
    assert http_client.fetch(f"{server.url}/image", [server.host], 100) == b"pixels"
    assert server.connections == 2, "the rest of a long body is not read"


def test_an_image_over_the_limit_costs_its_connection_only(server: Server) -> None:
    server.keeps_alive = True
    server.responders = {"/large": respond(b"x" * 200), "/image": respond(b"pixels")}
    with pytest.raises(http_client.TooLarge):
        http_client.fetch(f"{server.url}/large", [server.host], 100)
    assert http_client.fetch(f"{server.url}/image", [server.host], 100) == b"pixels"


def test_a_connection_that_the_server_closed_is_replaced(server: Server) -> None:
    server.responders = {"/image": respond(b"pixels")}  # HTTP/1.0: a connection a response
    for _ in range(3):
        assert http_client.fetch(f"{server.url}/image", [server.host], 100) == b"pixels"
    assert server.connections == 3


@pytest.mark.parametrize("keeps_alive", [True, False])
def test_a_name_that_becomes_private_is_pinned_or_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, keeps_alive: bool
) -> None:
    """A kept connection stays at the address that was checked; a new one is checked again."""
    server.keeps_alive = keeps_alive
    server.responders = {"/image": respond(b"pixels")}
    addresses = resolve_example_org(monkeypatch, "127.0.0.1", "10.0.0.1")
    host = f"example.org:{server.port}"
    assert http_client.fetch(f"http://{host}/image", [host], 100) == b"pixels"
    if keeps_alive:
        assert http_client.fetch(f"http://{host}/image", [host], 100) == b"pixels"
        assert addresses == ["10.0.0.1"], "the name was resolved once"
    else:
        with pytest.raises(http_client.UrlRefused, match=r"example.org is 10.0.0.1, which is not a public address"):
            http_client.fetch(f"http://{host}/image", [host], 100)
    assert server.connections == 1


def resolve_example_org(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let example.org have these addresses, one each time; return those that are still to come."""
    remaining, honest = list(addresses), socket.getaddrinfo

    def resolve(name: str, *rest: Any, **named: Any) -> Any:
        return resolved(remaining.pop(0)) if name == "example.org" else honest(name, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return remaining


def certify_example_org(folder: Path) -> Path:
    """Write a certificate of example.org that signs itself, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, *form)
    path = folder / "example.org.pem"
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("is_trusted", [True, False])
def test_tls_checks_the_name_and_takes_one_handshake_a_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    path = certify_example_org(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    monkeypatch.setattr(server.http, "handle_error", lambda *_: None)  # of the handshake that fails
    server.keeps_alive = True
    server.responders = {"/image": respond(b"pixels")}
    http_client._open_connections.cache_clear()
    trusted = ssl.create_default_context(cafile=str(path) if is_trusted else None)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusted)
    resolve_example_org(monkeypatch, "127.0.0.1")
    host = f"example.org:{server.port}"
    if is_trusted:
        for _ in range(3):
            assert http_client.fetch(f"https://{host}/image", [host], 100) == b"pixels"
        assert server.connections == 1
    else:
        with pytest.raises(OSError, match="certificate verify failed"):
            http_client.fetch(f"https://{host}/image", [host], 100)
    http_client._connections().close()
    http_client._open_connections.cache_clear()


def test_a_redirect_to_an_allowed_place_is_followed(server: Server) -> None:
    server.responders = {"/moved": respond(b"", 302, Location="/image"), "/image": respond(b"pixels")}
    assert http_client.fetch(f"{server.url}/moved", [server.host], 100) == b"pixels"


@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "//evil.org/", "http://localhost:1/"]
)
def test_a_redirect_is_checked_like_a_new_url(server: Server, to: str) -> None:
    server.responders = {"/moved": respond(b"", 301, Location=to)}
    with pytest.raises(http_client.UrlRefused):
        http_client.fetch(f"{server.url}/moved", [server.host], 100)


def test_an_allowed_name_that_leads_to_an_inner_address_after_a_redirect_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "is_public", lambda address: address == "127.0.0.1" and len(server.requests) == 0)
    server.responders = {"/moved": respond(b"", 302, Location="/image"), "/image": respond(b"pixels")}
    with pytest.raises(http_client.UrlRefused, match="not a public address"):
        http_client.fetch(f"{server.url}/moved", [server.host], 100)
    assert server.requests == ["/moved"]


def test_redirects_end(server: Server) -> None:
    server.responders = {"/loop": respond(b"", 302, Location="/loop")}
    with pytest.raises(http_client.UrlRefused, match="more than 4 redirects"):
        http_client.fetch(f"{server.url}/loop", [server.host], 100)


def endless(request: BaseHTTPRequestHandler) -> None:
    """Respond with an endless body without a length."""
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 1000)


def trickle(request: BaseHTTPRequestHandler) -> None:
    """Respond with a byte now and then."""
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


@pytest.mark.parametrize("responder", [respond(b"x" * 200), endless], ids=["announced", "not announced"])
def test_a_body_over_the_limit_is_not_read(server: Server, responder: Responder) -> None:
    server.responders = {"/a": responder}
    with pytest.raises(http_client.TooLarge):
        http_client.fetch(f"{server.url}/a", [server.host], 100)


@pytest.mark.parametrize("responder", [trickle, slow_headers])
def test_a_server_that_sends_a_byte_now_and_then_is_cut_off(
    server: Server, responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "FETCH_SECONDS", 0.4)
    server.responders = {"/a": responder}
    started = time.monotonic()
    with pytest.raises(OSError):
        http_client.fetch(f"{server.url}/a", [server.host], 10_000)
    assert time.monotonic() - started < 5


def test_a_cut_or_failed_response_may_pass_and_a_missing_image_does_not(server: Server) -> None:
    server.responders = {"/cut": respond(b"abc", length=10), "/busy": respond(b"", 503), "/gone": respond(b"", 404)}
    server.responders["/secret"] = respond(b"", 403)
    for path in ("/cut", "/busy"):
        with pytest.raises(OSError):
            http_client.fetch(server.url + path, [server.host], 100)
    with pytest.raises(remote.PermanentError, match="HTTP 403"):
        http_client.fetch(f"{server.url}/secret", [server.host], 100)
    with pytest.raises(FileNotFoundError, match="HTTP 404"):
        http_client.fetch(f"{server.url}/gone", [server.host], 100)


def test_a_list_of_urls_is_a_source_and_every_url_has_an_outcome(server: Server, tmp_path: Path) -> None:
    server.responders = {"/image": respond(b"pixels"), "/big": respond(b"x" * 200), "/gone": respond(b"", 404)}
    (tmp_path / "list.txt").write_text(
        f"# mine\n{server.url}/image\n\n{server.url}/big\n{server.url}/gone\nhttp://evil.org/a.png\n"
    )
    source = SourceConfig(uri=f"urls:{tmp_path / 'list.txt'}", hosts=(server.host,))
    refs = [ObjectRef(listed.uri, listed.uri, listed.version) for listed in list_objects(source)]
    results = {ref.uri: data for ref, data in read_objects(refs, source, ImagesConfig(max_bytes=100))}
    assert results[f"{server.url}/image"] == b"pixels"
    reasons = {uri: data.reason for uri, data in results.items() if isinstance(data, Failure)}
    assert results[f"{server.url}/gone"] == Failure("unreadable", GONE), "which is no outage of the source"
    assert reasons == {
        f"{server.url}/big": "too_many_bytes",
        f"{server.url}/gone": "unreadable",
        "http://evil.org/a.png": "url_refused",
    }


def test_without_allowed_hosts_no_url_is_fetched(server: Server, tmp_path: Path) -> None:
    source = SourceConfig(uri=str(tmp_path))
    [(_, result)] = read_objects([ObjectRef("1", f"{server.url}/image", "url")], source, ImagesConfig())
    assert isinstance(result, Failure) and not server.requests


@pytest.mark.parametrize(
    ("text", "hosts", "message"),
    [
        ("http://a.org/x", (), "source.hosts is empty"),
        ("nonsense", ("a.org",), "list.txt:1: is not an http"),
        ("http://a.org/x?X-Amz-Signature=abc", ("a.org",), "list.txt:1: carries a signature"),
    ],
)
def test_mistakes_about_lists_are_one_line(tmp_path: Path, text: str, hosts: tuple[str, ...], message: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserMistake, match=message) as error:
        list(list_objects(SourceConfig(uri=f"urls:{tmp_path / 'list.txt'}", hosts=hosts)))
    assert "\n" not in str(error.value) and "abc" not in str(error.value)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"X-Robots-Tag": "noai, noimageai"}, "X-Robots-Tag: noai"),
        ({"x-robots-tag": "bot: NoImageAI"}, "X-Robots-Tag: noimageai"),
        ({"TDM-Reservation": "1"}, "TDM-Reservation: 1"),
        ({"TDM-Reservation": "0", "X-Robots-Tag": "nofollow"}, None),
    ],
)
def test_a_server_that_forbids_learning_from_an_image_is_heeded_unless_its_source_may_be_used(
    server: Server, headers: dict[str, str], why: str | None
) -> None:
    server.responders["/a"] = respond(b"image", 200, None, **headers)
    ref = ObjectRef("id", f"{server.url}/a", "url")
    for use_reserved in (False, True):
        source = SourceConfig(hosts=(server.host,), use_reserved=use_reserved)
        [(_, content)] = read_objects([ref], source, ImagesConfig())
        is_heeded = why and not use_reserved
        assert content == (Failure("reserved", f"its server says {why}") if is_heeded else b"image")
