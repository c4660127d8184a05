"""An S3 server on this machine, behind a proxy that breaks some of the requests.

Of the requests, some are answered with 500 without reaching the store, some late, some have their connection cut before
or after the store did what they ask (so that a client cannot know), and of some answers only the first half arrives.
The server is moto, which has conditional puts, as S3 has.
"""

import http.client
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer

SHARES = {"500": 0.02, "slow": 0.03, "reset": 0.01, "lost_reply": 0.01, "cut": 0.01}  # of requests
SLOW_SECONDS = 1.0
ERROR = b"<Error><Code>InternalError</Code><Message>broken on purpose</Message></Error>"
HOP_BY_HOP = ("connection", "transfer-encoding", "content-length")


class _Proxy(ThreadingHTTPServer):
    """A server that is silent about clients killed in the middle of a request."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


class FaultyStore:
    """The server and the proxy; both end with this process."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        self._upstream = server.get_host_and_port()
        self._rng: random.Random | None = None
        self._lock = threading.Lock()
        self.faults: Counter[str] = Counter()
        proxy = _Proxy(("127.0.0.1", 0), self._handler())
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        self._url = f"http://127.0.0.1:{proxy.server_address[1]}"
        for bucket in ("photos", "out"):
            self._client().create_bucket(Bucket=bucket)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that send S3 clients to the proxy."""
        variables = {
            "ACCESS_KEY_ID": "soak",
            "SECRET_ACCESS_KEY": "soak",
            "DEFAULT_REGION": "us-east-1",
            "ENDPOINT_URL": self._url,
        }
        return {f"AWS_{name}": value for name, value in variables.items()}

    def put(self, bucket: str, files: Iterable[Path]) -> None:
        """Upload files, past the proxy."""
        client = self._client()
        for path in files:
            client.put_object(Bucket=bucket, Key=path.name, Body=path.read_bytes())

    def start_faults(self, seed: int) -> None:
        """Break some of the requests from now on."""
        self._rng = random.Random(seed)

    def draw_fault(self) -> str | None:
        """Return how the next request is broken, a key of SHARES, or None."""
        if self._rng is None:
            return None
        with self._lock:
            number = self._rng.random()
            for name, share in SHARES.items():
                number -= share
                if number < 0:
                    self.faults[name] += 1
                    return name
        return None

    def forward(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the store's status, headers and body."""
        connection = http.client.HTTPConnection(*self._upstream)
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def _client(self) -> Any:
        host, port = self._upstream
        keys = {"aws_access_key_id": "soak", "aws_secret_access_key": "soak", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                _serve(store, self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Handler


def _serve(store: FaultyStore, request: BaseHTTPRequestHandler) -> None:
    body = _body(request)
    fault = store.draw_fault()
    if fault == "500":
        _answer(request, 500, [], ERROR)
        return
    if fault == "slow":
        time.sleep(SLOW_SECONDS)
    if fault != "reset":
        status, headers, data = store.forward(request.command, request.path, dict(request.headers), body)
        if fault != "lost_reply":
            _answer(request, status, headers, data, is_cut=fault == "cut")
    if fault in ("reset", "lost_reply", "cut"):
        request.close_connection = True


def _body(request: BaseHTTPRequestHandler) -> bytes:
    """Return the request's body, and make its headers fit: clients also send uploads in chunks."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        del request.headers["Expect"]
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    parts = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    del request.headers["Transfer-Encoding"]
    return b"".join(parts)


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes, is_cut: bool = False
) -> None:
    request.send_response(status)
    length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
    for name, value in headers:
        if name.lower() not in HOP_BY_HOP:
            request.send_header(name, value)
    request.send_header("Content-Length", length)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body[: len(body) // 2] if is_cut else body)
