"""Taggers: words that came with an image, and a tiny open_clip model with random weights over a small taxonomy."""

import asyncio
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen import taggers
from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.engines.revision import folder_digest
from synthgen.errors import Mistakes, ModelUnavailable, UserMistake
from synthgen.ingest.sources import list_objects
from synthgen.stages import listing, tag
from synthgen.store import Folder, Lease, StageFolder
from synthgen.tables import LIST, TAG, tag_counts
from synthgen.taggers import ClipTagger, ClipTaggerFile, Tagger, TaggerSpec, ensemble
from tests.fixtures.workspace import SHELVES, make_images, write

IMAGE = Image.new("RGB", (16, 16), (200, 30, 30))
pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text embeddings of these tests stay among themselves."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder_digest.cache_clear()
    return tmp_path / "cache/synthgen/text-embeddings"


# --- tags that came along --------------------------------------------------------------------------------------------


def sidecar(more: str = "") -> TaggerSpec:
    write(Path("taggers/mine.yaml"), f"about: x\nengine: sidecar\ntaxonomy: small\n{more}")
    return taggers.load("mine")


def paths(spec: TaggerSpec, *metas: str | None) -> list[list[str]]:
    reader = taggers.open_tagger(spec)
    found = reader.tag([reader.prepare(IMAGE, meta) for meta in metas])
    assert all(tag["score"] == 1.0 and tag["tagger"] == "mine" for one in found for tag in one.tags)
    assert all(one.embedding is None for one in found)
    return [[tag["path"] for tag in one.tags] for one in found]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["cat"], ["animal/cat"]),
        (["animal/cat", "document"], ["animal/cat", "document"]),
        ("cat, invoice ,nonsense", ["animal/cat", "document/invoice"]),
        (["Red  Panda", "red_panda", "CAT"], ["animal/red_panda", "animal/cat"]),
        (["kitty", "Katze"], ["animal/cat"]),
        (["dog", "animal/dog", "", 5, None, ["cat"], {"name": "cat"}], []),
        ([], []),
        (None, []),
        (5, []),
        ({"cat": 1}, ["animal/cat"]),
        ([{"path": "cat"}, {"path": "letter", "score": None}], ["animal/cat", "document/letter"]),
    ],
)
def test_words_of_the_source_become_tags_that_the_taxonomy_knows(tags: Any, expected: list[str]) -> None:
    spec = sidecar("names: {kitty: animal/cat, Katze: animal/cat}\n")
    assert paths(spec, json.dumps({"tags": tags})) == [expected]


@pytest.mark.parametrize(
    "tags",
    [
        {"letter": 0.25, "animal/cat": 0.75, "cat": 0.5},
        [
            {"path": "letter", "score": 0.25},
            {"path": "cat", "score": 0.5},
            {"path": "animal/cat", "score": 0.75, "by": "somebody"},
        ],
    ],
)
def test_a_score_may_stand_beside_a_tag_and_the_surest_counts(tags: Any) -> None:
    reader = taggers.open_tagger(sidecar())
    (found,) = reader.tag([reader.prepare(IMAGE, json.dumps({"tags": tags}))])
    assert [(tag["path"], tag["score"]) for tag in found.tags] == [("animal/cat", 0.75), ("document/letter", 0.25)]
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("meta", "phrase"),
    [
        (None, "no sidecar"),
        ("", "no sidecar"),
        (
            '{"sidecar_unreadable": "JSONDecodeError: Expecting value"}',
            "unreadable sidecar: JSONDecodeError: Expecting value",
        ),
        ("{", "unreadable sidecar: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('["cat"]', "no tags: […] in place of keys with values"),
        ('{"labels": ["cat"], "by": "x"}', "no tags: no key 'tags', only 'labels', 'by'"),
        ("{}", "no tags: no key 'tags'"),
        ('{"tags": 5}', "no tags: 5 under 'tags'"),
        ('{"tags": ["cat", "nonsense_tag", 5, "nonsense_tag", null]}', "no such tag: 'nonsense_tag', 5, null"),
        (
            '{"tags": [["cat"], {"name": "cat"}, {}, "odd\\n\\ud800"]}',
            r"no such tag: […], {'name': …}, {}, 'odd\n\ud800'",
        ),
        (
            '{"tags": {"cat": 7, "kat": 1, "letter": true}}',
            "no such tag: 'kat'; bad score: 7 of 'cat', true of 'letter'",
        ),
        (
            '{"tags": [{"path": "cat", "score": "sure"}, {"path": "letter", "score": NaN}]}',
            "bad score: 'sure' of 'cat', NaN of 'letter'",
        ),
        (json.dumps({"tags": ["x" * 50, *("y" * 40,) * 2, "z"]}), f"no such tag: '{'x' * 39}… and 2 more"),
    ],
)
def test_what_is_left_out_of_a_sidecar_is_told_in_a_phrase(meta: str | None, phrase: str) -> None:
    reader = taggers.open_tagger(sidecar())
    (found,) = reader.tag([reader.prepare(IMAGE, meta)])
    assert found.left_out == (f"mine: {phrase}",) and found.failure is None


def test_where_nothing_is_left_out_nothing_is_told() -> None:
    reader = taggers.open_tagger(sidecar())
    metas = ['{"tags": ["cat", ""]}', '{"tags": []}', '{"tags": null}', '{"tags": "cat, letter,"}', '{"tags": {}}']
    assert [one.left_out for one in reader.tag([reader.prepare(IMAGE, meta) for meta in metas])] == [()] * 5


def test_the_words_can_stand_under_another_key() -> None:
    assert paths(sidecar("key: labels\n"), '{"labels": ["cat"], "tags": ["invoice"]}') == [["animal/cat"]]


@pytest.mark.parametrize(
    "meta",
    [None, "", "{", "[]", '"cat"', "5", "null", "[" * 100_000, '{"tags": ["\\ud800"]}', '{"sidecar_unreadable": "x"}'],
)
def test_what_came_along_may_be_anything(meta: str | None) -> None:
    assert paths(sidecar(), meta, '{"tags": ["cat"]}') == [[], ["animal/cat"]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@pytest.fixture
def reader() -> Tagger:
    return taggers.open_tagger(sidecar())


@given(JSON)
def test_no_json_stops_the_reader(reader: Tagger, value: Any) -> None:
    for meta in (value, {"tags": value}):
        (found,) = reader.tag([reader.prepare(IMAGE, json.dumps(meta))])
        assert all(tag["path"] for tag in found.tags)
        assert all(len(phrase) <= 200 and "\n" not in phrase and len(counted(phrase)) > 1 for phrase in found.left_out)


def counted(phrase: str) -> dict[str, int]:
    """What a commit counts of an image with this phrase, beside its outcome."""
    counts = tag_counts([{"outcome": "tagged", "reason": None, "detail": phrase}])
    return {name: count for name, count in counts.items() if name != "tagged"}


def test_a_new_name_for_a_tag_that_is_not_there_is_told() -> None:
    with pytest.raises(Mistakes, match=r"mine\.yaml:4: no tag of 'small' is 'animal/kat': did you mean 'animal/cat'\?"):
        sidecar("names: {kitty: animal/kat}\n")


# --- open_clip -------------------------------------------------------------------------------------------------------


def clip_model(folder: Path, bias: float | None = -10.0, seed: int = 0) -> Path:
    """A model of a few thousand weights as open_clip stores one; with a bias it is of SigLIP's kind, without of CLIP's."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    settings: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    settings |= {"init_logit_bias": bias} if bias is not None else {}
    torch.manual_seed(seed)
    model = open_clip.CLIP(**settings)
    folder.mkdir(parents=True, exist_ok=True)
    look = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": look}))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_model(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_model(tmp_path_factory.mktemp("clip"), bias=None)


def spec_of(folder: Path, more: str = "threshold: 1.0e-12\n") -> TaggerSpec:
    write(Path("taggers/mine.yaml"), f"about: x\nengine: open_clip\ntaxonomy: small\nmodel: {folder}\n{more}")
    return taggers.load("mine")


def opened(folder: Path, more: str = "threshold: 1.0e-12\n") -> ClipTagger:
    found = taggers.open_tagger(spec_of(folder, more))
    assert isinstance(found, ClipTagger)
    return found


def pictures(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (20 + number, 16), (80 * number % 256, 40, 200)) for number in range(count)]


def embeddings(found: ClipTagger, images: Sequence[Image.Image]) -> Any:
    return found.embed([found.prepare(image, None) for image in images])


def test_a_sigmoid_model_gives_each_tag_a_probability_of_its_own(siglip: Path) -> None:
    found = opened(siglip)
    seen = embeddings(found, pictures())
    scale, bias = float(found._model.logit_scale.exp().detach()), float(found._model.logit_bias.detach())
    texts = found._texts
    assert np.allclose(found.probabilities(seen), 1 / (1 + np.exp(-(scale * seen @ texts.T + bias))), atol=1e-6)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-3) and np.allclose(
        np.linalg.norm(texts, axis=1), 1, atol=1e-5
    )


def test_a_contrastive_model_shares_a_parents_probability_among_its_children(clip: Path) -> None:
    found = opened(clip)
    place = {path: index for index, path in enumerate(found._paths)}
    for row in found.probabilities(embeddings(found, pictures())):
        assert row[place["animal"]] + row[place["document"]] == pytest.approx(1, abs=1e-5)
        for parent, children in (("animal", ["cat", "red_panda"]), ("document", ["invoice", "letter"])):
            assert sum(row[place[f"{parent}/{child}"]] for child in children) == pytest.approx(
                row[place[parent]], abs=1e-5
            )


def test_tags_come_surest_first_with_their_score_and_at_most_so_many(siglip: Path) -> None:
    found = opened(siglip, "threshold: 1.0e-12\nmost: 3\n")
    for one, image in zip(found.tag([found.prepare(image, None) for image in pictures()]), pictures(), strict=True):
        row = found.probabilities(embeddings(found, [image]))[0]
        assert [tag["score"] for tag in one.tags] == pytest.approx(sorted(row, reverse=True)[:3], rel=1e-4)
        assert all(tag["tagger"] == "mine" and tag["path"] in found._paths for tag in one.tags)
        assert one.embedding is not None and one.embedding.shape == (16,)


def test_an_image_with_nothing_sure_enough_has_no_tag(siglip: Path) -> None:
    found = opened(siglip, "threshold: 1\n")
    assert [one.tags for one in found.tag([found.prepare(IMAGE, None)])] == [[]]


def test_the_last_threshold_whose_pattern_fits_counts(siglip: Path) -> None:
    write(Path("taggers/mine.yaml"), "")
    more = 'threshold: 1\nthresholds: {"animal/**": 0.4, "*": 1.0e-12, "animal/cat": 1.0e-12}\n'
    spec = spec_of(siglip, more)
    assert isinstance(spec.file, ClipTaggerFile)
    limits = {path: taggers.threshold(spec.file, path) for path in spec.taxonomy.tree.nodes}
    assert limits == {
        "animal": 1.0e-12, "animal/cat": 1.0e-12, "animal/red_panda": 0.4,
        "document": 1.0e-12, "document/invoice": 1, "document/letter": 1,
    }  # fmt: skip
    found = opened(siglip, more)
    assert {tag["path"] for tag in found.tag([found.prepare(IMAGE, None)])[0].tags} == {
        "animal",
        "animal/cat",
        "document",
    }


def test_a_threshold_for_no_tag_at_all_is_told(siglip: Path) -> None:
    with pytest.raises(Mistakes, match=r"no tag of 'small' is 'documnt/\*\*': did you mean 'document'"):
        spec_of(siglip, 'thresholds: {"documnt/**": 0.5}\n')


@pytest.mark.parametrize("value", ["30", "0", "-0.5"])
def test_a_threshold_that_is_no_probability_is_told(siglip: Path, value: str) -> None:
    for more, where in (
        (f"threshold: {value}\n", "threshold"),
        (f'thresholds: {{"animal/**": {value}}}\n', r"thresholds\.animal/\*\*"),
    ):
        with pytest.raises(Mistakes, match=rf"^\S*mine\.yaml:5: {where}: must be (less|greater) than [^\n]*$"):
            spec_of(siglip, more)


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_numbers_that_are_none_become_no_tag(kind: str, request: pytest.FixtureRequest) -> None:
    found = opened(request.getfixturevalue(kind))
    seen = embeddings(found, pictures(2))
    seen[0] = np.nan
    rows = found.probabilities(seen)
    assert found._chosen(rows[0]) == [] and found._chosen(rows[1]) != []


def test_a_batch_is_its_images_one_by_one(siglip: Path) -> None:
    found = opened(siglip)
    together = found.tag([found.prepare(image, None) for image in pictures()])
    alone = [found.tag([found.prepare(image, None)])[0] for image in pictures()]
    assert [[tag["path"] for tag in one.tags] for one in together] == [
        [tag["path"] for tag in one.tags] for one in alone
    ]


def test_a_closed_tagger_holds_no_model(siglip: Path) -> None:
    found = opened(siglip)
    model = weakref.ref(found._model)
    found.close()
    assert model() is None


# --- models that open_clip has a name for ------------------------------------------------------------------------------

STRETCHED = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}


@pytest.fixture
def named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """open_clip knows the model `tiny`, and what this holds of weights for it; no weights need be fetched."""
    from open_clip import factory, pretrained

    settings = json.loads((clip / "open_clip_config.json").read_text())["model_cfg"]
    plain = {**STRETCHED, "file": str(weights_of(clip))}
    known = {"plain": plain, "quick": {**plain, "quick_gelu": True}}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", settings)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", known)
    return known


def weights_of(folder: Path) -> Path:
    return folder / "open_clip_model.safetensors"


def activations(found: ClipTagger) -> set[str]:
    return {type(one).__name__ for one in found._model.modules() if "GELU" in type(one).__name__}


@pytest.mark.parametrize(("weights", "activation"), [("plain", "GELU"), ("quick", "QuickGELU")])
def test_weights_with_a_name_get_the_activation_that_they_were_trained_with(
    named: dict[str, Any], weights: str, activation: str
) -> None:
    assert activations(opened(Path("tiny"), f"pretrained: {weights}\n")) == {activation}


def test_weights_in_a_file_see_images_as_all_named_weights_of_their_model_do(named: dict[str, Any], clip: Path) -> None:
    by_file, by_name = (
        opened(Path("tiny"), f"pretrained: {weights_of(clip)}\n"),
        opened(Path("tiny"), "pretrained: plain\n"),
    )
    wide = Image.new("RGB", (48, 16), "black")
    wide.paste("white", (0, 0, 16, 16))  # cut away, were the middle taken
    seen = by_file.prepare(wide, None)
    assert float(seen.max()) == 1.0 and float(seen.min()) == -1.0  # by mean and deviation 0.5
    assert np.array_equal(seen, by_name.prepare(wide, None)) and activations(by_file) == {"GELU"}


@pytest.mark.parametrize(
    ("known", "ways"), [({"mean": (0.4,) * 3}, "in several ways"), (None, "in no way that it knows")]
)
def test_weights_in_a_file_whose_images_could_be_prepared_in_several_ways_are_refused(
    named: dict[str, Any], clip: Path, known: dict[str, Any] | None, ways: str
) -> None:
    if known:
        named["quick"].update(known)
    else:
        named.clear()
    with pytest.raises(ModelUnavailable) as caught:
        opened(Path("tiny"), f"pretrained: {weights_of(clip)}\n")
    assert str(caught.value) == (
        f"tagger 'mine': open_clip does not load tiny: the file {weights_of(clip)} does not say how images are prepared, and for this "
        f"model open_clip does so {ways}; put it into a folder with an open_clip_config.json, and name the folder as model"
    )


# --- embeddings of the taxonomy, kept on disk --------------------------------------------------------------------------


def test_the_texts_are_embedded_once(siglip: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(siglip)
    assert len(list(cache.iterdir())) == 1
    import open_clip

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("texts embedded again")

    monkeypatch.setattr(open_clip.CLIP, "encode_text", refuse)
    assert np.array_equal(opened(siglip)._texts, first._texts)


def test_a_change_of_taxonomy_or_model_embeds_anew(siglip: Path, clip: Path, tmp_path: Path, cache: Path) -> None:
    before = opened(siglip)._texts
    text = SHELVES["taggers/taxonomies/small.yaml"]
    write(Path("taggers/taxonomies/small.yaml"), text.replace("a bill", "a demand for money"))
    changed = opened(siglip)._texts
    assert not np.array_equal(before, changed) and len(list(cache.iterdir())) == 2
    same = [path for path in range(len(before)) if np.allclose(before[path], changed[path])]
    assert len(same) == len(before) - 1
    write(Path("taggers/taxonomies/small.yaml"), text)
    moved = clip_model(tmp_path / "model", seed=1)
    assert not np.allclose(opened(moved)._texts, before) and len(list(cache.iterdir())) == 3
    clip_model(moved, seed=2)
    folder_digest.cache_clear()
    opened(moved)
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"nonsense"])
def test_a_damaged_file_of_embeddings_is_made_again(siglip: Path, cache: Path, damage: bytes) -> None:
    first = opened(siglip)._texts
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert np.array_equal(opened(siglip)._texts, first)
    assert kept.stat().st_size > len(damage)


def test_without_a_folder_to_write_to_the_texts_are_embedded(
    siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "file", "not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert opened(siglip)._texts.shape == (6, 16)


def test_the_fingerprint_follows_settings_taxonomy_and_model(siglip: Path, clip: Path) -> None:
    found = {spec_of(siglip).fingerprint, spec_of(clip).fingerprint, spec_of(siglip, "threshold: 0.2\n").fingerprint}
    write(Path("taggers/taxonomies/small.yaml"), SHELVES["taggers/taxonomies/small.yaml"].replace("a bill", "a note"))
    found.add(spec_of(siglip).fingerprint)
    assert len(found) == 4
    write(Path("taggers/taxonomies/small.yaml"), SHELVES["taggers/taxonomies/small.yaml"])
    assert spec_of(siglip).fingerprint in found


def test_the_fingerprint_follows_the_order_of_thresholds_because_the_last_that_matches_counts(siglip: Path) -> None:
    wide, narrow = '"animal/**": 0.4', '"animal/cat": 0.2'
    first, second = (
        spec_of(siglip, f"thresholds: {{{one}, {other}}}\n") for one, other in ((wide, narrow), (narrow, wide))
    )
    assert isinstance(first.file, ClipTaggerFile) and isinstance(second.file, ClipTaggerFile)
    assert [taggers.threshold(file, "animal/cat") for file in (first.file, second.file)] == [0.2, 0.4]
    assert first.fingerprint != second.fingerprint


# --- in a worker -------------------------------------------------------------------------------------------------------


class Moody:
    """A tagger that fails on some images, alone or in company."""

    def __init__(self, stage: str, bad: set[int]) -> None:
        self._stage, self._bad, self._seen = stage, bad, 0

    def prepare(self, image: Image.Image, source_meta: str | None) -> int:
        self._seen += 1
        if self._stage == "prepare" and self._seen in self._bad:
            raise KeyError("an odd image")
        return self._seen

    def tag(self, inputs: Sequence[int]) -> list[taggers.Tagged]:
        if self._stage == "tag" and self._bad & set(inputs):
            raise ZeroDivisionError("an odd tensor")
        return [taggers.Tagged([]) for _ in inputs]


@pytest.mark.parametrize("stage", ["prepare", "tag"])
def test_an_image_that_the_tagger_cannot_take_costs_one_row(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(Path("photos"), 6)
    out, source = Folder(str(tmp_path / "out")), SourceConfig(uri="photos")
    listing.run(out, list_objects(source), Lease.take(out), "print")
    terms = tag.TagContext(out, source, ImagesConfig(), (sidecar(),), 4, "print")
    (work,) = tag.todo(StageFolder(out, LIST).log(), StageFolder(out, TAG).log(), terms, False)
    monkeypatch.setattr(ensemble, "open_tagger", lambda spec: Moody(stage, {2, 5}))
    worker = tag.TagWorker(terms)
    receipt = asyncio.run(worker.do(work))
    worker._decoder.close()
    assert receipt.counts == {"tagged": 4, "quarantined.tagger_failed": 2} and worker.progress() == {"images": 6}


def test_no_image_counts_as_done_before_the_tagger_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(Path("photos"), 6)
    out, source = Folder(str(tmp_path / "out")), SourceConfig(uri="photos")
    listing.run(out, list_objects(source), Lease.take(out), "print")
    terms = tag.TagContext(out, source, ImagesConfig(), (sidecar(),), 4, "print")
    (work,) = tag.todo(StageFolder(out, LIST).log(), StageFolder(out, TAG).log(), terms, False)

    def opened(spec: taggers.TaggerSpec) -> None:
        raise ModelUnavailable("no weights")

    monkeypatch.setattr(ensemble, "open_tagger", opened)
    worker = tag.TagWorker(terms)
    with pytest.raises(ModelUnavailable):
        asyncio.run(worker.do(work))
    worker._decoder.close()
    assert worker.progress() == {"images": 0}


# --- models that are none ----------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_one_is_told_before_anything_starts(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Mistakes, match=r"mine\.yaml:4: model .*: is a folder without open_clip_config\.json"):
        spec_of(empty)
    write(empty / "open_clip_config.json", "{}")
    with pytest.raises(Mistakes, match="holds no weights"):
        spec_of(empty)
    with pytest.raises(Mistakes, match="model demo/no-such-model: no such folder"):
        spec_of(Path("demo/no-such-model"))
    with pytest.raises(
        Mistakes, match="model ViT-B-32: pretrained is missing; without weights the tags would be drawn by lot"
    ):
        spec_of(Path("ViT-B-32"))


def test_a_model_that_does_not_load_is_one_line(siglip: Path, tmp_path: Path) -> None:
    broken = clip_model(tmp_path / "broken")
    (broken / "open_clip_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelUnavailable) as caught:
        opened(broken)
    assert str(caught.value).startswith(f"tagger 'mine': open_clip does not load {broken}: ") and "\n" not in str(
        caught.value
    )
    with pytest.raises(ModelUnavailable, match="open_clip does not load ViT-B-99"):
        taggers.open_tagger(spec_of(Path("ViT-B-99"), "pretrained: x\n"))


def test_weights_of_another_name_are_not_replaced_by_random_ones(siglip: Path, tmp_path: Path) -> None:
    renamed = clip_model(tmp_path / "renamed")
    spec = spec_of(renamed)
    (renamed / "open_clip_model.safetensors").rename(renamed / "other.pt")
    with pytest.raises(ModelUnavailable, match="open_clip does not load"):
        taggers.open_tagger(spec)
    with pytest.raises(Mistakes, match=r"holds no weights \(\*\.safetensors, \*\.bin, \*\.pth\)"):
        spec_of(renamed)


def test_words_about_a_tagger_are_no_change_of_it(siglip: Path) -> None:
    before = spec_of(siglip)
    write(Path("taggers/mine.yaml"), Path("taggers/mine.yaml").read_text().replace("about: x", "about: another word"))
    assert taggers.load("mine").file.about == "another word" and taggers.load("mine").fingerprint == before.fingerprint


def test_an_unknown_engine_or_taxonomy_is_one_line() -> None:
    write(Path("taggers/mine.yaml"), "about: x\nengine: rules\ntaxonomy: small\nmodel: x\n")
    with pytest.raises(
        Mistakes, match=r"mine\.yaml:2: no engine is called 'rules': known: module:Class, open_clip, sidecar, vlm"
    ):
        taggers.load("mine")
    write(Path("taggers/mine.yaml"), "about: x\nengine: sidecar\ntaxonomy: smal\n")
    with pytest.raises(UserMistake, match="taxonomy 'smal' is unknown"):
        taggers.load("mine")
