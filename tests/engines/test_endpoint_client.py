"""How endpoints are reached: proxies, refused keys, and endpoints of which one is dead."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName, Request, check_engine
from synthgen.engines.endpoint import EndpointEngine
from synthgen.engines.endpoint_client import is_here
from synthgen.errors import ModelUnavailable, UserMistake
from synthgen.workers import leave_ray, run_in_actor

NAME = ModelName("the-model", "unverified")
DEAD = "http://127.0.0.1:9/v1"
AWAY = "http://models.example/v1"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy")


class Listener:
    """A server on loopback that lists one model, or refuses everything with a status."""

    def __init__(self) -> None:
        self.status, self.paths = 200, list[str]()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.paths.append(self.path)
                data = json.dumps({"object": "list", "data": [{"id": NAME.model}]}).encode()
                self.send_response(listener.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.origin}/v1"


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Listener, Listener]]:
    """Return two servers; no variable names a proxy."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    both = Listener(), Listener()
    yield both
    for listener in both:
        listener.http.shutdown()
        listener.http.server_close()


def reach(*urls: str) -> EndpointEngine:
    return asyncio.run(EndpointEngine.reach(NAME, EngineConfig(kind="endpoint", urls=urls, retries=0)))


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"])
def test_an_endpoint_on_this_machine_is_never_asked_through_a_proxy(
    listeners: tuple[Listener, Listener], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, proxy = listeners
    monkeypatch.setenv(variable, proxy.origin)
    reach(here.url, here.url.replace("127.0.0.1", "localhost"))
    assert here.paths == ["/v1/models", "/v1/models"] and not proxy.paths


def test_an_endpoint_elsewhere_is_asked_through_the_proxy(
    listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, proxy = listeners
    monkeypatch.setenv("HTTP_PROXY", proxy.origin)
    reach(AWAY)
    assert proxy.paths == [f"{AWAY}/models"]


def test_a_proxy_that_cannot_be_used_is_one_line_with_its_variable_and_without_its_password(
    listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = listeners
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@proxy.example:1080")
    with pytest.raises(UserMistake) as mistake:
        reach(AWAY)
    line = "ALL_PROXY names a SOCKS proxy, which needs the package socksio: pip install socksio, or unset it"
    assert str(mistake.value) == line
    reach(here.url)
    monkeypatch.setenv("ALL_PROXY", "gopher://me:secret@proxy.example")
    with pytest.raises(UserMistake) as mistake:
        reach(AWAY)
    assert str(mistake.value).startswith("ALL_PROXY=gopher://…: this proxy cannot be used; ")


@given(st.one_of(st.ip_addresses(v=4, network="127.0.0.0/8"), st.sampled_from(["localhost", "LOCALHOST", "[::1]"])))
def test_every_name_of_this_machine_is_recognised(host: object) -> None:
    assert is_here(f"http://{host}:8000/v1") and is_here(f"https://{host}")


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost.example", "128.0.0.1", "[::2]", "models"])
def test_other_machines_are_not_taken_for_this_one(host: str) -> None:
    assert not is_here(f"http://{host}:8000/v1")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("key", "state"), [("sk-never-to-be-seen", "is set"), ("", "is not set"), (None, "is not set")]
)
def test_a_refused_key_names_its_variable_and_whether_it_is_set(
    listeners: tuple[Listener, Listener], status: int, key: str | None, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = listeners
    settings = EngineConfig(kind="endpoint", urls=(here.url,), retries=0, key_env="MY_KEY")
    monkeypatch.delenv("MY_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("MY_KEY", key)
    hint = f"its key is read from the variable MY_KEY (key_env of the engine), which {state} here"
    engine = asyncio.run(EndpointEngine.reach(NAME, settings))
    here.status = status
    with pytest.raises(ModelUnavailable, match="no endpoint can be used") as refused:
        asyncio.run(EndpointEngine.reach(NAME, settings))
    assert str(refused.value).endswith(hint) and "never-to-be-seen" not in str(refused.value)
    reply = asyncio.run(engine.generate(Request("answer", "What?", 8)))
    assert reply.detail and reply.detail.startswith(f"HTTP {status}: ") and reply.detail.endswith(hint)
    here.status = 400
    assert "MY_KEY" not in str(asyncio.run(engine.generate(Request("answer", "What?", 8))).detail)


def test_a_dead_endpoint_among_several_is_named_and_the_others_take_its_calls(
    listeners: tuple[Listener, Listener], capsys: pytest.CaptureFixture[str]
) -> None:
    here, other = listeners
    reach(here.url, other.url)
    assert capsys.readouterr().err == ""
    reach(here.url, DEAD)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("an endpoint cannot be used, and the others take its calls until it can: ") and DEAD in line
    with pytest.raises(ModelUnavailable, match="no endpoint can be used"):
        reach(DEAD)


def test_what_is_noted_in_a_worker_is_shown_to_the_user(
    ray_running: None, listeners: tuple[Listener, Listener], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    here, _ = listeners
    settings = EngineConfig(kind="endpoint", urls=(here.url, DEAD))
    run_in_actor(check_engine, (NAME, settings), settings, tmp_path)
    run_in_actor(check_engine, (NAME, settings), settings, tmp_path)
    assert capsys.readouterr().err.count(f"until it can: {DEAD}") == 1, "the second time it is known"
    leave_ray()
