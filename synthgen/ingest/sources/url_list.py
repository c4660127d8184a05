"""A file of URLs as a source: `urls:FILE`, one URL a line.

A listing opens no URL, so it costs nothing and knows no sizes. A URL has no version either; `generate` and `pack`
verify its bytes against the image's id. Empty lines and lines that begin with # are skipped. A line that is no URL is
left out, and a warning names it. So is a URL that carries a signature or key, because that is a secret and would end up
in the shards.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import http_client
from synthgen.ingest.sources.objects import Item, LeftOut, Listed, ObjectRef, ReadTask, one_by_one
from synthgen.store.patterns import expand_home

SCHEME = "urls"
SCHEMES_OF_URLS = ("http", "https")
VERSION = "url"  # nothing is known of an object before it is fetched
SIGNATURE = re.compile(r"[?&](x-amz-signature|x-goog-signature|signature|sig)=[^&]", re.IGNORECASE)
# A word such as `?key=cat.jpg` names a picture; a secret is long and has digits.
SECRET = re.compile(r"[?&](token|access_token|key|api_key)=(?=[^&]*\d)[\w.~+/=%-]{16,}", re.IGNORECASE)
BOM = b"\xef\xbb\xbf"
NAMED_LINES = 5  # of those that are left out, in the warning
log = logging.getLogger(__name__)


def list_urls(source: SourceConfig) -> Iterator[Item]:
    """Return all URLs of the list; raise UserMistake at once if it cannot be used."""
    return _read_urls(_check(source))


def url_tasks(refs: Sequence[ObjectRef], source: SourceConfig, max_bytes: int) -> Iterator[ReadTask]:
    """Yield a task for each URL; only the hosts of today's source are fetched from."""
    return one_by_one(partial(_fetch, source))(refs, source, max_bytes)


def _fetch(source: SourceConfig, ref: ObjectRef, max_bytes: int) -> bytes | Failure:
    try:
        return http_client.fetch(ref.uri, source.hosts, max_bytes, use_reserved=source.use_reserved)
    except http_client.Reserved as error:
        return Failure("reserved", str(error))
    except http_client.UrlRefused as error:
        return Failure("url_refused", str(error))
    except http_client.TooLarge as error:
        return Failure("too_many_bytes", str(error))


def _check(source: SourceConfig) -> Path:
    """Return the file of URLs; raise UserMistake if it cannot be used."""
    path = expand_home((source.uri or "").removeprefix(f"{SCHEME}:"))
    if not path.is_file():
        raise UserMistake(f"{source.uri}: no such file; write {SCHEME}:FILE, a text file with one URL a line")
    if not source.hosts:
        raise UserMistake(
            f"{source.uri}: source.hosts is empty; name the hosts that may be fetched from, "
            "as example.org or *.example.org"
        )
    return path


def _read_urls(path: Path) -> Iterator[Item]:
    """Yield the URLs of a file, the scheme of each in small letters, and the lines that are left out.

    Raises:
        UserMistake: No line of it is a URL.
    """
    left_out: dict[str, list[int]] = {}
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            url = line.removeprefix(BOM if number == 1 else b"").strip()
            if not url or url.startswith(b"#"):
                continue
            if fault := url_fault(url):
                left_out.setdefault(fault, []).append(number)
                yield LeftOut("line without a URL that may be kept")
                continue
            count += 1
            scheme, _, rest = url.decode().partition(":")
            yield Listed(f"{scheme.lower()}:{rest}", VERSION)
    for fault, numbers in left_out.items():
        if not count:
            raise UserMistake(f"{path}:{numbers[0]}: {fault}; no other line is a URL that can be fetched")
        log.warning("%s", _left_out(path, fault, numbers))


def url_fault(line: bytes) -> str | None:
    """Return why a URL is left out of a listing, or None."""
    try:
        url = line.decode()
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    if url.partition("://")[0].lower() not in SCHEMES_OF_URLS:
        return "is not an http:// or https:// URL"
    if SIGNATURE.search(url) or SECRET.search(url):
        return "carries a signature or key, which would end up in the data; use s3:// or gs://"
    return None


def _left_out(path: Path, fault: str, numbers: Sequence[int]) -> str:
    lines = ", ".join(map(str, numbers[:NAMED_LINES]))
    more = f" and {len(numbers) - NAMED_LINES:,} more" if len(numbers) > NAMED_LINES else ""
    return f"{path}: left out line {lines}{more}: {fault}"
