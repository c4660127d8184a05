"""Real pictures, and what a folder of them usually also holds, through the demo's pipeline.

The pictures are those shipped with scikit-image. The nano CLIP knows nothing of them, so nothing is asked about what it says:
only that every object ends somewhere, with a reason, and that the sums are right.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import skimage
from PIL import Image

from synthgen.job import funnel
from synthgen.store import Folder, StageFolder
from synthgen.tables import IMAGES, OBJECTS, stage_at
from tests.fixtures.workspace import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "demo" / "models" / "nano-clip").is_dir(), reason="no nano models are here")


def fill(folder: Path) -> None:
    """Photographs, odd files that are images all the same, and files that are not."""
    folder.mkdir()
    shipped = Path(skimage.__file__).parent / "data"
    for path in sorted(shipped.iterdir()):
        if path.suffix.lower() in (".png", ".jpg", ".tif", ".gif"):
            shutil.copy(path, folder / path.name)
    picture = Image.open(
        shipped / "coffee.png" if (shipped / "coffee.png").exists() else next(shipped.glob("*.png"))
    ).convert("RGB")
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        picture.resize((90 + turn, 60)).save(folder / f"turned_{turn}.jpg", exif=exif)
    picture.resize((80, 60)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("I;16", (70, 50), 40000).save(folder / "deep.png")
    frames = [picture.resize((64, 64)).rotate(angle) for angle in (0, 90, 180)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    whole = folder / "whole.jpg"
    picture.save(whole)
    (folder / "cut_off.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "a_text.jpg").write_text("I am not an image.")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not listed: its suffix is not one of an image")


def rows_of(out: Folder, stage: str, table: str, schema: pa.Schema) -> list[dict[str, Any]]:
    folder = StageFolder(out, stage_at(stage))
    log = folder.log()
    return [row for name in log.partitions for row in folder.current(log, name, table, schema.names).to_pylist()]


def test_each_picture_is_tagged_or_quarantined_with_a_reason_and_every_stage_adds_up(tmp_path: Path) -> None:
    fill(tmp_path / "photos")
    settings = ["generate.engine.kind=scripted", "generate.engine.options={}", "generate.model=none", "select.keep={}"]
    words = ["run", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--pipeline", "demo"]
    words += [word for one in settings for word in ("--set", one)]
    done = subprocess.run(
        [sys.executable, "-m", "synthgen", *words], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "on photographs their tags and answers mean nothing" in done.stderr

    out = Folder(str(tmp_path / "out"))
    funnels = {one.stage: one for one in funnel.funnels(out)}
    assert all(one.to_do == 0 for one in funnels.values())
    assert funnels["tag"].came == len(list((tmp_path / "photos").iterdir())) - 1
    found = rows_of(out, "1-tagged", "images", IMAGES)
    listed = rows_of(out, "0-listed", "objects", OBJECTS)
    names = {row["object_id"]: Path(row["uri"]).name for row in listed}
    quarantined = {names[row["object_id"]]: row["reason"] for row in found if row["outcome"] == "quarantined"}
    assert quarantined == {
        "a_text.jpg": "not_an_image", "empty.png": "not_an_image", "cut_off.jpg": "truncated",
        # Among the pictures shipped with scikit-image are three that no model should see.
        "multipage.tif": "too_small", "no_time_for_that_tiny.gif": "too_small", "multipage_rgb.tif": "corrupt",
    }  # fmt: skip
    sizes = sorted(
        (row["width"], row["height"]) for row in found if row["format"] == "JPEG" and row["outcome"] == "tagged"
    )
    upright = {(90 + turn, 60) for turn in range(1, 5)} | {(60, 90 + turn) for turn in range(5, 9)}
    assert upright <= set(sizes)
