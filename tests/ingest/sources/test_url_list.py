"""A file of URLs, in the encodings that editors write."""

from pathlib import Path

import pytest

from synthgen.errors import UserMistake
from synthgen.ingest.sources.url_list import read_urls


def test_a_byte_order_mark_is_no_part_of_the_first_url(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_bytes("https://example.org/é.jpg\r\n# a note\r\n".encode("utf-8-sig"))
    assert list(read_urls(path)) == ["https://example.org/é.jpg"]


def test_a_line_that_is_not_utf8_is_a_mistake_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_bytes(b"https://example.org/a.jpg\nhttps://example.org/\xe9.jpg\n")
    with pytest.raises(UserMistake, match=r"urls\.txt:2: is not UTF-8 text"):
        list(read_urls(path))
