"""Lists of URLs: which lines are URLs, and what the others cost."""

from pathlib import Path

import pytest

from synthgen.config.source import SourceConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import list_objects


def urls_of(path: Path, text: bytes) -> list[str]:
    path.write_bytes(text)
    return [listed.uri for listed in list_objects(SourceConfig(uri=f"urls:{path}", hosts=("a.org",)))]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (b"\xef\xbb\xbfhttps://a.org/x.jpg\n", "https://a.org/x.jpg"),
        (b"HTTPS://a.org/X.jpg\r\n", "https://a.org/X.jpg"),
        (b"https://a.org/img?key=cat.jpg", "https://a.org/img?key=cat.jpg"),
        (b"https://a.org/img?token=&size=3", "https://a.org/img?token=&size=3"),
        ("https://a.org/é.jpg".encode(), "https://a.org/é.jpg"),
    ],
)
def test_harmless_lines_of_a_list_are_urls(tmp_path: Path, text: bytes, url: str) -> None:
    assert urls_of(tmp_path / "list.txt", text) == [url]


def test_a_line_that_is_no_url_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = b"nan\n/relative.jpg\ndata:image/png;base64,AA\nhttps://a.org/x?api_key=0123456789abcdef0123\n" + b"-\n" * 9
    assert len(urls_of(tmp_path / "list.txt", b"https://a.org/x.jpg\n" * 997 + odd)) == 997
    assert [record.getMessage().partition("list.txt: ")[2] for record in caplog.records] == [
        "left out line 998, 999, 1000, 1002, 1003 and 7 more: is not an http:// or https:// URL",
        "left out line 1001: carries a signature or key, which would end up in the data; use s3:// or gs://",
    ]


def test_a_line_that_is_not_utf_8_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert urls_of(tmp_path / "list.txt", b"https://a.org/\xe9.jpg\nhttps://a.org/e.jpg") == ["https://a.org/e.jpg"]
    assert "left out line 1: is not UTF-8 text" in caplog.text
    with pytest.raises(UserMistake, match=r"list\.txt:1: is not UTF-8 text"):
        urls_of(tmp_path / "list.txt", b"https://a.org/\xe9.jpg\n")
