"""The open_clip tagger, over a tiny model with random weights and a small taxonomy."""

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthgen import taggers
from synthgen.errors import Mistakes, ModelUnavailable
from synthgen.taggers import ClipTagger, Floats, TaggerSpec
from tests.fixtures.tagging import clip_model, write_tagger
from tests.fixtures.workspace import DEFINITION_FILES, write

IMAGE = Image.new("RGB", (16, 16), (200, 30, 30))
LOW = "threshold: 1.0e-12\n"
pytestmark = pytest.mark.usefixtures("workspace")


def spec_of(model: Path, more: str = LOW) -> TaggerSpec:
    return write_tagger(f"engine: open_clip\nmodel: {model}\n{more}")


def open_clip_tagger(model: Path, more: str = LOW) -> ClipTagger:
    tagger = taggers.open_tagger(spec_of(model, more))
    assert isinstance(tagger, ClipTagger)
    return tagger


def pictures(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (20 + number, 16), (80 * number % 256, 40, 200)) for number in range(count)]


def embed(tagger: ClipTagger, images: Sequence[Image.Image]) -> Floats:
    return tagger.embed([tagger.prepare(image, None) for image in images])


# --- scores and tags ---------------------------------------------------------------------------------------------


def test_a_sigmoid_model_gives_each_tag_an_independent_probability(siglip: Path) -> None:
    tagger = open_clip_tagger(siglip)
    embeddings, texts = embed(tagger, pictures()), tagger._texts
    scale, bias = float(tagger._model.logit_scale.exp().detach()), float(tagger._model.logit_bias.detach())
    leaves = tagger._nodes.is_leaf
    expected = 1 / (1 + np.exp(-(scale * embeddings @ texts.T + bias)))
    assert np.allclose(tagger.probabilities(embeddings)[:, leaves], expected[:, leaves], rtol=1e-4, atol=0)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    assert np.allclose(np.linalg.norm(texts[leaves], axis=1), 1, atol=1e-5) and not texts[~leaves].any()


@pytest.mark.parametrize("model", ["siglip", "clip"])
def test_a_group_is_scored_from_its_children_and_its_own_text_if_it_has_one(
    model: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    plain = open_clip_tagger(folder)
    embeddings = embed(plain, pictures())
    before, column = plain.probabilities(embeddings), plain._paths.index
    if model == "siglip":
        assert np.array_equal(before[:, column("animal")], before[:, 1:3].max(axis=1))
    text = DEFINITION_FILES["taggers/taxonomies/small.yaml"]
    words = ("a dog", "two dogs", "wool", "a zoo", "fur and feathers")  # the model is random: one of them is surer
    risen = 0
    for own in words:
        edited = text.replace("a living creature", f"a living creature\n    text: {own}")
        write(Path("taggers/taxonomies/small.yaml"), edited)
        after = open_clip_tagger(folder, f"{LOW}gate: 0\n").probabilities(embeddings)
        assert (after[:, column("animal")] >= before[:, column("animal")]).all()
        risen += int((after[:, column("animal")] > before[:, column("animal")]).any())
    assert risen


def test_a_tag_that_no_clip_can_see_is_never_found_and_has_no_share(siglip: Path, clip: Path) -> None:
    text = DEFINITION_FILES["taggers/taxonomies/small.yaml"]
    unseen = text.replace("cat: a small furry pet", "cat: {means: a small furry pet, clip: false}")
    write(Path("taggers/taxonomies/small.yaml"), unseen)
    for model in (siglip, clip):
        tagger = open_clip_tagger(model)
        rows, column = tagger.probabilities(embed(tagger, pictures())), tagger._paths.index
        assert not rows[:, column("animal/cat")].any() and rows[:, column("animal/red_panda")].all()


def test_a_contrastive_model_divides_a_parents_probability_among_its_children(clip: Path) -> None:
    tagger = open_clip_tagger(clip)
    column = {path: index for index, path in enumerate(tagger._paths)}
    rows = tagger.probabilities(embed(tagger, pictures()))
    assert len(rows) == 3
    for row in rows:
        assert row[column["animal"]] + row[column["document"]] == pytest.approx(1, abs=1e-5)
        for parent, children in (("animal", ["cat", "red_panda"]), ("document", ["invoice", "letter"])):
            total = sum(row[column[f"{parent}/{child}"]] for child in children)
            assert total == pytest.approx(row[column[parent]], abs=1e-5)


def test_tags_come_surest_first_and_at_most_as_many_as_configured(siglip: Path) -> None:
    tagger = open_clip_tagger(siglip, f"{LOW}most: 3\n")
    results = tagger.tag([tagger.prepare(image, None) for image in pictures()])
    assert len(results) == 3
    for tagged, image in zip(results, pictures(), strict=True):
        row = tagger.probabilities(embed(tagger, [image]))[0]
        leaves = [score for score, is_leaf in zip(row, tagger._nodes.is_leaf, strict=True) if is_leaf]
        found = [tag["score"] for tag in tagged.tags if "/" in tag["path"]]
        assert found == pytest.approx(sorted(leaves, reverse=True)[:3], rel=1e-4)
        scores = [tag["score"] for tag in tagged.tags]
        assert scores == sorted(scores, reverse=True) and all(tag["tagger"] == "mine" for tag in tagged.tags)
        assert tagged.embedding is not None and tagged.embedding.shape == (16,)


def test_an_image_with_no_probability_above_a_threshold_has_no_tag(siglip: Path) -> None:
    tagger = open_clip_tagger(siglip, "threshold: 1\n")
    assert [tagged.tags for tagged in tagger.tag([tagger.prepare(IMAGE, None)])] == [[]]


@pytest.mark.parametrize("model", ["siglip", "clip"])
def test_an_embedding_that_is_not_a_number_gives_no_tag(model: str, request: pytest.FixtureRequest) -> None:
    tagger = open_clip_tagger(request.getfixturevalue(model))
    embeddings = embed(tagger, pictures(2))
    embeddings[0] = np.nan
    broken, whole = tagger.tag_embeddings(embeddings)
    assert broken.tags == [] and whole.tags != []


def test_an_image_gets_the_same_tags_in_a_batch_and_alone(siglip: Path) -> None:
    tagger = open_clip_tagger(siglip)
    together = tagger.tag([tagger.prepare(image, None) for image in pictures()])
    alone = [tagger.tag([tagger.prepare(image, None)])[0] for image in pictures()]
    assert all(tagged.tags for tagged in together)
    assert [[tag["path"] for tag in tagged.tags] for tagged in together] == [
        [tag["path"] for tag in tagged.tags] for tagged in alone
    ]


def test_a_closed_tagger_holds_no_model(siglip: Path) -> None:
    tagger = open_clip_tagger(siglip)
    model = weakref.ref(tagger._model)
    tagger.close()
    assert model() is None


# --- thresholds --------------------------------------------------------------------------------------------------


def test_the_last_threshold_whose_pattern_matches_counts(siglip: Path) -> None:
    more = 'threshold: 1\nthresholds: {"animal/**": 0.4, "*": 1.0e-12, "animal/cat": 1.0e-12}\n'
    spec = spec_of(siglip, more)
    assert {path: spec.file.threshold_of(path) for path in spec.taxonomy.tree.nodes} == {
        "animal": 1.0e-12, "animal/cat": 1.0e-12, "animal/red_panda": 0.4,
        "document": 1.0e-12, "document/invoice": 1, "document/letter": 1,
    }  # fmt: skip
    tagger = open_clip_tagger(siglip, more)
    (tagged,) = tagger.tag([tagger.prepare(IMAGE, None)])
    assert {tag["path"] for tag in tagged.tags} == {
        "animal",
        "animal/cat",
        "document",
    }  # a group below its limit backs off


def test_a_threshold_whose_pattern_matches_no_tag_is_reported(siglip: Path) -> None:
    with pytest.raises(Mistakes, match=r"no tag of 'small' is 'documnt/\*\*': did you mean 'document'"):
        spec_of(siglip, 'thresholds: {"documnt/**": 0.5}\n')


@pytest.mark.parametrize("value", ["30", "0", "-0.5"])
def test_a_threshold_that_is_not_a_probability_is_reported(siglip: Path, value: str) -> None:
    for more, where in (
        (f"threshold: {value}\n", "threshold"),
        (f'thresholds: {{"animal/**": {value}}}\n', r"thresholds\.animal/\*\*"),
    ):
        with pytest.raises(Mistakes, match=rf"^\S*mine\.yaml:5: {where}: must be (less|greater) than [^\n]*$"):
            spec_of(siglip, more)


# --- models that open_clip lists ---------------------------------------------------------------------------------

STRETCHED = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}


@pytest.fixture
def listed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Add the model `tiny` to those that open_clip lists, and return its listed weights; none need be fetched."""
    from open_clip import factory, pretrained

    settings = json.loads((clip / "open_clip_config.json").read_text())["model_cfg"]
    plain = {**STRETCHED, "file": str(weights_of(clip))}
    weights = {"plain": plain, "quick": {**plain, "quick_gelu": True}}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", settings)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", weights)
    return weights


def weights_of(folder: Path) -> Path:
    return folder / "open_clip_model.safetensors"


def activations(tagger: ClipTagger) -> set[str]:
    names = {type(module).__name__ for module in tagger._model.modules()}
    return {name for name in names if "GELU" in name}


@pytest.mark.parametrize(("weights", "activation"), [("plain", "GELU"), ("quick", "QuickGELU")])
def test_listed_weights_get_the_activation_that_they_were_trained_with(
    listed: dict[str, Any], weights: str, activation: str
) -> None:
    assert activations(open_clip_tagger(Path("tiny"), f"pretrained: {weights}\n")) == {activation}


def test_a_weights_file_prepares_images_as_all_listed_weights_of_its_model_do(
    listed: dict[str, Any], clip: Path
) -> None:
    by_file = open_clip_tagger(Path("tiny"), f"pretrained: {weights_of(clip)}\n")
    by_name = open_clip_tagger(Path("tiny"), "pretrained: plain\n")
    wide = Image.new("RGB", (48, 16), "black")
    wide.paste("white", (0, 0, 16, 16))  # outside of a centre crop
    tensor = by_file.prepare(wide, None)
    assert float(tensor.max()) == 1.0 and float(tensor.min()) == -1.0  # mean and deviation are 0.5
    assert np.array_equal(tensor, by_name.prepare(wide, None)) and activations(by_file) == {"GELU"}


@pytest.mark.parametrize(
    ("other", "finding"),
    [({"mean": (0.4,) * 3}, "prepares them in several ways"), (None, "lists no weights that would show it")],
)
def test_a_weights_file_is_refused_if_its_preprocessing_is_ambiguous(
    listed: dict[str, Any], clip: Path, other: dict[str, Any] | None, finding: str
) -> None:
    if other:
        listed["quick"].update(other)
    else:
        listed.clear()
    with pytest.raises(ModelUnavailable) as caught:
        open_clip_tagger(Path("tiny"), f"pretrained: {weights_of(clip)}\n")
    assert str(caught.value) == (
        f"tagger 'mine': open_clip does not load tiny: the file {weights_of(clip)} does not say how images are "
        f"prepared, and for this model open_clip {finding}; put the file into a folder with an "
        "open_clip_config.json, and name the folder as model"
    )


# --- models that do not work -------------------------------------------------------------------------------------


def test_a_model_that_cannot_work_is_reported_before_it_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(Mistakes, match=r"mine\.yaml:4: model .*: is a folder without open_clip_config\.json"):
        spec_of(folder)
    write(folder / "open_clip_config.json", "{}")
    with pytest.raises(Mistakes, match=r"holds no weights \(\*\.safetensors, \*\.bin, \*\.pth\)"):
        spec_of(folder)
    with pytest.raises(Mistakes, match="model demo/no-such-model: no such folder"):
        spec_of(Path("demo/no-such-model"))
    without = "model ViT-B-32: pretrained is missing; without weights the tags would be random"
    with pytest.raises(Mistakes, match=without):
        spec_of(Path("ViT-B-32"))


def test_a_model_that_does_not_load_is_one_line(siglip: Path, tmp_path: Path) -> None:
    broken = clip_model(tmp_path / "broken")
    weights_of(broken).write_bytes(b"nothing")
    with pytest.raises(ModelUnavailable) as caught:
        open_clip_tagger(broken)
    assert str(caught.value).startswith(f"tagger 'mine': open_clip does not load {broken}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelUnavailable, match="open_clip does not load ViT-B-99"):
        open_clip_tagger(Path("ViT-B-99"), "pretrained: x\n")


def test_weights_under_another_name_are_not_replaced_by_random_ones(tmp_path: Path) -> None:
    renamed = clip_model(tmp_path / "renamed")
    spec = spec_of(renamed)
    weights_of(renamed).rename(renamed / "other.pt")
    with pytest.raises(ModelUnavailable, match="open_clip does not load"):
        taggers.open_tagger(spec)
    with pytest.raises(Mistakes, match="holds no weights"):
        spec_of(renamed)


# --- the cache of text embeddings --------------------------------------------------------------------------------


def test_texts_are_embedded_once(siglip: Path, text_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_clip_tagger(siglip)
    assert len(list(text_cache.iterdir())) == 1
    import open_clip

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("texts embedded again")

    monkeypatch.setattr(open_clip.CLIP, "encode_text", refuse)
    assert np.array_equal(open_clip_tagger(siglip)._texts, first._texts)


def test_texts_are_embedded_again_after_a_change_of_taxonomy_or_model(
    siglip: Path, tmp_path: Path, text_cache: Path
) -> None:
    before = open_clip_tagger(siglip)._texts
    text = DEFINITION_FILES["taggers/taxonomies/small.yaml"]
    write(Path("taggers/taxonomies/small.yaml"), text.replace("a bill", "a demand for money"))
    changed = open_clip_tagger(siglip)._texts
    assert not np.array_equal(before, changed) and len(list(text_cache.iterdir())) == 2
    same = [index for index in range(len(before)) if np.allclose(before[index], changed[index])]
    assert len(same) == len(before) - 1
    write(Path("taggers/taxonomies/small.yaml"), text)
    moved = clip_model(tmp_path / "model", seed=1)
    assert not np.allclose(open_clip_tagger(moved)._texts, before) and len(list(text_cache.iterdir())) == 3
    clip_model(moved, seed=2)
    open_clip_tagger(moved)
    assert len(list(text_cache.iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"nonsense"])
def test_a_damaged_cache_file_is_written_again(siglip: Path, text_cache: Path, damage: bytes) -> None:
    first = open_clip_tagger(siglip)._texts
    (cached,) = text_cache.iterdir()
    cached.write_bytes(damage)
    assert np.array_equal(open_clip_tagger(siglip)._texts, first)
    assert cached.stat().st_size > len(damage)


def test_texts_are_embedded_without_a_writable_cache(
    siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "file", "not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_clip_tagger(siglip)._texts.shape == (6, 16)


# --- identity ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_settings_taxonomy_and_model(siglip: Path, clip: Path) -> None:
    fingerprints = {spec_of(siglip).fingerprint, spec_of(clip).fingerprint}
    for more in ("threshold: 0.2\n", "most_a_parent: 2\n", "least: 2\n", "least_share: 0.3\n", "gate: 0.5\n"):
        fingerprints.add(spec_of(siglip, more).fingerprint)
    taxonomy = DEFINITION_FILES["taggers/taxonomies/small.yaml"]
    write(Path("taggers/taxonomies/small.yaml"), taxonomy.replace("a bill", "a note"))
    fingerprints.add(spec_of(siglip).fingerprint)
    assert len(fingerprints) == 8
    write(Path("taggers/taxonomies/small.yaml"), taxonomy)
    assert spec_of(siglip).fingerprint in fingerprints


def test_the_fingerprint_follows_the_order_of_thresholds(siglip: Path) -> None:
    wide, narrow = '"animal/**": 0.4', '"animal/cat": 0.2'
    narrow_last = spec_of(siglip, f"thresholds: {{{wide}, {narrow}}}\n")
    wide_last = spec_of(siglip, f"thresholds: {{{narrow}, {wide}}}\n")
    assert [spec.file.threshold_of("animal/cat") for spec in (narrow_last, wide_last)] == [0.2, 0.4]
    assert narrow_last.fingerprint != wide_last.fingerprint


def test_the_fingerprint_follows_the_version_of_the_arithmetic(siglip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec_of(siglip).fingerprint
    monkeypatch.setattr("synthgen.taggers.clip.SCORING", "another way")
    assert spec_of(siglip).fingerprint != before


def test_the_fingerprint_does_not_follow_the_description(siglip: Path) -> None:
    before = spec_of(siglip)
    path = Path("taggers/mine.yaml")
    write(path, path.read_text().replace("about: x", "about: another word"))
    after = taggers.load("mine")
    assert after.file.about == "another word" and after.fingerprint == before.fingerprint


def test_an_embedding_is_identified_by_the_weights_in_the_models_folder(siglip: Path, tmp_path: Path) -> None:
    """So new weights under the same path do not use stored embeddings of the old ones."""
    model = clip_model(tmp_path / "model", seed=1)
    first = spec_of(model).embedding_model
    assert spec_of(model, "threshold: 0.2\n").embedding_model == first
    assert spec_of(clip_model(tmp_path / "copy", seed=1)).embedding_model == first
    clip_model(model, seed=2)
    assert spec_of(model).embedding_model != first


def test_a_weights_file_is_identified_by_its_bytes(workspace: Path) -> None:
    specs = []
    for weights in (b"one", b"two"):
        (workspace / "weights.bin").write_bytes(weights)
        spec = spec_of(Path("ViT-B-32"), "pretrained: weights.bin\n")
        specs.append((spec.fingerprint, spec.embedding_model))
    first, second = specs
    assert first[0] != second[0] and first[1] != second[1]
    assert spec_of(Path("ViT-B-32"), "pretrained: openai\n").embedding_model == ["ViT-B-32", "openai"]
