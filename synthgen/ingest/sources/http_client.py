"""Images behind URLs, for a list of URLs that the user gave and for nothing else.

Comes in: a URL of the list and the hosts that the user allows (`source.hosts`). Goes out: bytes, or `Refused`. A list of URLs is
strangers' data, and a machine in a data centre can reach what no stranger may: metadata services, neighbours, itself. So
every host must be on the allow-list, every address that its name has must be public, and the connection goes to an address
that was checked and not to a name that could mean another one a moment later. A redirect is a new URL and is checked like
one. Size and time are bounded, whatever the server promises. Proxies of the environment are not used.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from synthgen.store.remote import Lasting

REDIRECTS = 4
CONNECT_SECONDS = 10.0
FETCH_SECONDS = 60.0  # for one request, its answer read to the end
CHUNK = 2**16
PORTS = {"http": 80, "https": 443}
MOVED = (301, 302, 303, 307, 308)
PLAIN = "%/?:@!$&'()*+,;=[]"  # beside letters and digits, what may stand in a request as it is
PASSING = (408, 425, 429)  # and everything from 500 on: another try may do better
# IPv6 that carries an IPv4 address inside: translated, tunnelled; where it ends is not ours to know.
CARRIERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


class UrlRefused(Lasting):
    """A URL that is not fetched, and why."""


class TooLarge(Lasting):
    """More bytes than the limit."""


@dataclass(frozen=True)
class CheckedUrl:
    """A URL that may be fetched, as far as its text tells."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        """The host as the allow-list spells it."""
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"


def fetch(url: str, hosts: Sequence[str], max_bytes: int) -> bytes:
    """The bytes behind a URL; Refused, TooLarge, another Lasting, or an OSError that may pass."""
    for _ in range(REDIRECTS + 1):
        target = checked(url, hosts)
        with _answer(target) as answer:
            if answer.status not in MOVED:
                return _body(answer, max_bytes)
            # Headers are read as Latin-1, a letter a byte: whatever a server means by its bytes, they go back to it as they came.
            url = urljoin(url, quote(answer.getheader("Location") or "", PLAIN + "#", "latin-1"))
    raise UrlRefused(f"more than {REDIRECTS} redirects")


def checked(url: str, hosts: Sequence[str]) -> CheckedUrl:
    """The parts of a URL, if it is one that the user allows; Refused if not."""
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
    """Whether an address is one of the open internet's: not of this machine, its network, its provider or nobody's."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    return (
        ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in network for network in CARRIERS)
    )


def _matches(name: str, pattern: str) -> bool:
    """`example.org` is that host alone, `*.example.org` every one below it."""
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def addresses(target: CheckedUrl) -> list[str]:
    """The addresses of a host, all of which are public; Refused if one is not."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)]
    for address in found:
        if not is_public(address):
            raise UrlRefused(f"{target.host} is {address}, which is not a public address")
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def _answer(target: CheckedUrl) -> Iterator[http.client.HTTPResponse]:
    """The server's answer, its body not read; a timer cuts the line, because a server can send a byte now and then for ever."""
    line = _line(target)
    timer = threading.Timer(FETCH_SECONDS, _cut, (line,))
    timer.daemon = True
    timer.start()
    try:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=FETCH_SECONDS)
        connection.sock = line
        headers = {
            "Host": target.name,
            "User-Agent": "synthgen",
            "Accept": "image/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        connection.request("GET", target.path, headers=headers)
        yield connection.getresponse()
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        timer.cancel()
        line.close()


def _line(target: CheckedUrl) -> socket.socket:
    """A connection to a checked address; the name serves for the certificate alone."""
    error: OSError = OSError("the host has no address")
    for address in addresses(target):
        try:
            line = socket.create_connection((address, target.port), CONNECT_SECONDS)
        except OSError as failed:
            error = failed
            continue
        line.settimeout(FETCH_SECONDS)
        if target.scheme == "http":
            return line
        try:
            return ssl.create_default_context().wrap_socket(line, server_hostname=target.host)
        except BaseException:
            line.close()
            raise
    raise error


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _body(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if answer.status != 200:
        told = f"HTTP {answer.status}"
        raise OSError(told) if answer.status in PASSING or answer.status >= 500 else Lasting(told)
    length = answer.length
    if length is not None and length > max_bytes:
        raise TooLarge(f"{length:,} bytes; the limit is {max_bytes:,}")
    data = bytearray()
    while chunk := answer.read1(CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise TooLarge(f"more than {max_bytes:,} bytes")
    if length is not None and len(data) != length:
        raise OSError(f"the answer ended after {len(data):,} of {length:,} bytes")
    return bytes(data)
