"""`synth calibrate`: it fits thresholds to labelled images, reports what they gain, and overwrites no file."""

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
from synthgen.taggers import Limits
from tests.fixtures.images import encoded
from tests.fixtures.workspace import write


@pytest.fixture
def tree(workspace: Path) -> Tree:
    """animal, animal/cat, animal/red_panda, document, document/invoice, document/letter"""
    return taxonomy.load("small").tree


def tree_with(*paths: str) -> Tree:
    """Return a tree of these paths."""
    children = {path: tuple(child for child in paths if child.rpartition("/")[0] == path) for path in paths}
    return Tree({path: taxonomy.Node(path, "x", children=children[path]) for path in paths})


def all_known(scores: Any, true: Any) -> LabelledScores:
    """Return labelled images of which everything is known."""
    return LabelledScores(np.asarray(scores, np.float32), np.asarray(true, bool), np.ones(np.shape(true), bool))


def fit(labelled: LabelledScores, tree: Tree) -> fitting.Floats:
    """Return the fitted thresholds of a tagger that had 0.05 for every tag."""
    return fitting.fit(labelled, tree, np.full(len(tree), 0.05))[0]


# --- the arithmetic --------------------------------------------------------------------------------------------


def test_a_node_with_many_images_gets_the_threshold_that_separates_them() -> None:
    """The images of one node separate at 0.3, those of another on its level at 0.01."""
    rng = np.random.default_rng(0)
    true = rng.random((400, 2)) < 0.5
    scores = np.where(true, [0.5, 0.02], [0.1, 0.005]) * rng.uniform(0.95, 1.05, (400, 2))
    first, second = fit(all_known(scores, true), tree_with("a", "b"))
    assert 0.11 < first < 0.47 and 0.0053 < second < 0.019


def test_a_node_on_no_labelled_image_gets_the_threshold_of_its_level() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((300, 3)) < 0.5
    true[:, 2] = False
    scores = np.where(true, 0.5, 0.1) * rng.uniform(0.9, 1.1, (300, 3))
    scores[:, 2] = 0.0
    thresholds = fit(all_known(scores, true), tree_with("a", "b", "c"))
    assert 0.11 < thresholds[2] < 0.45


def test_one_odd_image_does_not_move_a_node_far_from_its_level() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((300, 3)) < 0.5
    true[:, 2] = False
    scores = np.where(true, 0.5, 0.1) * rng.uniform(0.9, 1.1, (300, 3))
    true[0, 2], scores[0, 2] = True, 0.99
    assert fit(all_known(scores, true), tree_with("a", "b", "c"))[2] < 0.6


def test_each_level_gets_its_own_thresholds() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((200, 2)) < 0.5
    scores = np.where(true, [0.9, 0.02], [0.6, 0.001])
    first, _, second = fit(all_known(scores[:, [0, 0, 1]], true[:, [0, 0, 1]]), tree_with("a", "b", "b/c"))
    assert 0.6 < first < 0.9 and 0.001 < second < 0.02


def test_a_parent_is_fitted_to_the_images_on_which_nothing_below_it_is_found() -> None:
    """A leaf implies its parent. To find those images by its own score, the parent would have to tag all images."""
    rng = np.random.default_rng(0)
    number = np.arange(300)
    leaf, parent_only = number < 200, (number >= 200) & (number < 230)
    true = np.stack([leaf | parent_only, leaf], axis=1)
    scores = np.stack([np.where(leaf, 0.03, np.where(parent_only, 0.2, 0.05)), np.where(leaf, 0.9, 0.1)], axis=1)
    parent, _ = fit(all_known(scores * rng.uniform(0.9, 1.1, (300, 2)), true), tree_with("a", "a/x"))
    assert 0.055 < parent < 0.18


def test_a_node_that_its_scores_do_not_separate_tags_few_images() -> None:
    """Its own F1 is best if it tags every image, but that costs more than it gains over all cells."""
    rng = np.random.default_rng(0)
    true = np.stack([rng.random(400) < 0.5, rng.random(400) < 0.1], axis=1)
    scores = np.stack([np.where(true[:, 0], 0.9, 0.1), rng.uniform(0.2, 0.3, 400)], axis=1)
    _, inseparable = fit(all_known(scores, true), tree_with("a", "b"))
    assert (scores[:, 1] >= inseparable).mean() < 0.05


def test_a_level_that_no_label_reaches_keeps_its_own_thresholds() -> None:
    tree, own = tree_with("a", "a/x", "b", "b/y"), np.array([0.05, 0.06, 0.05, 0.07])
    true = np.zeros((200, 4), dtype=bool)
    true[:100, 0] = true[100:, 2] = True
    known = np.array([labels.truth([root], tree)[1] for root in "a" * 100 + "b" * 100])
    labelled = LabelledScores(np.where(true, 0.4, 0.04).astype(np.float32), true, known)
    thresholds, unfitted = fitting.fit(labelled, tree, own)
    assert unfitted == [1] and thresholds[[1, 3]].tolist() == [0.06, 0.07]
    assert all(0.04 < threshold < 0.4 for threshold in thresholds[[0, 2]])


def test_a_level_that_the_tags_below_imply_keeps_its_own_thresholds() -> None:
    true = np.stack([np.ones(200, dtype=bool), np.arange(200) % 2 == 0, np.arange(200) % 2 == 1], axis=1)
    labelled = all_known(np.where(true, 0.4, 0.04), true)
    thresholds, unfitted = fitting.fit(labelled, tree_with("a", "a/x", "a/y"), np.full(3, 0.05))
    assert unfitted == [0] and thresholds[0] == 0.05


shapes = st.tuples(st.integers(1, 12), st.just(6))
arrays_of_images = shapes.flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=32) | st.just(float("nan"))),
        arrays.arrays(np.bool_, shape),
        arrays.arrays(np.bool_, shape),
    )
)


SMALL = ("a", "a/x", "a/y", "b", "b/z", "b/w")


@given(arrays_of_images)
def test_fitted_thresholds_are_steps_and_the_others_are_the_taggers_own(arrays_: tuple[Any, Any, Any]) -> None:
    tree, own = tree_with(*SMALL), np.full(6, 0.05)
    thresholds, unfitted = fitting.fit(LabelledScores(*arrays_), tree, own)
    is_unfitted = np.isin(fitting.node_levels(tree), unfitted)
    assert set(thresholds[~is_unfitted]) <= set(fitting.STEPS) and set(thresholds[is_unfitted]) <= {0.05}


@given(arrays_of_images)
def test_cells_are_counted_as_by_hand(arrays_: tuple[Any, Any, Any]) -> None:
    labelled = LabelledScores(*arrays_)
    counted = labelled.true & labelled.known
    by_hand = [((np.nan_to_num(labelled.scores) >= step) & counted).sum(axis=0) for step in fitting.STEPS]
    assert np.array_equal(fitting._count_at_least(labelled.scores, counted), np.array(by_hand))


@given(arrays_of_images, st.integers(1, 6))
def test_a_tag_implies_its_ancestors_and_without_back_off_each_has_a_leaf(
    arrays_: tuple[Any, Any, Any], most: int
) -> None:
    tree, scores = tree_with(*SMALL), arrays_[0]
    for backs_off in (True, False):
        rows = fitting.apply_thresholds(scores, np.full(6, 0.5), tree, Limits(most), backs_off)
        assert len(rows) == len(scores) > 0
        for row in rows:
            tags = {path for path, is_tag in zip(tree.nodes, row, strict=True) if is_tag}
            assert tags == set(taxonomy.with_ancestors(sorted(tags)))
            children = [tree.nodes[path].children for path in tags]
            assert backs_off or all(not paths or tags.intersection(paths) for paths in children)


def test_only_the_surest_tags_count_up_to_the_taggers_limit(tree: Tree) -> None:
    scores = np.array([[0.0, 0.9, 0.8, 0.0, 0.7, 0.6]], np.float32)
    assert fitting.apply_thresholds(scores, np.full(6, 0.5), tree, Limits(2)).tolist() == [
        [True, True, True, False, False, False]
    ]


# --- labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels_", "true", "unknown"),
    [
        (["animal/cat"], ["animal", "animal/cat"], []),
        (["animal"], ["animal"], ["animal/cat", "animal/red_panda"]),
        (["animal", "animal/cat"], ["animal", "animal/cat"], []),
        ([], [], []),
    ],
)
def test_nothing_is_known_below_the_deepest_label(
    tree: Tree, labels_: list[str], true: list[str], unknown: list[str]
) -> None:
    is_true, is_known = labels.truth(labels_, tree)
    assert [path for path, flag in zip(tree.nodes, is_true, strict=True) if flag] == true
    assert [path for path, flag in zip(tree.nodes, is_known, strict=True) if not flag] == unknown


class Shades:
    """A tagger that scores redness for cats, blueness for letters, and 0 for their siblings."""

    def prepare(self, image: Image.Image, source_meta: str | None) -> Any:
        return image.getpixel((0, 0))

    def embed(self, inputs: Sequence[Any]) -> Any:
        return np.array(inputs, np.float32)

    def probabilities(self, embeddings: Any) -> Any:
        red, blue = embeddings[:, 0] / 255, embeddings[:, 2] / 255
        return np.stack([red, red, np.zeros_like(red), blue, np.zeros_like(red), blue], axis=1)


@pytest.fixture
def shades(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write taggers/clip.yaml. Red cats score 0.4, blue letters 0.3, others half of it: below the threshold of 0.5."""
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


def request(labelled: Path, tagger: str = "clip", name: str = "mine", key: str = "tags") -> CalibrateRequest:
    return CalibrateRequest(str(labelled), tagger, name, key, pipeline.load("small"))


def test_a_tagger_that_finds_nothing_finds_everything_once_calibrated(shades: None, workspace: Path) -> None:
    path, report = calibrate(request(labelled_folder(workspace / "known", 40)))
    assert path == Path("taggers/mine.yaml")
    numbers = {line.split()[0]: line.split()[2:] for line in report if len(line.split()) == 11}
    assert numbers["all"][2] == "0.000" and numbers["2"][5] == numbers["all"][8] == "1.000"
    spec = taggers.load("mine")
    assert isinstance(spec.file, taggers.ClipTaggerFile)
    limits = {node: spec.file.threshold_of(node) for node in spec.taxonomy.tree.nodes}
    assert 0.2 < limits["animal/cat"] < 0.4 and 0.15 < limits["document/letter"] < 0.3


def test_labels_of_roots_alone_leave_the_other_thresholds_as_they_were(shades: None, workspace: Path) -> None:
    folder = labelled_folder(workspace / "known", 40)
    for number in range(40):
        write(folder / f"{number:03}.json", json.dumps({"tags": ["animal" if number % 2 == 0 else "document"]}))
    file = workspace / "taggers/clip.yaml"
    write(file, file.read_text() + "threshold: 0.05\nthresholds: {animal/cat: 0.15}\n")
    _, report = calibrate(request(folder))
    spec = taggers.load("mine")
    assert isinstance(spec.file, taggers.ClipTaggerFile)
    limits = {node: spec.file.threshold_of(node) for node in spec.taxonomy.tree.nodes}
    assert {path: limit for path, limit in limits.items() if "/" in path} == {
        "animal/cat": 0.15, "animal/red_panda": 0.05, "document/invoice": 0.05, "document/letter": 0.05,
    }  # fmt: skip
    assert report[-1].startswith("level 2: no label reaches it, ")
    assert report[-1].endswith("it keeps the tagger's own thresholds")
    assert any(line.startswith("0 of 6 tags are on no labelled image") for line in report)


def test_a_parquet_column_can_hold_the_labels(shades: None, workspace: Path) -> None:
    rows = []
    for number in range(40):
        image, tags = picture(number)
        rows.append({"image": {"bytes": encoded(image, "PNG"), "path": None}, "kinds": tags})
    pq.write_table(pa.Table.from_pylist(rows), workspace / "known.parquet")
    _, report = calibrate(request(workspace / "known.parquet", key="kinds"))
    assert "40 images, 40 used, 0 left out" in report[0]


def test_images_that_cannot_be_used_are_counted_by_reason(shades: None, workspace: Path) -> None:
    folder = labelled_folder(workspace / "known", 30)
    (folder / "000.json").unlink()
    write(folder / "001.json", json.dumps({"tags": ["spaceship"]}))
    write(folder / "002.json", "{ torn")
    (folder / "003.png").write_bytes(b"no image")
    write(folder / "004.json", json.dumps({"tags": ["cat", "spaceship"]}))
    _, report = calibrate(request(folder))
    assert "30 images, 26 used, 4 left out" in report[0]
    reasons = {line.split()[1]: int(line.split()[0]) for line in report[1:] if "first:" in line}
    assert reasons.pop("no_labels") == reasons.pop("unknown_labels") == reasons.pop("labels_unreadable") == 1
    assert sum(reasons.values()) == 1
    assert any("2 unknown words for labels: 'spaceship' (2)" in line for line in report)


@pytest.mark.parametrize("method", ["prepare", "embed"])
def test_an_image_that_the_tagger_fails_on_is_left_out(
    shades: None, workspace: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    real = getattr(Shades, method)

    def fail_on_two(self: Shades, input_: Any, *args: Any) -> Any:
        pixels: Any = [input_.getpixel((0, 0))] if isinstance(input_, Image.Image) else input_
        if any(pixel[1] in (3, 8) for pixel in pixels):
            raise ValueError("an odd image")
        return real(self, input_, *args)

    monkeypatch.setattr(Shades, method, fail_on_two)
    _, report = calibrate(request(labelled_folder(workspace / "known", 40)))
    assert "40 images, 38 used, 2 left out" in report[0]
    assert report[1].split()[:2] == ["2", "tagger_failed"] and "ValueError: an odd image" in report[1]


def test_images_with_an_empty_list_of_labels_are_used(shades: None, workspace: Path) -> None:
    folder = labelled_folder(workspace / "known", 40)
    for number in range(40, 46):
        Image.new("RGB", (20, 20), (10, number, 10)).save(folder / f"{number:03}.png")
        write(folder / f"{number:03}.json", json.dumps({"tags": []}))
    _, report = calibrate(request(folder))
    assert "of 6 images without a label: 6 get no tag as it is, 6 with back-off" in report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "clip"}, "taggers/clip.yaml: already exists; choose another name"),
        ({"name": "a/b"}, "a/b: is not a valid file name"),
        ({"tagger": "beside"}, "--tagger beside: only the thresholds of open_clip taggers can be fitted"),
        ({"tagger": "clop"}, "tagger 'clop' is unknown: did you mean 'clip'"),
        ({"key": "kinds"}, "0 labelled images, too few to fit to (at least 20); left out: 25 no_labels"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    shades: None, workspace: Path, arguments: dict[str, Any], message: str
) -> None:
    folder = labelled_folder(workspace / "known", 25)
    before = {path.name: path.read_text() for path in Path("taggers").glob("*.yaml")}
    with pytest.raises(UserMistake) as caught:
        calibrate(request(folder, **arguments))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name: path.read_text() for path in Path("taggers").glob("*.yaml")} == before


def test_labelled_images_are_listed_before_the_model_is_loaded(workspace: Path) -> None:
    write(
        workspace / "taggers/clip.yaml", "about: x\nengine: open_clip\ntaxonomy: small\nmodel: hf-hub:nobody/nothing\n"
    )
    with pytest.raises(UserMistake, match="nope: no such file or folder"):
        calibrate(request(workspace / "nope"))


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
