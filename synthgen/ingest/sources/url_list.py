"""A file of URLs as a source: `urls:FILE`, one URL a line.

A listing opens no URL, so it costs nothing and knows no sizes. A URL has no version either; `generate` and `pack`
verify its bytes against the image's id. Empty lines and lines that begin with # are skipped. A URL that carries a
signature is refused, because it is a secret and would end up in the shards.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import http_client
from synthgen.ingest.sources.objects import Listed, ObjectRef, ReadTask, one_by_one

SCHEME = "urls"
SCHEMES_OF_URLS = ("http", "https")
VERSION = "url"  # nothing is known of an object before it is fetched
SIGNED = re.compile(
    r"[?&](x-amz-signature|x-goog-signature|signature|sig|token|access_token|key|api_key)=", re.IGNORECASE
)


def list_urls(source: SourceConfig) -> Iterator[Listed]:
    """Return all URLs of the list; raise UserMistake at once if it cannot be used."""
    return (Listed(url, VERSION) for url in _read_urls(_check(source)))


def url_tasks(refs: Sequence[ObjectRef], source: SourceConfig, max_bytes: int) -> Iterator[ReadTask]:
    """Yield a task for each URL; only the hosts of today's source are fetched from."""
    return one_by_one(partial(_fetch, source.hosts))(refs, source, max_bytes)


def _fetch(hosts: Sequence[str], ref: ObjectRef, max_bytes: int) -> bytes | Failure:
    try:
        return http_client.fetch(ref.uri, hosts, max_bytes)
    except http_client.UrlRefused as error:
        return Failure("url_refused", str(error))
    except http_client.TooLarge as error:
        return Failure("too_many_bytes", str(error))


def _check(source: SourceConfig) -> Path:
    """Return the file of URLs; raise UserMistake if it cannot be used."""
    path = Path((source.uri or "").removeprefix(f"{SCHEME}:")).expanduser()
    if not path.is_file():
        raise UserMistake(f"{source.uri}: no such file; write {SCHEME}:FILE, a text file with one URL a line")
    if not source.hosts:
        raise UserMistake(
            f"{source.uri}: source.hosts is empty; name the hosts that may be fetched from, "
            "as example.org or *.example.org"
        )
    return path


def _read_urls(path: Path) -> Iterator[str]:
    """Yield the URLs of a file; raise UserMistake at a line that is none, or that holds a signature."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            url = line.strip()
            if not url or url.startswith("#"):
                continue
            if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES_OF_URLS)):
                raise UserMistake(f"{path}:{number}: is not an http:// or https:// URL")
            if SIGNED.search(url):
                raise UserMistake(
                    f"{path}:{number}: the URL carries a signature or key, which would end up in the data; "
                    "use s3:// or gs://"
                )
            yield url
