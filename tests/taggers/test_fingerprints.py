"""Fingerprints of taggers: folders made by earlier versions are recognised by them."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen import taggers
from synthgen.engines import ModelName
from synthgen.taggers import VlmTaggerFile
from tests.fixtures.tagging import write_custom, write_sidecar, write_tagger, write_vlm
from tests.fixtures.workspace import write

# File -> fingerprint as loaded, and once its model is resolved. A change here makes every folder tagged before stale.
CLIP, VLM = "engine: open_clip\nmodel: ViT-B-32\n", "engine: vlm\nmodel: none\n"
RECORDED = {
    f"{CLIP}pretrained: openai\nthreshold: 0.25\nthresholds: {{document/**: 0.5, '*': 0.125}}\n": (
        "004a53eb959b3671df20aaae2ae8d243",
        "004a53eb959b3671df20aaae2ae8d243",
    ),
    f"{CLIP}pretrained: own.bin\n": ("faf31aa1d39697e92fe283a63aaa9ed4", "faf31aa1d39697e92fe283a63aaa9ed4"),
    "engine: open_clip\nmodel: model\nmost: 3\n": (
        "c4cb5a99ed4da0bc06e0d1d9b3da91a0",
        "c4cb5a99ed4da0bc06e0d1d9b3da91a0",
    ),
    "engine: sidecar\nkey: labels\nnames: {kitty: animal/cat}\n": (
        "77748809b1a41524b78142526987b1ba",
        "77748809b1a41524b78142526987b1ba",
    ),
    f"{VLM}a_level: 2\nserve: {{kind: scripted, template: {{think: false}}, gpus: 2}}\n": (
        "3965cbf6a77262f471bcd785640727e1",
        "ebd68031f8605c2df0a653a4bde7e560",
    ),
    f"{VLM}serve: {{kind: endpoint, urls: ['http://127.0.0.1:8000/v1'], options: {{top_k: 5}}}}\n": (
        "4239ba86b11d8252d286841b22601b08",
        "03b73d275681a6312548b2afdc78a80e",
    ),
    "engine: own_tagger:Reds\nversion: '2'\noptions: {low: 0.5}\n": (
        "f07b857629b5a2eea7534f3dbb820f39",
        "f07b857629b5a2eea7534f3dbb820f39",
    ),
}


@pytest.mark.parametrize(("text", "recorded"), RECORDED.items())
def test_a_tagger_keeps_the_fingerprint_of_earlier_versions(
    workspace: Path, text: str, recorded: tuple[str, str]
) -> None:
    write(workspace / "model/open_clip_config.json", "{}")
    write(workspace / "model/weights.bin", "w")
    write(workspace / "own.bin", "o")
    header = json.dumps({"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    write(workspace / "vlm/config.json", json.dumps({"architectures": ["SmallModel"]}))
    (workspace / "vlm/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    spec = write_tagger(text)
    assert (spec.fingerprint, taggers.resolve_model(spec).fingerprint) == recorded


@pytest.mark.parametrize(
    ("old", "new", "read_by"),
    [
        ("about: a few tags", "about: some tags", set()),
        ("a photo of {}", "a picture of {}", {"open_clip", "custom"}),
        ("means: a page", "means: a page\n    also: [sheet]", {"custom"}),  # a CLIP compares no texts of a group
        ("means: a page", "means: a page\n    text: a page of text", {"open_clip", "custom"}),
        ("cat: a small furry pet", "cat: {means: a small furry pet, clip: false}", {"open_clip"}),
        ("a small furry climber", "a small furry bear", {"open_clip", "custom", "vlm"}),
        ("red_panda", "panda", {"open_clip", "custom", "vlm", "sidecar"}),
        ("      cat: a small furry pet\n", "", {"open_clip", "custom", "vlm", "sidecar"}),
        (
            "      invoice: a bill\n      letter: a message\n",
            "      letter: a message\n      invoice: a bill\n",
            {"vlm"},
        ),
    ],
)
def test_a_fingerprint_follows_only_what_the_tagger_reads_of_the_taxonomy(
    workspace: Path, old: str, new: str, read_by: set[str]
) -> None:
    def fingerprints() -> dict[str, str]:
        specs = {
            "open_clip": write_tagger("engine: open_clip\nmodel: ViT-B-32\npretrained: openai\n"),
            "sidecar": write_sidecar(),
            "vlm": write_vlm(),
            "custom": write_custom(),
        }
        return {kind: spec.fingerprint for kind, spec in specs.items()}

    before, taxonomy = fingerprints(), workspace / "taggers/taxonomies/small.yaml"
    assert old in taxonomy.read_text()
    write(taxonomy, taxonomy.read_text().replace(old, new))
    after = fingerprints()
    assert {kind for kind in before if before[kind] != after[kind]} == read_by


def test_a_fingerprint_is_computed_once_and_anew_for_a_spec_with_another_model(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(VlmTaggerFile, "read_taxonomy", lambda file, taxonomy: calls.append("read"))
    spec = write_tagger(VLM)
    first = {spec.fingerprint, spec.fingerprint, pickle.loads(pickle.dumps(spec)).fingerprint}
    assert len(first) == 1 and calls == ["read"]
    other = replace(spec, model=ModelName("none", "another"))
    assert other.fingerprint not in first and other != spec
