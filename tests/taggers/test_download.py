"""Weights that are not here and cannot be downloaded: one line, before anything is tagged or written."""

import shutil
from pathlib import Path

import pytest

from synthgen import taggers
from synthgen.errors import UserMistake
from synthgen.taggers import Tagged
from synthgen.taggers.download import download_fault, may_download
from tests.fixtures.runs import synth
from tests.fixtures.workspace import ROOT

LINE = (
    "tagger '{0}': its weights are not in the local cache, and {1} cannot be had from the hub (HF_HUB_OFFLINE is set); "
    "name a local folder or file as model or pretrained in a copy (`synth copy tagger {0} mine`), or take tags that "
    "come along (tagger everyday-sidecar, with source.sidecar=.json or source.meta_columns)"
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a working folder, and a cache without models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def tagger_file(name: str, model: str) -> None:
    Path("taggers").mkdir(exist_ok=True)
    Path(f"taggers/{name}.yaml").write_text(f"about: x\nengine: open_clip\ntaxonomy: everyday\n{model}\n")


@pytest.mark.parametrize(
    ("model", "repository"),
    [
        ("model: hf-hub:organisation/model", "organisation/model"),
        ("model: ViT-B-32\npretrained: openai", "timm/vit_base_patch32_clip_224.openai"),
    ],
)
def test_a_tagger_without_its_weights_offline_is_one_line_that_says_what_to_do(model: str, repository: str) -> None:
    tagger_file("mine", model)
    spec = taggers.load("mine")
    assert download_fault(spec) == LINE.format("mine", repository)
    with pytest.raises(UserMistake) as mistake:
        taggers.open_tagger(spec)
    assert str(mistake.value) == LINE.format("mine", repository)


def test_a_local_model_and_a_tagger_without_a_model_download_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("drawn-clip", "everyday-sidecar", "everyday-vlm"):
        assert not may_download(taggers.load(name)) and download_fault(taggers.load(name)) is None


@pytest.mark.usefixtures("workers_here")
def test_a_new_run_without_the_weights_ends_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "demo/images/0005.png", tmp_path / "photos")
    done = synth("run", "photos", "--out", "data", "--until", "tag", check=False)
    assert done.returncode == 2 and not (tmp_path / "data").exists()
    assert done.stderr.splitlines()[-1] == f"synth: {LINE.format('everyday-clip', 'timm/ViT-B-16-SigLIP2-384')}"


def test_the_tagger_for_tags_that_come_along_takes_those_of_the_everyday_taxonomy() -> None:
    spec = taggers.load("everyday-sidecar")
    leaf = spec.taxonomy.tree.leaves[0]
    (tagged,) = taggers.open_tagger(spec).tag([[(leaf.rpartition("/")[2], 0.5)]])
    assert isinstance(tagged, Tagged) and [tag["path"] for tag in tagged.tags] == [leaf]
