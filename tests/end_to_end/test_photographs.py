"""Photographs, and the other files that a folder of them usually has, through the demo's pipeline.

The photographs are those shipped with scikit-image. The nano CLIP cannot tell what they show, so its tags are not
tested: only that every object has an outcome, with a reason, and that the sums are right.
"""

import shutil
from pathlib import Path

import pytest
import skimage
from PIL import Image

from synthgen.job.funnel import funnels
from synthgen.tables import LIST, TAG
from tests.fixtures.runs import opened, rows, synth
from tests.fixtures.workspace import ROOT

pytestmark = [
    pytest.mark.skipif(not (ROOT / "demo" / "models" / "nano-clip").is_dir(), reason="no nano models are here"),
    pytest.mark.usefixtures("workers_here"),
]


def fill(folder: Path) -> None:
    """Make a folder of photographs, unusual images, and files that are no images."""
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


def test_each_image_is_tagged_or_quarantined_with_a_reason_and_every_stage_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    fill(tmp_path / "photos")
    settings = ["generate.engine.kind=scripted", "generate.engine.options={}", "generate.model=none"]
    settings += ["score={}", "select.keep={}"]
    words = ["run", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--pipeline", "demo"]
    words += [word for setting in settings for word in ("--set", setting)]
    done = synth(*words)
    assert "on photographs their tags and answers mean nothing" in done.stderr

    out = tmp_path / "out"
    by_stage = {funnel.stage: funnel for funnel in funnels(opened(out))}
    assert len(by_stage) == 5 and all(funnel.is_settled for funnel in by_stage.values())
    assert by_stage["tag"].received == len(list((tmp_path / "photos").iterdir())) - 1
    images = rows(out, TAG, "images")
    names = {key: Path(row["uri"]).name for key, row in rows(out, LIST, "objects").items()}
    quarantined = {names[key]: row["reason"] for key, row in images.items() if row["outcome"] == "quarantined"}
    assert quarantined == {
        "a_text.jpg": "not_an_image", "empty.png": "not_an_image", "cut_off.jpg": "truncated",
        # Among the pictures shipped with scikit-image are three that no model should see.
        "multipage.tif": "too_small", "no_time_for_that_tiny.gif": "too_small", "multipage_rgb.tif": "unsupported",
    }  # fmt: skip
    sizes = sorted(
        (row["width"], row["height"])
        for row in images.values()
        if row["format"] == "JPEG" and row["outcome"] == "tagged"
    )
    upright = {(90 + turn, 60) for turn in range(1, 5)} | {(60, 90 + turn) for turn in range(5, 9)}
    assert upright <= set(sizes)
