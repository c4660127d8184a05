"""A file of URLs as a source: `urls:FILE`, one URL a line.

Comes in: config.Source. Goes out: an object for each line. No URL is opened here, so a listing costs nothing and says nothing of
sizes; what a URL gives today is its identity only by its bytes, which `generate` and `pack` verify. Empty lines and those
that begin with # are left out. A URL that carries a signature is a secret and would end up in the shards, so it is refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import UserMistake

PREFIX = "urls:"
VERSION = "url"  # nothing is known of it before it is fetched
SIGNED = re.compile(
    r"[?&](x-amz-signature|x-goog-signature|signature|sig|token|access_token|key|api_key)=", re.IGNORECASE
)


def is_list(source: SourceConfig) -> bool:
    """Whether the user asked for URLs."""
    return (source.uri or "").startswith(PREFIX)


def is_url(uri: str) -> bool:
    """Whether an object came from a list of URLs; no other source names one so."""
    return uri.startswith(("http://", "https://"))


def check(source: SourceConfig) -> Path:
    """The file of URLs; a UserMistake if it cannot be used."""
    path = Path((source.uri or "").removeprefix(PREFIX)).expanduser()
    if not path.is_file():
        raise UserMistake(f"{source.uri}: no such file; write {PREFIX}FILE, a text file with one URL a line")
    if not source.hosts:
        raise UserMistake(
            f"{source.uri}: source.hosts is empty; name the hosts that may be fetched from, as example.org or *.example.org"
        )
    return path


def urls(path: Path) -> Iterator[str]:
    """The URLs of a file."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            url = line.strip()
            if not url or url.startswith("#"):
                continue
            if not is_url(url):
                raise UserMistake(f"{path}:{number}: is not an http:// or https:// URL")
            if SIGNED.search(url):
                raise UserMistake(
                    f"{path}:{number}: the URL carries a signature or key, which would end up in the data; use s3:// or gs://"
                )
            yield url
