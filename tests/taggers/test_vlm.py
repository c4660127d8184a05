"""The VLM tagger, which walks down the taxonomy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen import taggers
from synthgen.engines import EngineDied, Request
from synthgen.errors import Failure, Mistakes, UserMistake
from synthgen.taggers import Tagged, TaggerSpec
from tests.fixtures.chooser import names_in
from tests.fixtures.tagging import all_tagged, paths_of, write_tagger, write_vlm
from tests.fixtures.workspace import write

pytestmark = pytest.mark.usefixtures("workspace", "chooser_calls")
RED, BLUE = Image.new("RGB", (16, 16), (200, 30, 30)), Image.new("RGB", (16, 16), (30, 30, 200))


def tag(spec: TaggerSpec, *images: Image.Image) -> Sequence[Tagged | Failure]:
    """Open a tagger, tag images with it and close it."""
    tagger = taggers.open_tagger(spec)
    try:
        return tagger.tag([tagger.prepare(image, None) for image in images])
    finally:
        tagger.close()


def test_only_chosen_branches_are_walked_with_one_call_a_level(chooser_calls: list[Request]) -> None:
    results = all_tagged(tag(write_vlm(), RED, BLUE))
    assert paths_of(results) == [["animal", "animal/cat"], []]
    listed = sorted(tuple(names_in(request)) for request in chooser_calls)
    assert listed == [("animal", "document"), ("animal", "document"), ("cat", "red_panda")]
    assert all(tag["score"] == 1.0 and tag["tagger"] == "mine" for tagged in results for tag in tagged.tags)


def test_one_call_asks_for_the_children_of_all_chosen_branches(chooser_calls: list[Request]) -> None:
    results = tag(write_vlm({"wanted": ["animal", "document", "letter"]}), RED)
    assert paths_of(results) == [["animal", "document", "document/letter"]]
    assert len(chooser_calls) == 2
    assert names_in(chooser_calls[1]) == ["cat", "red_panda", "invoice", "letter"]


def test_the_parent_stands_where_no_child_is_chosen() -> None:
    assert paths_of(tag(write_vlm({"wanted": ["animal"]}), RED)) == [["animal"]]


def test_a_call_has_the_image_under_a_key_of_its_pixels_and_the_meanings(chooser_calls: list[Request]) -> None:
    tag(write_vlm(more="question: Hm?\n"), RED, RED, BLUE)
    assert len(chooser_calls) == 5 and all(request.image is not None for request in chooser_calls)
    assert len({request.image_key for request in chooser_calls}) == 2
    assert "- cat: a small furry pet" in next(request.text for request in chooser_calls if "cat" in request.text)
    assert all("Hm?" in request.text for request in chooser_calls)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"fail_on": "cat"}, "call_failed: no"),
        ({"babble_on": "animal"}, "not a choice: "),
        ({"babble_on": "cat"}, "not a choice"),
    ],
)
def test_a_walk_that_breaks_off_is_a_failure(options: Mapping[str, Any], detail: str) -> None:
    broken, whole = tag(write_vlm(options), RED, BLUE)
    assert isinstance(broken, Failure) and broken.reason == "tagger_failed" and detail in broken.detail
    assert options.get("babble_on") == "animal" or whole == Tagged([])


def test_a_dead_engine_is_not_the_failure_of_an_image() -> None:
    tagger = taggers.open_tagger(write_vlm({"die": True}))
    with pytest.raises(EngineDied):
        taggers.tag_images(tagger, [tagger.prepare(RED, None)])
    tagger.close()


def test_the_tags_of_a_level_and_of_an_image_are_limited() -> None:
    options = {"wanted": ["animal", "document", "cat", "red_panda", "invoice", "letter"]}
    assert paths_of(tag(write_vlm(options, "a_level: 1\n"), RED)) == [["animal", "animal/cat"]]
    assert paths_of(tag(write_vlm(options, "most: 3\n"), RED)) == [["animal", "document", "animal/cat"]]


def test_the_shipped_scripted_engine_serves_a_vlm_tagger() -> None:
    spec = taggers.resolve_model(write_tagger("engine: vlm\nmodel: none\nserve: {kind: scripted}\n"))
    ((parent, child),) = paths_of(tag(spec, RED))
    assert child.startswith(f"{parent}/")


def test_the_fingerprint_follows_wording_and_model_but_not_serving() -> None:
    first = write_vlm().fingerprint
    path = Path("taggers/mine.yaml")
    write(path, path.read_text().replace('"gpus": 0', '"gpus": 0, "retries": 9'))
    assert taggers.resolve_model(taggers.load("mine")).fingerprint == first
    assert write_vlm({"wanted": ["cat"]}).fingerprint != first  # any option of an own engine can change a reply
    assert write_vlm(more="question: Hm?\n").fingerprint != first
    path = Path("taggers/mine.yaml")
    write(path, path.read_text().replace("model: none", "model: other").replace("question: Hm?\n", ""))
    assert taggers.load("mine").fingerprint != first


def test_a_missing_model_is_reported_with_the_tagger_that_names_it() -> None:
    with pytest.raises(UserMistake, match="tagger 'mine': model /no/such: no such folder"):
        taggers.resolve_model(write_tagger("engine: vlm\nmodel: /no/such\n"))


def test_an_unknown_key_is_reported_among_the_keys_of_a_vlm_tagger() -> None:
    with pytest.raises(Mistakes, match="unknown key 'threshold'"):
        write_tagger("engine: vlm\nmodel: none\nthreshold: 0.5\n")
