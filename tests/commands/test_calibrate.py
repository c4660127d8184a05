"""`synth calibrate`: thresholds that fit what was labelled, told apart from what was not, and never written over a file."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from synthgen import cli, taggers
from synthgen.commands.calibrate import CalibrateRequest, calibrate, command, fitting, labels
from synthgen.commands.calibrate.fitting import LabelledScores
from synthgen.config import pipeline, taxonomy
from synthgen.config.taxonomy import Tree
from synthgen.errors import UserMistake
from tests.fixtures.workspace import write


@pytest.fixture
def tree(workspace: Path) -> Tree:
    """animal, animal/cat, animal/red_panda, document, document/invoice, document/letter"""
    return taxonomy.load("small").tree


def flat(*paths: str) -> Tree:
    """A tree of these paths, in which a path is below another if it begins with it."""
    below = {path: tuple(one for one in paths if one.rpartition("/")[0] == path) for path in paths}
    return Tree({path: taxonomy.Node(path, "x", children=children) for path, children in below.items()})


def known_of(scores: Any, true: Any) -> LabelledScores:
    return LabelledScores(np.asarray(scores, np.float32), np.asarray(true, bool), np.ones(np.shape(true), bool))


def fitted(known: LabelledScores, tree: Tree) -> fitting.Floats:
    """The thresholds of a tagger that had 0.05 for every tag."""
    return fitting.fit(known, tree, np.full(len(tree), 0.05))[0]


# --- the arithmetic ----------------------------------------------------------------------------------------------------


def test_a_node_seen_often_gets_the_threshold_that_tells_its_images_apart() -> None:
    """One node is told apart at 0.3, another of its level at 0.01: each gets its own."""
    rng = np.random.default_rng(0)
    true = rng.random((400, 2)) < 0.5
    scores = np.where(true, [0.5, 0.02], [0.1, 0.005]) * rng.uniform(0.95, 1.05, (400, 2))
    first, second = fitted(known_of(scores, true), flat("a", "b"))
    assert 0.11 < first < 0.47 and 0.0053 < second < 0.019


def test_a_node_on_no_labelled_image_gets_the_threshold_of_its_level() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((300, 3)) < 0.5
    true[:, 2] = False
    scores = np.where(true, 0.5, 0.1) * rng.uniform(0.9, 1.1, (300, 3))
    scores[:, 2] = 0.0
    found = fitted(known_of(scores, true), flat("a", "b", "c"))
    assert 0.11 < found[2] < 0.45


def test_a_few_images_do_not_move_a_node_far_from_its_level() -> None:
    """One image that scores oddly high is not believed."""
    rng = np.random.default_rng(0)
    true = rng.random((300, 3)) < 0.5
    true[:, 2] = False
    scores = np.where(true, 0.5, 0.1) * rng.uniform(0.9, 1.1, (300, 3))
    true[0, 2], scores[0, 2] = True, 0.99
    assert fitted(known_of(scores, true), flat("a", "b", "c"))[2] < 0.6


def test_levels_do_not_share_their_thresholds() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((200, 2)) < 0.5
    scores = np.where(true, [0.9, 0.02], [0.6, 0.001])
    first, _, second = fitted(known_of(scores[:, [0, 0, 1]], true[:, [0, 0, 1]]), flat("a", "b", "b/c"))
    assert 0.6 < first < 0.9 and 0.001 < second < 0.02


def test_a_parent_is_fitted_to_the_images_on_which_nothing_below_it_was_found() -> None:
    """Where a leaf speaks, its parent is implied: to catch those images too it would have to be said of all."""
    rng = np.random.default_rng(0)
    number = np.arange(300)
    leaf, unclear = (
        number < 200,
        (number >= 200) & (number < 230),
    )  # of the unclear the parent is true, and no leaf of ours
    true = np.stack([leaf | unclear, leaf], axis=1)
    scores = np.stack([np.where(leaf, 0.03, np.where(unclear, 0.2, 0.05)), np.where(leaf, 0.9, 0.1)], axis=1)
    parent, _ = fitted(known_of(scores * rng.uniform(0.9, 1.1, (300, 2)), true), flat("a", "a/x"))
    assert 0.055 < parent < 0.18


def test_a_node_that_cannot_be_told_apart_is_left_to_its_parent() -> None:
    """Its own best F1 would be had by saying it of every image; over all cells that costs more than it brings."""
    rng = np.random.default_rng(0)
    true = np.stack([rng.random(400) < 0.5, rng.random(400) < 0.1], axis=1)
    scores = np.stack([np.where(true[:, 0], 0.9, 0.1), rng.uniform(0.2, 0.3, 400)], axis=1)
    _, blind = fitted(known_of(scores, true), flat("a", "b"))
    assert (scores[:, 1] >= blind).mean() < 0.05


def test_a_level_that_no_label_reaches_keeps_the_taggers_own_thresholds() -> None:
    tree, own = flat("a", "a/x", "b", "b/y"), np.array([0.05, 0.06, 0.05, 0.07])
    true = np.zeros((200, 4), dtype=bool)
    true[:100, 0] = true[100:, 2] = True
    sure = np.array([labels.truth([one], tree)[1] for one in "a" * 100 + "b" * 100])
    found, kept = fitting.fit(LabelledScores(np.where(true, 0.4, 0.04).astype(np.float32), true, sure), tree, own)
    assert kept == [1] and found[[1, 3]].tolist() == [0.06, 0.07]
    assert all(0.04 < one < 0.4 for one in found[[0, 2]])


def test_a_level_of_which_the_tags_below_say_all_keeps_the_taggers_own_thresholds() -> None:
    """Every step would be as good as any other there."""
    true = np.stack([np.ones(200, dtype=bool), np.arange(200) % 2 == 0, np.arange(200) % 2 == 1], axis=1)
    found, kept = fitting.fit(known_of(np.where(true, 0.4, 0.04), true), flat("a", "a/x", "a/y"), np.full(3, 0.05))
    assert kept == [0] and found[0] == 0.05


shapes = st.tuples(st.integers(1, 12), st.just(6))
scored = shapes.flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=32) | st.just(float("nan"))),
        arrays.arrays(np.bool_, shape),
        arrays.arrays(np.bool_, shape),
    )
)


SMALL = ("a", "a/x", "a/y", "b", "b/z", "b/w")


@given(scored)
def test_whatever_was_scored_thresholds_are_steps_and_counts_are_what_counting_gives(
    given_: tuple[Any, Any, Any],
) -> None:
    known = LabelledScores(*given_)
    tree, own = flat(*SMALL), np.full(6, 0.05)
    found, kept = fitting.fit(known, tree, own)
    level = fitting.levels(tree)
    assert set(found[~np.isin(level, kept)]) <= set(fitting.STEPS) and set(found[np.isin(level, kept)]) <= {0.05}
    counted = known.true & known.known
    naive = [((np.nan_to_num(known.scores) >= step) & counted).sum(axis=0) for step in fitting.STEPS]
    assert np.array_equal(fitting._at_least(known.scores, counted), np.array(naive))


@given(scored, st.integers(1, 6))
def test_a_tag_implies_its_ancestors_and_without_back_off_none_stands_alone(
    given_: tuple[Any, Any, Any], most: int
) -> None:
    tree = flat(*SMALL)
    for backs_off in (True, False):
        found = fitting.said(given_[0], np.full(6, 0.5), tree, most, backs_off)
        for row in found:
            there = {path for path, flag in zip(tree.nodes, row, strict=True) if flag}
            assert there == set(taxonomy.with_ancestors(sorted(there)))
            below = {path: tree.nodes[path].children for path in there}
            assert backs_off or all(not children or there.intersection(children) for children in below.values())


def test_only_the_surest_count_where_a_tagger_gives_at_most_so_many(tree: Tree) -> None:
    scores = np.array([[0.0, 0.9, 0.8, 0.0, 0.7, 0.6]], np.float32)
    assert fitting.said(scores, np.full(6, 0.5), tree, 2).tolist() == [[True, True, True, False, False, False]]


# --- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "true", "unknown"),
    [
        (["animal/cat"], ["animal", "animal/cat"], []),
        (["animal"], ["animal"], ["animal/cat", "animal/red_panda"]),
        (["animal", "animal/cat"], ["animal", "animal/cat"], []),
        ([], [], []),
    ],
)
def test_what_lies_below_the_deepest_label_is_not_known(
    tree: Tree, given_: list[str], true: list[str], unknown: list[str]
) -> None:
    found, known = labels.truth(given_, tree)
    assert [path for path, flag in zip(tree.nodes, found, strict=True) if flag] == true
    assert [path for path, flag in zip(tree.nodes, known, strict=True) if not flag] == unknown


class Shades:
    """A tagger whose score of every node is the redness of the picture, but for letters, which are blue."""

    def prepare(self, image: Image.Image, source_meta: str | None) -> Any:
        return image.getpixel((0, 0))

    def embed(self, inputs: Sequence[Any]) -> Any:
        return np.array(inputs, np.float32)

    def probabilities(self, embeddings: Any) -> Any:
        red, blue = embeddings[:, 0] / 255, embeddings[:, 2] / 255
        return np.stack([red, red, np.zeros_like(red), blue, np.zeros_like(red), blue], axis=1)


@pytest.fixture
def shades(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`taggers/clip.yaml`, whose threshold of 0.5 finds nothing: red cats score 0.4 and blue letters 0.3, others half of it."""
    write(workspace / "model/open_clip_config.json", "{}")
    write(workspace / "model/weights.bin", "")
    write(workspace / "taggers/clip.yaml", "about: x\nengine: open_clip\ntaxonomy: small\nmodel: model\n")
    monkeypatch.setattr(command, "ClipTagger", lambda spec, file: Shades())


def picture(number: int) -> tuple[Image.Image, list[str]]:
    is_cat = number % 2 == 0
    colour = (102, number, 38) if is_cat else (51, number, 77)
    return Image.new("RGB", (20, 20), colour), ["cat"] if is_cat else ["letter"]


def labelled_folder(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, tags = picture(number)
        image.save(folder / f"{number:03}.png")
        write(folder / f"{number:03}.json", json.dumps({"tags": tags}))
    return folder


def order(labelled: Path, **more: Any) -> CalibrateRequest:
    told = {"tagger": "clip", "name": "mine", "key": "tags", **more}
    return CalibrateRequest(str(labelled), told["tagger"], told["name"], told["key"], pipeline.load("small"))


def test_a_tagger_that_finds_nothing_finds_everything_once_calibrated(shades: None, workspace: Path) -> None:
    path, report = calibrate(order(labelled_folder(workspace / "known", 40)))
    assert path == Path("taggers/mine.yaml")
    numbers = {line.split()[0]: line.split()[2:] for line in report if len(line.split()) == 11}
    assert numbers["all"][2] == "0.000" and numbers["2"][5] == numbers["all"][8] == "1.000"
    spec = taggers.load("mine")
    assert isinstance(spec.file, taggers.ClipTaggerFile)
    limits = {node: taggers.threshold(spec.file, node) for node in spec.taxonomy.tree.nodes}
    assert 0.2 < limits["animal/cat"] < 0.4 and 0.15 < limits["document/letter"] < 0.3


def test_a_set_labelled_with_roots_alone_leaves_the_finer_thresholds_as_they_were(
    shades: None, workspace: Path
) -> None:
    folder = labelled_folder(workspace / "known", 40)
    for number in range(40):
        write(folder / f"{number:03}.json", json.dumps({"tags": ["animal" if number % 2 == 0 else "document"]}))
    file = workspace / "taggers/clip.yaml"
    write(file, file.read_text() + "threshold: 0.05\nthresholds: {animal/cat: 0.15}\n")
    _, report = calibrate(order(folder))
    spec = taggers.load("mine")
    assert isinstance(spec.file, taggers.ClipTaggerFile)
    limits = {node: taggers.threshold(spec.file, node) for node in spec.taxonomy.tree.nodes}
    assert {path: limit for path, limit in limits.items() if "/" in path} == {
        "animal/cat": 0.15, "animal/red_panda": 0.05, "document/invoice": 0.05, "document/letter": 0.05,
    }  # fmt: skip
    assert report[-1].startswith("level 2: nothing to fit to, ") and report[-1].endswith(
        "its thresholds stay as they are"
    )
    assert any(line.startswith("0 of 6 tags are on no labelled image") for line in report)


def test_parquet_with_a_column_of_tags_is_a_labelled_set_too(shades: None, workspace: Path) -> None:
    rows = []
    for number in range(40):
        image, tags = picture(number)
        held = io.BytesIO()
        image.save(held, "PNG")
        rows.append({"image": {"bytes": held.getvalue(), "path": None}, "kinds": tags})
    pq.write_table(pa.Table.from_pylist(rows), workspace / "known.parquet")
    _, report = calibrate(order(workspace / "known.parquet", key="kinds"))
    assert "40 images, 40 used, 0 left out" in report[0]


def test_images_that_cannot_be_used_are_counted_with_their_reason(shades: None, workspace: Path) -> None:
    folder = labelled_folder(workspace / "known", 30)
    (folder / "000.json").unlink()
    write(folder / "001.json", json.dumps({"tags": ["spaceship"]}))
    write(folder / "002.json", "{ torn")
    (folder / "003.png").write_bytes(b"no image")
    write(folder / "004.json", json.dumps({"tags": ["cat", "spaceship"]}))
    _, report = calibrate(order(folder))
    assert "30 images, 26 used, 4 left out" in report[0]
    reasons = {line.split()[1]: int(line.split()[0]) for line in report[1:] if "first:" in line}
    assert reasons.pop("no_labels") == reasons.pop("unknown_labels") == reasons.pop("labels_unreadable") == 1
    assert sum(reasons.values()) == 1
    assert any("2 labels that the taxonomy does not have: 'spaceship' (2)" in line for line in report)


@pytest.mark.parametrize("stage", ["prepare", "embed"])
def test_an_image_that_the_model_cannot_take_is_counted_and_left_out(
    shades: None, workspace: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    real = getattr(Shades, stage)

    def odd(self: Shades, given_: Any, *more: Any) -> Any:
        seen = [given_.getpixel((0, 0))] if isinstance(given_, Image.Image) else given_
        if any(pixel[1] in (3, 8) for pixel in seen):
            raise ValueError("an odd image")
        return real(self, given_, *more)

    monkeypatch.setattr(Shades, stage, odd)
    _, report = calibrate(order(labelled_folder(workspace / "known", 40)))
    assert "40 images, 38 used, 2 left out" in report[0]
    assert report[1].split()[:2] == ["2", "tagger_failed"] and "ValueError: an odd image" in report[1]


def test_an_image_labelled_with_nothing_is_looked_at_too(shades: None, workspace: Path) -> None:
    folder = labelled_folder(workspace / "known", 40)
    for number in range(40, 46):
        Image.new("RGB", (20, 20), (10, number, 10)).save(folder / f"{number:03}.png")
        write(folder / f"{number:03}.json", json.dumps({"tags": []}))
    _, report = calibrate(order(folder))
    assert "of 6 images that hold nothing: 6 without a tag as it is, 6 with back-off" in report


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "clip"}, "taggers/clip.yaml: already exists; choose another name"),
        ({"name": "a/b"}, "a/b: is not a valid file name"),
        ({"tagger": "beside"}, "--tagger beside: has no thresholds to fit"),
        ({"tagger": "clop"}, "tagger 'clop' is unknown: did you mean 'clip'"),
        ({"key": "kinds"}, "0 labelled images, too few to fit to (at least 20); left out: 25 no_labels"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    shades: None, workspace: Path, more: dict[str, Any], said: str
) -> None:
    folder = labelled_folder(workspace / "known", 25)
    before = {path.name: path.read_text() for path in Path("taggers").glob("*.yaml")}
    with pytest.raises(UserMistake) as caught:
        calibrate(order(folder, **more))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name: path.read_text() for path in Path("taggers").glob("*.yaml")} == before


def test_labelled_images_are_looked_for_before_the_model(workspace: Path) -> None:
    write(
        workspace / "taggers/clip.yaml", "about: x\nengine: open_clip\ntaxonomy: small\nmodel: hf-hub:nobody/nothing\n"
    )
    with pytest.raises(UserMistake, match="nope: no such file or folder"):
        calibrate(order(workspace / "nope"))


def test_the_command_prints_the_report_and_the_file(
    shades: None, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled_folder(workspace / "known", 30)
    monkeypatch.setattr(
        "sys.argv", ["synth", "calibrate", "known", "--tagger", "clip", "--name", "mine", "--pipeline", "small"]
    )
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "taggers/mine.yaml"
    head = Path("taggers/mine.yaml").read_text().splitlines()
    assert head[0] == "# Fitted to known." and any("with back-off" in line for line in head if line.startswith("#"))
