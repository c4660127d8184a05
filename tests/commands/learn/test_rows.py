"""Every row of a seed is counted, or left out with a reason."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.commands.learn import learn, row_tags, row_types
from synthgen.commands.learn import seed as seeds
from synthgen.commands.learn.records import BadRow, Fields, Row, parse_row
from synthgen.commands.usable import UseCounts
from synthgen.config import taxonomy
from synthgen.config.vocabulary import Lexicon
from synthgen.taggers import Tagged
from tests.fixtures.seeds import COUNTING, READING, SCENE, learn_request, llava, png, seed_rows, weights_of, write_seed
from tests.fixtures.workspace import DEFINITION_FILES, write


def test_rows_that_cannot_be_used_are_left_out_each_with_its_reason(workspace: Path) -> None:
    good = seed_rows("llava")
    bad: list[Any] = [
        "not a record",
        {**good[0], "types": None},
        {**good[0], "types": ["tap dancing"]},
        {**good[0], "tags": None},
        {**good[0], "tags": ["spaceship"]},
    ]
    seed = write(workspace / "s.jsonl", "".join(json.dumps(row) + "\n" for row in [*good, *bad]) + "{ torn\n")
    _, report = learn(learn_request(seed))
    assert "30 rows, 24 used, 6 left out" in report[0]
    for reason in ("not_a_record", "no_types", "unknown_types", "no_tags", "unknown_tags", "not_json"):
        assert any(reason in line and "1" in line for line in report), reason
    assert any("1 unknown words for types: 'tap dancing' (1)" in line for line in report)


def test_an_image_without_a_tag_counts_for_the_rule_of_all_images(workspace: Path) -> None:
    """An empty list of tags is an answer of a tagger, unlike a missing field."""
    rows = [{**row, "tags": []} for row in seed_rows("llava", rows=[("", SCENE)])]
    path, report = learn(learn_request(write_seed(workspace / "s.json", rows)))
    assert "4 used, 0 left out" in report[0]
    assert weights_of(path) == {"**": {SCENE: 10.0}}


class Reds:
    """A tagger that finds a letter in every red image."""

    def prepare(self, image: Image.Image, source_meta: str | None) -> Any:
        return image.getpixel((0, 0))

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        return [
            Tagged([{"path": "document/letter", "score": 1.0, "tagger": "reds"}] if pixel[0] > 100 else [])
            for pixel in inputs
        ]

    def close(self) -> None:
        pass


def test_the_tagger_finds_tags_where_the_seed_has_none(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are bytes or paths below the seed; one that cannot be read or decoded costs its row alone."""
    monkeypatch.setattr(row_tags, "Taggers", lambda specs: Reds())
    write_clip_tagger(workspace)
    images = [
        "one.png",
        "one.png",
        "one.png",
        "gone.png",
        "../one.png",
        "torn.png",
        "http://x/one.png",
        None,
        "one.png",
    ]
    rows = [{**llava(number, "Read?"), "image": image, "types": READING} for number, image in enumerate(images)]
    rows[-1]["image"] = ["one.png", "torn.png"]
    seed = write_seed(workspace / "seed/s.json", rows)
    (workspace / "seed/one.png").write_bytes(png())
    (workspace / "seed/torn.png").write_bytes(png()[:60])
    path, report = learn(learn_request(seed, overrides=["tag.tagger=clip"]))
    assert "9 rows, 3 used, 6 left out" in report[0]
    left_out = {line.split()[1]: int(line.split()[0]) for line in report[1:6]}
    assert left_out == {"path_outside": 2, "unreadable": 1, "truncated": 1, "no_image": 1, "several_images": 1}
    assert weights_of(path)


def write_clip_tagger(workspace: Path) -> None:
    """Write a tagger that needs an image, so that the seed need not have tags."""
    write(workspace / "model/open_clip_config.json", "{}")
    write(workspace / "model/weights.bin", "")
    write(workspace / "taggers/clip.yaml", "about: x\nengine: open_clip\ntaxonomy: small\nmodel: model\n")


class Picky(Reds):
    """A tagger that cannot prepare images narrower than 20 pixels, and fails on a batch with an image of 20."""

    def prepare(self, image: Image.Image, source_meta: str | None) -> Any:
        if image.width < 20:
            raise ValueError("too narrow for me")
        return (*super().prepare(image, source_meta), image.width)

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        if any(item[-1] == 20 for item in inputs):
            raise RuntimeError("an odd tensor")
        return super().tag(inputs)


def test_an_image_that_the_tagger_cannot_take_costs_its_row_alone(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_tags, "Taggers", lambda specs: Picky())
    write_clip_tagger(workspace)
    rows = [
        {**llava(number, "Read?"), "image": f"{width}.png", "types": READING}
        for number, width in enumerate((18, 20, 22, 24, 26))
    ]
    seed = write_seed(workspace / "seed/s.json", rows)
    for width in (18, 20, 22, 24, 26):
        Image.new("RGB", (width, 20), (200, 30, 30)).save(workspace / f"seed/{width}.png")
    _, report = learn(learn_request(seed, overrides=["tag.tagger=clip"]))
    assert "5 rows, 3 used, 2 left out" in report[0]
    assert any(line.split()[:2] == ["2", "tagger_failed"] for line in report)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), texts)
junk = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
keys = st.sampled_from(
    ["id", "image", "images", "conversations", "messages", "prompt", "completion", "texts", "types", "tags"]
)


@given(st.one_of(junk, st.dictionaries(keys, junk)))
def test_any_record_becomes_a_row_or_a_reason(record: Any) -> None:
    row = parse_row("s:1", 0, record, Fields("types", "tags"))
    assert isinstance(row, Row | BadRow)
    assert all(row.questions) if isinstance(row, Row) else row.failure.reason


@given(st.lists(st.one_of(junk, st.sampled_from(seed_rows("llava", 1))), max_size=12))
def test_used_and_left_out_add_up_to_the_rows_of_the_seed(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("seed")
    lines = "".join(json.dumps(record) + "\n" for record in records)
    seed = seeds.open_seed(str(write(folder / "s.jsonl", lines)))
    small = write(folder / "small.yaml", DEFINITION_FILES["taggers/taxonomies/small.yaml"])
    types, tags = Lexicon([READING, SCENE, COUNTING]), Lexicon(taxonomy.load(str(small)).tree.nodes)
    counts = UseCounts()
    rows = seeds.read_rows(seed, seeds.Columns(Fields("types", "tags"), texts=False, images=False))
    find = partial(row_types.look_up_types, types, None, counts.unknown_words("types"))
    for row in row_tags.look_up_tags(row_types.with_types(rows, find), tags, counts.unknown_words("tags")):
        if isinstance(row, Row):
            counts.used += 1
        else:
            counts.leave_out(row.failure.reason, row.where)
    assert counts.total == len(records)
