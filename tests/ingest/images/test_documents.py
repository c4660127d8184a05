"""Pages of PDF files: the right picture of the right page, and what a hostile file costs."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from synthgen.config.packing import PackConfig
from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure, SynthError
from synthgen.ingest.images import Decoded, DecoderPool, decode, plugins
from synthgen.ingest.images.documents import page_file
from synthgen.ingest.images.page_counter import PageCounter
from synthgen.stages.pack.metadata import make_image_file
from synthgen.tables import image_id
from tests.fixtures.images import drawn, encoded, reason_of
from tests.fixtures.pdfs import laughs, locked, pdf

LIMITS = ImagesConfig(formats=("PDF",), max_pixels=4_000_000, decode_seconds=2)
GREEN = "0 1 0 rg 0 0 60 20 re f"
MATPLOTLIB = Path(matplotlib.get_data_path()) / "images"  # files that another program wrote
needs_pdf = pytest.mark.skipif(not plugins.has_package("PDF"), reason="pypdfium2 is not installed")
pytestmark = needs_pdf


def count(data: bytes, counter: PageCounter | None = None) -> int | Failure:
    with counter or PageCounter() as own:
        return own.count(io.BytesIO(data), len(data))


def test_a_page_is_drawn_upright_in_its_colours_at_its_size() -> None:
    decoded = decode(page_file(pdf(), 1), LIMITS)
    assert (decoded.format, decoded.width, decoded.height) == ("PDF", 120, 40)
    expected = drawn().resize((120, 40), Image.Resampling.NEAREST)
    assert float(np.abs(np.asarray(decoded.image, np.int16) - np.asarray(expected, np.int16)).mean()) < 4


def test_each_page_is_an_image_of_its_own_and_that_of_a_copy_of_the_file_the_same() -> None:
    file = pdf([GREEN, "", GREEN])
    pages = [decode(page_file(file, number), LIMITS).image for number in (1, 2, 3)]
    assert [page.getpixel((60, 20)) for page in pages] == [(0, 255, 0), (255, 255, 255), (0, 255, 0)]
    ids = [image_id(page_file(file, number)) for number in (1, 2, 3)]
    assert len(set(ids)) == 3 and ids[1] == image_id(page_file(bytes(file), 2))


def test_a_pdf_of_one_page_needs_no_number_and_one_of_several_says_so() -> None:
    assert decode(pdf(), LIMITS).width == 120
    with pytest.raises(Exception, match=r"too_many_frames: a PDF of 2 pages, which are not images one by one"):
        decode(pdf(["", ""]), LIMITS)


@pytest.mark.parametrize("path", sorted(MATPLOTLIB.glob("*.pdf")), ids=lambda path: path.name)
def test_files_of_another_program_are_drawn(path: Path) -> None:
    decoded = decode(page_file(path.read_bytes(), 1), LIMITS)
    assert decoded.width == decoded.height >= 144
    assert len(decoded.image.convert("L").getcolors() or ()) > 10, "an icon with soft edges"


def test_a_scan_that_pillow_wrote_keeps_its_pixels() -> None:
    scan = encoded(drawn(size=(120, 80)), "PDF", resolution=144)
    decoded = decode(page_file(scan, 1), LIMITS)
    assert decoded.image.size == (120, 80)
    assert float(np.abs(np.asarray(decoded.image, np.int16) - np.asarray(drawn(size=(120, 80)), np.int16)).mean()) < 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (page_file(pdf(), 2), "corrupt"),
        (page_file(pdf(count=1_000_000), 7), "corrupt"),
        (page_file(pdf(size=(9000, 9000)), 1), "too_many_pixels"),
        (page_file(pdf(size=(10**7, 10)), 1), "too_many_pixels"),
        (page_file(pdf(size=(4, 4)), 1), "too_small"),
        (page_file(pdf(size=(2000, 9)), 1), "too_elongated"),
        (page_file(pdf()[:300], 1), "truncated"),
        (page_file(b"%PDF-1.7\n%%EOF", 1), "corrupt"),
        (page_file(locked(), 1), "unsupported"),
        (pdf(count=1_000_000), "too_many_frames"),
    ],
)
def test_a_page_that_cannot_be_drawn_is_refused_by_name(data: bytes, reason: str) -> None:
    assert reason_of(data, LIMITS) == reason


def test_a_pdf_bomb_costs_its_page_and_the_others_are_drawn() -> None:
    limits = LIMITS.model_copy(update={"max_bytes": 2**21, "max_pixels": 400_000, "decode_seconds": 1.0})
    unpacks = pdf([" " * 120_000_000])  # of nothing in 120 kB; a child may take less memory
    files = {
        "fine": page_file(pdf(), 1),
        "laughs": page_file(laughs(), 1),
        "unpacks": page_file(unpacks, 1),
        "again": page_file(pdf(), 1),
    }
    with DecoderPool[str](limits, processes=1) as pool:
        results = dict(pool.decode_many(files.items()))
    assert isinstance(results["fine"], Decoded) and isinstance(results["again"], Decoded)
    lost = results["laughs"]
    assert isinstance(lost, Failure) and lost.reason in ("decode_timeout", "decoder_died")
    unpacked = results["unpacks"]
    assert isinstance(unpacked, Failure) and unpacked.reason in ("corrupt", "decoder_died", "decode_timeout")


def test_a_sample_holds_a_page_as_png_that_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2

    opened, real = [], pypdfium2.PdfDocument

    def opening(file: bytes) -> Any:
        opened.append(len(file))
        return real(file)

    monkeypatch.setattr(pypdfium2, "PdfDocument", opening)
    file = make_image_file(page_file(pdf(), 1), LIMITS, PackConfig())
    assert (file.suffix, file.width, file.height, file.data[:4]) == (".png", 120, 40, b"\x89PNG")
    assert len(opened) == 1
    small = LIMITS.model_copy(update={"model_pixels": 1200})
    assert make_image_file(page_file(pdf(), 1), small, PackConfig(images="resized")).width == 60


# --- counting ---------------------------------------------------------------------------------------------------------


class Counted(io.BytesIO):
    """A file that counts the bytes that are read of it."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


def test_pages_are_counted_from_a_few_pieces_of_a_large_file() -> None:
    data = pdf([""] * 12, padding=8_000_000)
    raw = Counted(data)
    with PageCounter() as counter:
        assert counter.count(raw, len(data)) == 12
        assert raw.total < 300_000
        assert counter.count(io.BytesIO(pdf()), len(pdf())) == 1, "the child serves the next file too"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pdf(count=1_000_000), 1_000_000),  # by its own account; the listing has a limit
        (locked(), "unsupported"),
        (b"%PDF-1.7\nnothing", "corrupt"),
        (b"", "corrupt"),
    ],
)
def test_what_cannot_be_counted_says_why(data: bytes, expected: int | str) -> None:
    found = count(data)
    assert (found.reason if isinstance(found, Failure) else found) == expected


def test_a_file_that_kills_or_stalls_the_counter_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying.py").write_text("import os\nos.write(1, b'{}\\n')\nos.read(0, 8)\nos.abort()\n")
    turning = "import signal\nsignal.setitimer(signal.ITIMER_PROF, 0.2)\nwhile True:\n    pass\n"
    (tmp_path / "turning.py").write_text(f"import os\nos.write(1, b'{{}}\\n')\nos.read(0, 8)\n{turning}")
    asking = "while True:\n    os.write(1, b'{\"read\": [0, 65536]}\\n')\n    os.read(0, 65536)\n"
    (tmp_path / "asking.py").write_text(f"import os\nos.write(1, b'{{}}\\n')\nos.read(0, 8)\n{asking}")
    monkeypatch.syspath_prepend(tmp_path)
    for module, reason in (("dying", "decoder_died"), ("turning", "decode_timeout"), ("asking", "corrupt")):
        found = count(bytes(65536), PageCounter(module))
        assert isinstance(found, Failure) and found.reason == reason, module


def test_a_counter_that_does_not_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no such library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SynthError, match="counts the pages of PDF files does not start: no such library"):
        count(pdf(), PageCounter("broken"))


@pytest.fixture
def failing() -> Iterator[io.BytesIO]:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("the store is away")

    with Failing(pdf()) as raw:
        yield raw


def test_a_store_that_fails_is_no_fault_of_the_file(failing: io.BytesIO) -> None:
    with PageCounter() as counter:
        with pytest.raises(OSError, match="the store is away"):
            counter.count(failing, len(pdf()))
        assert counter.count(io.BytesIO(pdf()), len(pdf())) == 1
