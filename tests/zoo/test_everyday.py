"""The whole `everyday` pipeline with each family, on photographs and documents of every form, and back from training.

With random weights the replies are junk, so most rows fail for named reasons: what is checked is that every row has an
outcome, and that no stage ends.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import skimage
from PIL import Image, ImageDraw

from synthgen.job.funnel import funnels
from synthgen.stages.generate.measures import SCORERS
from synthgen.tables import GENERATE, PLAN
from tests.fixtures.runs import opened, rows
from tests.fixtures.workspace import ROOT
from tests.zoo.checkpoints import FAMILIES, checkpoint
from tests.zoo.conftest import EVERY, NOT_SERVED, families_with_engine
from tests.zoo.interview import ENVIRONMENT, GPUS, OPTIONS
from tests.zoo.test_training import three_steps

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine
SECONDS = 850  # for one command
OUTCOME = re.compile(r"likelihood|failed: [a-z_]+")  # of a question in a preview
ALL = bool(os.environ.get(EVERY))
FEW = ("qwen2.5-vl",)
# File, size and tags of what is no photograph; the photographs come with scikit-image.
DRAWN = {
    "invoice.png": ((620, 877), ["invoice"]),
    "icon.png": ((32, 32), ["bar_chart"]),
    "poster.png": ((4000, 3000), ["street_graffiti"]),
    "slip.png": ((100, 2000), ["receipt"]),
}
PHOTOGRAPHS = {"astronaut.png": ["headshot"], "coffee.png": []}


def fill(folder: Path) -> Path:
    """Make a folder of images with their tags beside them."""
    folder.mkdir()
    for name, (size, tags) in DRAWN.items():
        image = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(image)
        for line in range(4, size[1], max(6, size[1] // 30)):
            draw.line((4, line, size[0] - 5 - line % max(1, size[0] // 2), line), fill=(line % 200, 20, 90), width=2)
        image.save(folder / name)
        (folder / f"{Path(name).stem}.json").write_text(json.dumps({"tags": tags}))
    for name, tags in PHOTOGRAPHS.items():
        Image.open(Path(skimage.__file__).parent / "data" / name).save(folder / name)
        (folder / f"{Path(name).stem}.json").write_text(json.dumps({"tags": tags}))
    return folder


def settings(family: str, model: Path | None = None) -> list[str]:
    """Return the words that put a checkpoint on the CPU into the everyday pipeline."""
    options = {**OPTIONS, **FAMILIES[family].options}
    changes = {
        "source.sidecar": ".json",
        "tag.tagger": "everyday-sidecar",
        "plan.per_image": 2,
        "generate.engine": {"kind": "vllm", "gpus": GPUS, "options": options, "environment": ENVIRONMENT},
        "generate.scores": sorted(SCORERS),
        "generate.gate": {},  # random weights hold back whatever they like
        "generate.sampling.answer_temperature": 1.0,  # without chance random weights say one token for ever
        "select.keep": {},
    }
    words = ["--pipeline", "everyday", "--model", str(model or checkpoint(family))]
    for key, value in changes.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def synth(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed to its end."""
    done = started(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def started(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from the repository's own folder."""
    command = [sys.executable, "-m", "synthgen", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that runs the pipeline with a family once, and gives the folders of images and of results."""
    folder = tmp_path_factory.mktemp("everyday")
    photos = fill(folder / "photos")

    @cache
    def run(family: str) -> Path:
        out = folder / family
        done = started("run", str(photos), "--out", str(out), *settings(family))
        assert done.returncode == 0 or "0 pairs were kept" in done.stderr, done.stderr[-2000:]
        return out

    yield run


def families() -> list[str]:
    """Return the families whose whole pipeline runs here."""
    return [name for name in families_with_engine() if name not in NOT_SERVED] if ALL else list(FEW)


@pytest.mark.parametrize("name", families())
def test_every_image_and_every_question_has_an_outcome(name: str, run_of: Any) -> None:
    out = run_of(name)
    by_stage = {funnel.stage: funnel for funnel in funnels(opened(out))}
    assert len(by_stage) == 5 and all(funnel.is_settled for funnel in by_stage.values())
    assert by_stage["tag"].passed == len(DRAWN) + len(PHOTOGRAPHS)
    planned, made = (rows(out, spec, table) for spec, table in ((PLAN, "assignments"), (GENERATE, "pairs")))
    assert planned and made.keys() == planned.keys()
    assert all(row["reason"] for row in made.values() if row["outcome"] != "pair")


@pytest.mark.parametrize("name", families())
def test_every_pair_has_every_score_or_a_reason_for_its_lack(name: str, run_of: Any) -> None:
    out = run_of(name)
    made = {row["pair_id"] for row in rows(out, GENERATE, "pairs").values() if row["outcome"] == "pair"}
    for score in SCORERS:
        measured = rows(out, GENERATE, f"scores/{score}")
        assert measured.keys() == made
        assert all((row["value"] is None) == (row["reason"] is not None) for row in measured.values())


@pytest.mark.skipif(not ALL, reason="only with `make zoo`: another start of an engine")
@pytest.mark.parametrize("name", families())
def test_a_preview_shows_every_step_of_an_image(name: str, tmp_path: Path) -> None:
    photos = fill(tmp_path / "photos")
    shown = synth("preview", str(photos / "invoice.png"), *settings(name)).stdout
    assert "document/business_document/invoice" in shown
    assert OUTCOME.search(shown), "with random weights a question may fail, for a named reason"


@pytest.mark.skipif(not ALL, reason="only with `make zoo`: another start of an engine")
@pytest.mark.parametrize("name", families())
def test_a_plan_is_priced_by_a_profile_of_the_engine(name: str, tmp_path: Path) -> None:
    photos = fill(tmp_path / "photos")
    words = ["plan", str(photos), "--out", str(tmp_path / "out"), "--profile", "2", "--json"]
    forecast = json.loads(synth(*words, *settings(name)).stdout)
    assert forecast


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of a processor of transformers
@pytest.mark.skipif(not ALL, reason="only with `make zoo`: another start of an engine")
@pytest.mark.parametrize("name", families())
def test_the_tuned_folder_is_served(name: str, tmp_path: Path) -> None:
    tuned = three_steps(name, tmp_path)
    photos = fill(tmp_path / "photos")
    shown = synth("preview", str(photos / "invoice.png"), *settings(name, tuned)).stdout
    assert OUTCOME.search(shown)
