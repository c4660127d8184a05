"""A VLM tagger with `only`: it looks closer at what the taggers before it found, and at nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen import taggers
from synthgen.engines import Request
from synthgen.errors import Failure, Mistakes
from synthgen.taggers import Tagged, Taggers, TaggerSpec, in_order, starts_below
from tests.fixtures.chooser import names_in
from tests.fixtures.tagging import TaggedFolder, write_custom, write_sidecar, write_tagger, write_vlm
from tests.fixtures.workspace import make_images, write

pytestmark = pytest.mark.usefixtures("workspace", "chooser_calls", "own_tagger")
RED = Image.new("RGB", (20, 20), (200, 30, 30))
ONLY = "only: [document/**]\n"
WANTED: Mapping[str, Any] = {"wanted": ["letter", "cat"]}


def refining(before: Mapping[str, float], options: Mapping[str, Any] = WANTED) -> tuple[TaggerSpec, ...]:
    """Write a tagger that finds these tags on every image, and a VLM that looks closer at documents."""
    return in_order([write_custom({"returns": dict(before)}, name="first"), write_vlm(options, ONLY)])


def tag(specs: tuple[TaggerSpec, ...]) -> Tagged | Failure:
    together = Taggers(specs)
    try:
        (result,) = together.tag([together.prepare(RED, None)])
        return result
    finally:
        together.close()


def test_the_candidates_below_a_group_that_was_found_are_listed_in_one_call(chooser_calls: list[Request]) -> None:
    result = tag(refining({"document": 0.4, "animal/cat": 0.2}))
    assert isinstance(result, Tagged)
    assert [(row["path"], row["score"], row["tagger"]) for row in result.tags] == [
        ("document", 0.4, "first"), ("animal/cat", 0.2, "first"), ("document/letter", 1.0, "mine"),
    ]  # fmt: skip
    assert [names_in(request) for request in chooser_calls] == [["invoice", "letter"]]


def test_a_leaf_stands_for_the_group_above_it(chooser_calls: list[Request]) -> None:
    tag(refining({"document/invoice": 0.4}))
    assert [names_in(request) for request in chooser_calls] == [["invoice", "letter"]]


def test_an_image_without_such_a_group_costs_no_call_and_no_model(chooser_calls: list[Request]) -> None:
    result = tag(refining({"animal/cat": 0.9}, {"die": True}))
    assert isinstance(result, Tagged) and [row["path"] for row in result.tags] == ["animal/cat"]
    assert chooser_calls == []


def test_an_image_that_an_earlier_tagger_failed_on_is_not_asked_about(chooser_calls: list[Request]) -> None:
    result = tag(refining({"no_such_tag": 0.9}))
    assert isinstance(result, Failure) and chooser_calls == []


def test_a_call_that_fails_fails_the_image() -> None:
    result = tag(refining({"document": 0.9}, {"fail_on": "letter"}))
    assert isinstance(result, Failure) and "call_failed" in result.detail


def test_only_the_topmost_of_the_groups_is_walked_from() -> None:
    write(
        Path("taggers/taxonomies/small.yaml"),
        'about: x\ntemplates: ["{}"]\ntags:\n  a: {means: x, tags: {b: {means: x, tags: {c: x}}, d: x}}\n  e: x\n',
    )
    spec = write_tagger("engine: vlm\nmodel: none\nserve: {kind: scripted}\nonly: [a/**]\n")
    assert starts_below(spec, ["a/b/c", "e"]) == ["a"] and starts_below(spec, ["e"]) == []
    spec = write_tagger("engine: vlm\nmodel: none\nserve: {kind: scripted}\nonly: [a/b/**]\n")
    assert starts_below(spec, ["a/b/c"]) == ["a/b"] and starts_below(spec, ["a/d"]) == []


# --- updates ---------------------------------------------------------------------------------------------------------


def test_an_update_reads_and_asks_about_the_images_that_have_such_a_group_alone(
    workspace: Path, tmp_path: Path, read_uris: list[str], chooser_calls: list[Request]
) -> None:
    photos = make_images(workspace / "photos", 4, ["cat", "invoice"])
    for number, photo in enumerate(photos):
        RED.resize((20 + number, 20)).save(photo)
    folder, first = TaggedFolder(tmp_path / "out"), write_sidecar()
    folder.tag(first)
    assert len(read_uris) == 4
    receipt = folder.tag(*in_order([first, write_vlm(WANTED, ONLY)]))
    assert len(read_uris) == 6 and len(chooser_calls) == 2 and receipt.counts == {}
    assert sorted(len(row["tags"]) for row in folder.rows("tags/mine")) == [0, 0, 1, 1]


def test_the_fingerprint_follows_the_taggers_before_it_and_the_patterns() -> None:
    first, other = write_sidecar(), write_sidecar("other", key="labels")
    plain, refiner = write_vlm(WANTED, name="plain"), write_vlm(WANTED, ONLY)
    assert in_order([first, plain])[1].fingerprint == plain.fingerprint
    after_first, after_other = in_order([first, refiner])[1], in_order([other, refiner])[1]
    assert len({plain.fingerprint, refiner.fingerprint, after_first.fingerprint, after_other.fingerprint}) == 4


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_a_tagger_that_refines_stands_behind_another() -> None:
    write_vlm(WANTED, ONLY)
    with pytest.raises(
        Mistakes, match=r"'mine' looks closer at what another tagger found .* before it; write `tagger: "
    ):
        taggers.load_all(["mine"])
    write_sidecar()
    first, second = taggers.load_all(["first", "mine"])
    assert second.after == (first.fingerprint,)


@pytest.mark.parametrize("pattern", ["documnt/**", "document/invoice"])
def test_a_pattern_that_names_no_group_is_reported(pattern: str) -> None:
    with pytest.raises(Mistakes, match="no tag of 'small' is 'doc"):
        write_vlm(WANTED, f"only: [{pattern}]\n")
