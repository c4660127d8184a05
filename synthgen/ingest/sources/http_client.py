"""A guarded HTTP client that fetches the images of a list of URLs, and nothing else.

The URLs of a list are strangers' data, and a machine in a data centre can reach what no stranger may: metadata
services, neighbours, itself. So every host must be among `source.hosts`, every address of its name must be public,
and the connection goes to an address that was checked, not to a name that could mean another one a moment later. A
connection that is kept alive stays at its address. A redirect is a new URL and is checked like one. Size and time are
bounded, whatever the server promises. Proxies of the environment are not used.
"""

import contextlib
import functools
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from synthgen.errors import one_line
from synthgen.ingest.rights import forbidding
from synthgen.store.remote import PermanentError

REDIRECTS = 4
CONNECT_SECONDS = 10.0  # for one address
FETCH_SECONDS = 60.0  # for one request, from its connection to the end of its response
KEPT_CONNECTIONS = 20
KEPT_SECONDS = 30.0  # for which an idle connection is kept
CHUNK = 2**16  # bytes of a response that are read only to keep its connection
PORTS = {"http": 80, "https": 443}
MOVED = (301, 302, 303, 307, 308)
GONE = (404, 410)
PLAIN = "%/?:@!$&'()*+,;=[]"  # besides letters and digits, the characters that a request may hold as they are
PASSING = (408, 425, 429)  # and 500 upwards: another attempt may succeed
HEADERS: dict[bytes | str, bytes | str] = {"User-Agent": "synthgen", "Accept": "image/*", "Accept-Encoding": "identity"}
NETWORK_ERRORS = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
# IPv6 networks that carry an IPv4 address inside, translated or tunnelled; its destination cannot be checked from here.
CARRIERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))

_deadline: ContextVar[float] = ContextVar("deadline")  # monotonic time at which the request of this thread ends
_opening = threading.Lock()


class UrlRefused(PermanentError):
    """A URL that is not fetched, and why."""


class Reserved(PermanentError):
    """The server says that no model may learn from it."""


class TooLarge(PermanentError):
    """More bytes than the limit."""


@dataclass(frozen=True)
class CheckedUrl:
    """A URL whose text is allowed; its addresses are checked on connecting."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        """The host as the allow-list spells it."""
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"


def fetch(url: str, hosts: Sequence[str], max_bytes: int, *, use_reserved: bool = False) -> bytes:
    """Return the bytes behind a URL, following redirects.

    Args:
        url: A URL of the list.
        hosts: The hosts that the user allows (`source.hosts`).
        max_bytes: The most bytes to read.
        use_reserved: Do not heed what the server says of such use.

    Raises:
        UrlRefused: The URL, an address of its host or a redirect is not allowed.
        Reserved: The server says that no model may learn from it.
        TooLarge: There are more than `max_bytes`.
        FileNotFoundError: There is nothing at that URL, or no longer.
        PermanentError: The server answers with another error that another attempt would meet again.
        OSError: The fetch failed; another attempt may succeed.
    """
    for _ in range(REDIRECTS + 1):
        target = check_url(url, hosts)
        with _request(target) as response:
            if response.status not in MOVED:
                if not use_reserved:
                    _check_reservation(response)
                return _read_body(response, max_bytes)
            location = _header(response, b"location") or b""
            _skip_body(response)
        url = urljoin(url, quote(location, PLAIN + "#"))
    raise UrlRefused(f"more than {REDIRECTS} redirects")


def check_url(url: str, hosts: Sequence[str]) -> CheckedUrl:
    """Return the parts of a URL that the user allows; raise UrlRefused for any other."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip(".").encode("idna").decode().lower(), parts.port
    except (ValueError, UnicodeError) as error:
        raise UrlRefused(f"is not a URL ({error})") from error
    if parts.scheme not in PORTS or not host:
        raise UrlRefused("only http:// and https:// URLs are fetched")
    if parts.username is not None or parts.password is not None:
        raise UrlRefused("holds a user name or password")
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    if any(c <= " " or c == "\x7f" for c in path):
        raise UrlRefused("holds blanks or control characters")
    target = CheckedUrl(parts.scheme, host, port or PORTS[parts.scheme], quote(path, PLAIN))
    if not any(_matches(target.name, pattern.lower()) for pattern in hosts):
        raise UrlRefused(f"{target.name} is not among source.hosts")
    return target


def is_public(address: str) -> bool:
    """Return whether an address belongs to the open internet: not to this machine, its network or its provider."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    is_tunnel = any(ip in network for network in CARRIERS)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not is_tunnel


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, all of them public; raise UrlRefused if one is not."""
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in addresses:
        if not is_public(address):
            raise UrlRefused(f"{host} is {address}, which is not a public address")
    return list(dict.fromkeys(addresses))


def _matches(name: str, pattern: str) -> bool:
    """Return whether a host matches: `example.org` is that host alone, `*.example.org` every host below it."""
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


class _GuardedBackend(httpcore.SyncBackend):
    """A network backend that connects to checked addresses only; the name serves the certificate alone."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers."""
        error: Exception = httpcore.ConnectError("the host has no address")
        for address in resolve(host, port):
            seconds = min(CONNECT_SECONDS, _seconds_left())
            try:
                return _BoundedStream(super().connect_tcp(address, port, seconds, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error


class _BoundedStream(httpcore.NetworkStream):
    """A stream that ends with the deadline of the request.

    httpcore bounds a single read only, and a server can send a byte now and then for ever.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _seconds_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _seconds_left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _BoundedStream(self._stream.start_tls(ssl_context, server_hostname, _seconds_left()))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds_left() -> float:
    """Return the seconds until the deadline of this thread's request, more than 0."""
    seconds = _deadline.get() - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout(f"no complete response within {FETCH_SECONDS:g} s")
    return seconds


def _connections() -> httpcore.ConnectionPool:
    """Return the connections of this process. They are kept alive, so a host costs few TLS handshakes."""
    with _opening:
        return _open_connections()


@functools.cache
def _open_connections() -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        ssl_context=ssl.create_default_context(),
        max_connections=None,  # one a reading thread at most
        max_keepalive_connections=KEPT_CONNECTIONS,
        keepalive_expiry=KEPT_SECONDS,
        network_backend=_GuardedBackend(),
    )


@contextlib.contextmanager
def _request(target: CheckedUrl) -> Iterator[httpcore.Response]:
    """Send a request; give its response with the body unread. Network errors, in the block too, become OSError."""
    _deadline.set(time.monotonic() + FETCH_SECONDS)
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    try:
        with _connections().stream("GET", url, headers={"Host": target.name, **HEADERS}) as response:
            yield response
    except NETWORK_ERRORS as error:
        raise OSError(one_line(error)) from error


def _check_reservation(response: httpcore.Response) -> None:
    """Raise Reserved for the headers that img2dataset obeys, and that of the TDM Reservation Protocol."""
    for name, value in response.headers:
        text = value.decode("latin-1")
        if name.lower() == b"x-robots-tag" and (word := forbidding(text)):
            raise Reserved(f"its server says X-Robots-Tag: {word}")
        if name.lower() == b"tdm-reservation" and text.strip() == "1":
            raise Reserved("its server says TDM-Reservation: 1")


def _read_body(response: httpcore.Response, max_bytes: int) -> bytes:
    if response.status != 200:
        _skip_body(response)
        message = f"HTTP {response.status}"
        if response.status in GONE:
            raise FileNotFoundError(message)
        raise OSError(message) if response.status in PASSING or response.status >= 500 else PermanentError(message)
    length = int(_header(response, b"content-length") or 0)
    if length > max_bytes:
        raise TooLarge(f"{length:,} bytes; the limit is {max_bytes:,}")
    data = bytearray()
    for chunk in response.iter_stream():
        data += chunk
        if len(data) > max_bytes:
            raise TooLarge(f"more than {max_bytes:,} bytes")
    return bytes(data)


def _skip_body(response: httpcore.Response) -> None:
    """Read a short body to its end, so that its connection can serve the next request."""
    size = 0
    with contextlib.suppress(*NETWORK_ERRORS):  # the connection is not kept then
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > CHUNK:
                return


def _header(response: httpcore.Response, name: bytes) -> bytes | None:
    return next((value for key, value in response.headers if key.lower() == name), None)
