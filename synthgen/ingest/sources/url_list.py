"""A file of URLs as a source: `urls:FILE`, one URL a line.

A listing opens no URL, so it costs nothing and knows no sizes. A URL has no version either; `generate` and `pack`
verify its bytes against the image's id. Empty lines and lines that begin with # are skipped. A URL that carries a
signature is refused, because it is a secret and would end up in the shards.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import UserMistake

PREFIX = "urls:"
VERSION = "url"  # nothing is known of an object before it is fetched
SIGNED = re.compile(
    r"[?&](x-amz-signature|x-goog-signature|signature|sig|token|access_token|key|api_key)=", re.IGNORECASE
)


def is_list(source: SourceConfig) -> bool:
    """Return whether the source is a list of URLs."""
    return (source.uri or "").startswith(PREFIX)


def is_url(uri: str) -> bool:
    """Return whether an object comes from a list of URLs; no other source gives such a uri."""
    return uri.startswith(("http://", "https://"))


def check(source: SourceConfig) -> Path:
    """Return the file of URLs; raise UserMistake if it cannot be used."""
    path = Path((source.uri or "").removeprefix(PREFIX)).expanduser()
    if not path.is_file():
        raise UserMistake(f"{source.uri}: no such file; write {PREFIX}FILE, a text file with one URL a line")
    if not source.hosts:
        raise UserMistake(
            f"{source.uri}: source.hosts is empty; name the hosts that may be fetched from, "
            "as example.org or *.example.org"
        )
    return path


def read_urls(path: Path) -> Iterator[str]:
    """Yield the URLs of a file; raise UserMistake at a line that is no UTF-8 or no URL, or that holds a signature."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            url = _text(path, number, line).strip()
            if not url or url.startswith("#"):
                continue
            if not is_url(url):
                raise UserMistake(f"{path}:{number}: is not an http:// or https:// URL")
            if SIGNED.search(url):
                raise UserMistake(
                    f"{path}:{number}: the URL carries a signature or key, which would end up in the data; "
                    "use s3:// or gs://"
                )
            yield url


def _text(path: Path, number: int, line: bytes) -> str:
    """Return a line as text; a byte order mark is no part of the first one."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserMistake(f"{path}:{number}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
