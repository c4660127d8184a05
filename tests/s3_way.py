"""An S3 server over real HTTP with a way to it that can fail, and output folders on disk and in its bucket, as fixtures."""

import http.client
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from synthgen.store import Folder
from synthgen.store import folder as folders


class Way(ThreadingHTTPServer):
    """An HTTP proxy before the S3 server; `spoil(request)` may do something to a request and say what."""

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.server = server
        self.spoil: Callable[[BaseHTTPRequestHandler], str | None] = lambda request: None


class Forward(BaseHTTPRequestHandler):
    """Sends a request on; then what `spoil` says: "lose" the reply, answer "conflict" in its place, "strip" the condition."""

    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        way = self.server
        assert isinstance(way, Way)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        spoiled = way.spoil(self)
        if spoiled == "conflict":
            self.reply(409, b"<Error><Code>ConditionalRequestConflict</Code><Message>at once</Message></Error>", [])
            return
        headers = {name: value for name, value in self.headers.items() if not (spoiled == "strip" and name.lower() == "if-none-match")}
        connection = http.client.HTTPConnection(*way.server)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if spoiled == "lose":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        # The length that a HEAD is answered is that of what a GET would bring.
        dropped = ("transfer-encoding", "connection", "date", "server", *(() if self.command == "HEAD" else ("content-length",)))
        self.reply(answer.status, data, [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped])

    def reply(self, status: int, data: bytes, headers: Sequence[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    """An S3 server with a bucket, as AWS_ENDPOINT_URL names it, and the way to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()  # what an earlier server of this process held
    proxy = Way((host, port))
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    environment = pytest.MonkeyPatch()
    environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    store = fsspec.get_filesystem_class("s3")
    store.clear_instance_cache()  # another file's server, in the same process, had another port
    fsspec.filesystem("s3", use_listings_cache=False).mkdir("bucket")
    yield proxy
    store.clear_instance_cache()
    environment.undo()
    proxy.shutdown()
    proxy.server_close()
    server.stop()


@pytest.fixture
def s3(way: Way, request: pytest.FixtureRequest) -> Iterator[Folder]:
    way.spoil = lambda request: None
    folders._HAS_CONDITION.clear()
    yield Folder(f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}")
    folders._HAS_CONDITION.clear()


@pytest.fixture(params=["local", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An output folder, once on disk and once in a bucket."""
    folder: Folder = Folder(str(tmp_path / "out")) if request.param == "local" else request.getfixturevalue("s3")
    return folder
