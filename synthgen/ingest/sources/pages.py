"""The pages of PDF files as objects of a listing.

Where `.pdf` is among the suffixes of a source, each page of such a file is an object, `report.pdf#page=2`, with what
came along with the file. A file whose pages cannot be counted, or that has more than `source.max_pages`, is one object;
reading it says why, and a warning names it.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, UserMistake, one_line
from synthgen.ingest.images import plugins
from synthgen.ingest.images.page_counter import PageCounter
from synthgen.ingest.sources.location import PDF, member_version, open_versioned, page_uri, scheme_of
from synthgen.ingest.sources.objects import Item, Listed
from synthgen.ingest.sources.url_list import SCHEMES_OF_URLS
from synthgen.store.remote import PERMANENT, error_text, with_retries

BLOCK = 2**16  # bytes of a request to a store: the table of a file's parts is at its end, and small
log = logging.getLogger(__name__)


def with_pages(items: Iterable[Item], fs: Any, source: SourceConfig) -> Iterator[Item]:
    """Yield the items, the pages of a PDF in place of the file.

    Args:
        items: Of a listing of files.
        fs: The filesystem of stored ones; None for local files.
        source: The suffixes and the most pages.

    Raises:
        UserMistake: The package that counts pages is missing.
    """
    if PDF not in (suffix.lower() for suffix in source.suffixes):
        yield from items
        return
    with PageCounter() as counter:
        for item in items:
            if isinstance(item, Listed) and _is_document(item):
                yield from _pages(item, counter, fs, source.max_pages)
            else:
                yield item


def _is_document(item: Listed) -> bool:
    is_url = scheme_of(item.uri) in SCHEMES_OF_URLS  # listing opens none
    return item.row is None and not is_url and item.uri.lower().endswith(PDF)


def _pages(file: Listed, counter: PageCounter, fs: Any, most: int) -> Iterator[Listed]:
    if not plugins.has_package("PDF"):
        raise UserMistake(
            f"source.suffixes names {PDF}, and pages are counted with a package that is not installed: "
            f"pip install {plugins.PACKAGES['PDF']}"
        )
    count = _count(file.uri, counter, fs)
    if isinstance(count, Failure):
        log.warning("%s: its pages cannot be counted (%s); it is one object", file.uri, count)
    elif count > most:
        most_pages = f"has {count:,} pages, more than source.max_pages ({most:,})"
        log.warning("%s: %s; it is one object", file.uri, most_pages)
    else:
        for number in range(1, count + 1):
            yield replace(file, uri=page_uri(file.uri, number), version=member_version(file.version, number))
        return
    yield file


def _count(uri: str, counter: PageCounter, fs: Any) -> int | Failure:
    """Return the pages of a file; one that cannot be opened has none, and reading it says so."""

    def count() -> int | Failure:
        with open_versioned(uri, fs, BLOCK) as (raw, _):
            return counter.count(raw, raw.seek(0, os.SEEK_END))

    try:
        return with_retries(count)
    except PERMANENT as error:
        return Failure("unreadable", one_line(error_text(error)))
