"""Taggers beyond open_clip: a VLM that walks down the tree, the user's own class, and several together."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from synthgen import taggers as tagging
from synthgen.commands import preview
from synthgen.config import pipeline as pipelines
from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.engines import EngineDied, Request
from synthgen.errors import Mistakes, ModelUnavailable, SynthError, UserMistake
from synthgen.ingest.sources import list_objects
from synthgen.job.resolve import load_definitions
from synthgen.stages import listing, tag
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import Folder, Lease, Receipt, Stage
from synthgen.store.gc import collect_garbage
from synthgen.tables import IMAGES
from synthgen.taggers import CustomTaggerFile, Tagged, Tagger, TaggerSpec, VlmTaggerFile, ensemble
from synthgen.taggers.vlm import VlmTagger
from tests.fixtures.workspace import make_images, write

pytestmark = pytest.mark.usefixtures("workspace")
RED, BLUE = Image.new("RGB", (16, 16), (200, 30, 30)), Image.new("RGB", (16, 16), (30, 30, 200))

# An engine to whom red images are cats, and which does as it is told by `options` otherwise.
CHOOSER = """
import json
from synthgen.engines import EngineDied, EngineInfo, Reply

class Chooser:
    calls = []

    def __init__(self, name, settings):
        self.options = dict(settings.options)
        self.facts = EngineInfo(name.model, name.revision, frozenset({"schema"}), None, "1")

    async def generate(self, request):
        Chooser.calls.append(request)
        names = request.schema["properties"]["chosen"]["items"]["enum"]
        if self.options.get("die"):
            raise EngineDied("dead")
        if self.options.get("fail_on") in names:
            return Reply("", "error", "call_failed", "no")
        if self.options.get("babble_on") in names:
            return Reply('{"chosen": ["cat')
        wanted = self.options.get("wanted", ["animal", "cat"]) if request.image.getpixel((0, 0))[0] > 100 else []
        return Reply(json.dumps({"chosen": [name for name in names if name in wanted]}))

    async def close(self):
        pass
"""


@pytest.fixture
def chooser(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The module of the engine in the user's folder; the calls that it got."""
    import sys

    write(workspace / "chooser.py", CHOOSER)
    monkeypatch.syspath_prepend(str(workspace))
    sys.modules.pop("chooser", None)
    import chooser  # type: ignore[import-not-found]

    calls: list[Request] = chooser.Chooser.calls
    return calls


def vlm(options: Mapping[str, Any] | None = None, more: str = "") -> TaggerSpec:
    serve = {"kind": "chooser:Chooser", "gpus": 0, "options": options or {}}
    write(
        Path("taggers/mine.yaml"),
        f"about: x\nengine: vlm\ntaxonomy: small\nmodel: none\nserve: {json.dumps(serve)}\n{more}",
    )
    return tagging.resolved(tagging.load("mine"))


def tags_of(tool: Tagger, *images: Image.Image) -> list[Tagged]:
    """What a tagger says, after which it is closed."""
    try:
        return tool.tag([tool.prepare(image, None) for image in images])
    finally:
        if isinstance(tool, VlmTagger):
            tool.close()


def paths(found: Sequence[Tagged]) -> list[list[str]]:
    return [[tag["path"] for tag in one.tags] for one in found]


# --- a VLM that chooses --------------------------------------------------------------------------------------------------


def test_a_vlm_walks_only_the_branches_that_it_found_with_one_call_a_level(chooser: list[Request]) -> None:
    found = tags_of(tagging.open_tagger(vlm()), RED, BLUE)
    assert paths(found) == [["animal", "animal/cat"], []]
    listed = sorted(
        tuple(request.schema["properties"]["chosen"]["items"]["enum"]) for request in chooser if request.schema
    )
    assert listed == [("animal", "document"), ("animal", "document"), ("cat", "red_panda")]
    assert all(tag == {"path": tag["path"], "score": 1.0, "tagger": "mine"} for one in found for tag in one.tags)


def test_children_of_all_found_branches_are_asked_for_in_one_call(chooser: list[Request]) -> None:
    (found,) = tags_of(tagging.open_tagger(vlm({"wanted": ["animal", "document", "letter"]})), RED)
    assert [tag["path"] for tag in found.tags] == ["animal", "document", "document/letter"]
    assert len(chooser) == 2
    assert chooser[1].schema and chooser[1].schema["properties"]["chosen"]["items"]["enum"] == [
        "cat",
        "red_panda",
        "invoice",
        "letter",
    ]


def test_where_nothing_below_is_chosen_the_parent_stands(chooser: list[Request]) -> None:
    assert paths(tags_of(tagging.open_tagger(vlm({"wanted": ["animal"]})), RED)) == [["animal"]]


def test_the_image_comes_first_under_a_key_of_its_pixels_and_meanings_are_told(chooser: list[Request]) -> None:
    tags_of(tagging.open_tagger(vlm(more="question: Hm?\n")), RED, RED, BLUE)
    assert all(request.image is not None for request in chooser)
    assert len({request.image_key for request in chooser}) == 2
    assert "- cat: a small furry pet" in next(request.text for request in chooser if "cat" in request.text)
    assert all("Hm?" in request.text for request in chooser)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fail_on": "cat"}, "call_failed: no"),
        ({"babble_on": "animal"}, "not a choice: "),
        ({"babble_on": "cat"}, "not a choice"),
    ],
)
def test_a_walk_that_breaks_off_is_a_failure_and_not_half_an_answer(
    chooser: list[Request], options: Mapping[str, Any], said: str
) -> None:
    broken, whole = tags_of(tagging.open_tagger(vlm(options)), RED, BLUE)
    assert broken.tags == [] and said in str(broken.failure)
    assert options.get("babble_on") == "animal" or whole == Tagged([])


def test_an_engine_that_dies_is_no_failure_of_an_image(chooser: list[Request]) -> None:
    with pytest.raises(EngineDied):
        tags_of(tagging.open_tagger(vlm({"die": True})), RED)


def test_the_levels_and_the_whole_are_limited(chooser: list[Request]) -> None:
    options = {"wanted": ["animal", "document", "cat", "red_panda", "invoice", "letter"]}
    limited = vlm(options, "a_level: 1\n")
    assert paths(tags_of(tagging.open_tagger(limited), RED)) == [["animal", "animal/cat"]]
    assert paths(tags_of(tagging.open_tagger(vlm(options, "most: 3\n")), RED)) == [["animal", "document", "animal/cat"]]


def test_the_shipped_scripted_engine_serves_a_vlm_tagger() -> None:
    write(Path("taggers/mine.yaml"), "about: x\nengine: vlm\ntaxonomy: small\nmodel: none\nserve: {kind: scripted}\n")
    (found,) = tags_of(tagging.open_tagger(tagging.resolved(tagging.load("mine"))), RED)
    assert found.failure is None and len(found.tags) == 2 and found.tags[1]["path"].startswith(found.tags[0]["path"])


def test_the_fingerprint_of_a_vlm_tagger_follows_its_words_and_model_but_not_where_it_is_served(
    chooser: list[Request],
) -> None:
    first = vlm().fingerprint
    text = Path("taggers/mine.yaml").read_text()
    write(Path("taggers/mine.yaml"), text.replace('"gpus": 0', '"gpus": 0, "retries": 9'))
    assert tagging.resolved(tagging.load("mine")).fingerprint == first
    assert vlm({"wanted": ["cat"]}).fingerprint != first, "what shapes a reply shapes the tags"
    assert vlm(more="question: Hm?\n").fingerprint != first
    text = Path("taggers/mine.yaml").read_text()
    write(Path("taggers/mine.yaml"), text.replace("model: none", "model: other").replace("question: Hm?\n", ""))
    assert tagging.load("mine").fingerprint != first


def test_a_model_that_is_none_is_told_with_the_tagger_that_names_it() -> None:
    write(Path("taggers/mine.yaml"), "about: x\nengine: vlm\ntaxonomy: small\nmodel: /no/such\n")
    with pytest.raises(UserMistake, match="tagger 'mine': model /no/such: no such folder"):
        tagging.resolved(tagging.load("mine"))


def test_a_vlm_tagger_with_an_unknown_key_is_told_as_one() -> None:
    write(Path("taggers/mine.yaml"), "about: x\nengine: vlm\ntaxonomy: small\nmodel: none\nthreshold: 0.5\n")
    with pytest.raises(Mistakes, match="unknown key 'threshold'"):
        tagging.load("mine")


# --- the user's own code -------------------------------------------------------------------------------------------------

OWN = """
class Reds:
    def __init__(self, taxonomy, options):
        self.options = options
        if options.get("broken"):
            raise OSError("no model here")
        if options.get("mute"):
            self.tag = None

    def tag(self, images, metas):
        if self.options.get("short"):
            return []
        if "raises" in self.options:
            raise {"LookupError": LookupError, "MemoryError": MemoryError}[self.options["raises"]]("no\\nsuch \\udc80")
        if "said" in self.options:
            return [self.options["said"] for _ in images]
        is_red = [image.getpixel((0, 0))[0] > 100 for image in images]
        return [{"animal/cat": 0.9, "animal": 1} if red else {meta["tag"]: 0.5} for red, meta in zip(is_red, metas)]
"""


@pytest.fixture
def own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    write(workspace / "own_tagger.py", OWN)
    monkeypatch.syspath_prepend(str(workspace))
    sys.modules.pop("own_tagger", None)


def code(options: Mapping[str, Any] | None = None, engine: str = "own_tagger:Reds", more: str = "") -> TaggerSpec:
    write(
        Path("taggers/mine.yaml"),
        f"about: x\nengine: {engine}\ntaxonomy: small\noptions: {json.dumps(options or {})}\n{more}",
    )
    return tagging.load("mine")


def test_a_class_of_the_user_tags_by_the_documented_call(own: None) -> None:
    tool = tagging.open_tagger(code())
    found = tool.tag([tool.prepare(RED, None), tool.prepare(BLUE, '{"tag": "document"}')])
    assert found[0].tags == [
        {"path": "animal", "score": 1.0, "tagger": "mine"},
        {"path": "animal/cat", "score": 0.9, "tagger": "mine"},
    ]
    assert paths(found[1:]) == [["document"]]


def test_the_code_is_not_imported_before_it_runs() -> None:
    spec = code(engine="no_such_module:Thing")
    assert isinstance(spec.file, CustomTaggerFile)
    with pytest.raises(UserMistake, match="cannot import no_such_module"):
        tagging.open_tagger(spec)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({"animal/kat": 1.0}, "own_tagger:Reds: no tag of 'small' is 'animal/kat': did you mean 'animal/cat'"),
        ({"odd \n\udc80": 1.0}, r"own_tagger:Reds: no tag of 'small' is 'odd \udc80': known: "),
        ({"animal/cat": 2}, "the score of animal/cat is 2, not a number from 0 to 1"),
        ({"animal/cat": "sure"}, "the score of animal/cat is 'sure'"),
        ({"animal/cat": -0.5}, "the score of animal/cat is -0.5"),
        (["animal/cat"], "returned list for an image, not path -> score"),
    ],
)
def test_what_the_code_says_is_checked_and_costs_one_image(own: None, said: Any, failure: str) -> None:
    (found,) = tags_of(tagging.open_tagger(code({"said": said})), RED)
    assert found.tags == [] and failure in str(found.failure)


def test_code_that_loses_images_or_does_not_start_is_told(own: None) -> None:
    with pytest.raises(ValueError, match="returned no list of 1 for 1 images"):
        tags_of(tagging.open_tagger(code({"short": True})), RED)
    with pytest.raises(
        UserMistake,
        match=r"^tagger 'mine': own_tagger:Reds cannot be made: OSError: no model here \(own_tagger\.py:6\)$",
    ):
        tagging.open_tagger(code({"broken": True}))
    with pytest.raises(UserMistake, match=r"own_tagger:Reds has no method `tag`; docs/tagging\.md shows the call"):
        tagging.open_tagger(code({"mute": True}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import json\n\nclass Reds\n    pass\n", "SyntaxError: expected ':' (odd_tagger.py, line 3); mend it there"),
        ("import json\nlimits = {}['low']\n", "KeyError: 'low' (odd_tagger.py:2); mend it there"),
        ("import json\njson.lods('1')\n", "(odd_tagger.py:2); mend it there"),
        (
            "import no_such_library\n",
            "ModuleNotFoundError: No module named 'no_such_library' (odd_tagger.py:1); mend it there",
        ),
        ("raise SystemExit('wants arguments')\n", "SystemExit: wants arguments (odd_tagger.py:1); mend it there"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_line_with_the_place(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    write(workspace / "odd_tagger.py", text)
    monkeypatch.syspath_prepend(str(workspace))
    with pytest.raises(UserMistake) as caught:
        tagging.open_tagger(code(engine="odd_tagger:Reds"))
    assert str(caught.value).startswith("tagger 'mine': cannot import odd_tagger: ") and str(caught.value).endswith(
        said
    )
    assert "\n" not in str(caught.value)


def test_a_new_version_of_the_code_is_a_change_of_the_tagger() -> None:
    assert code().fingerprint == code().fingerprint != code(more='version: "2"\n').fingerprint
    assert isinstance(vlm().file, VlmTaggerFile)


@pytest.mark.parametrize(
    ("old", "new", "read_by"),
    [
        ("about: a few tags", "about: some tags", set()),
        ("a photo of {}", "a picture of {}", {"open_clip", "own"}),
        ("means: a page", "means: a page\n    also: [sheet]", {"open_clip", "own"}),
        ("a small furry climber", "a small furry bear", {"open_clip", "own", "vlm"}),
        ("red_panda", "panda", {"open_clip", "own", "vlm", "sidecar"}),
        ("      cat: a small furry pet\n", "", {"open_clip", "own", "vlm", "sidecar"}),
        (
            "      invoice: a bill\n      letter: a message\n",
            "      letter: a message\n      invoice: a bill\n",
            {"vlm"},
        ),
    ],
)
def test_a_tagger_is_another_after_an_edit_of_what_it_reads_of_the_taxonomy(
    chooser: list[Request], workspace: Path, old: str, new: str, read_by: set[str]
) -> None:
    head = "about: x\ntaxonomy: small\n"
    write(workspace / "taggers/clip.yaml", f"{head}engine: open_clip\nmodel: ViT-B-32\npretrained: openai\n")
    write(workspace / "taggers/words.yaml", f"{head}engine: sidecar\n")

    def found() -> dict[str, str]:
        specs = {"open_clip": tagging.load("clip"), "sidecar": tagging.load("words"), "vlm": vlm(), "own": code()}
        return {kind: spec.fingerprint for kind, spec in specs.items()}

    before, file = found(), workspace / "taggers/taxonomies/small.yaml"
    assert old in file.read_text()
    write(file, file.read_text().replace(old, new))
    after = found()
    assert {kind for kind in before if before[kind] != after[kind]} == read_by


# --- several taggers -----------------------------------------------------------------------------------------------------


def beside(name: str, key: str) -> TaggerSpec:
    write(Path(f"taggers/{name}.yaml"), f"about: x\nengine: sidecar\ntaxonomy: small\nkey: {key}\n")
    return tagging.load(name)


def terms_of(out: Folder, specs: Sequence[TaggerSpec]) -> tag.TagContext:
    return tag.TagContext(out, SourceConfig(uri="photos", sidecar=".json"), ImagesConfig(), tuple(specs), 4, "print")


def tagged(out: Folder, lease: Lease, specs: Sequence[TaggerSpec], update: bool = False) -> Receipt:
    """Tags the one partition that there is, as a worker does, and commits it."""
    terms = terms_of(out, specs)
    (work,) = tag.todo(Stage(out, tag.LISTED).log(), Stage(out, tag.TAGGED).log(), terms, update)
    worker = tag.TagWorker(terms)
    receipt = asyncio.run(worker.do(work))
    worker._decoder.close()
    assert receipt
    Stage(out, tag.TAGGED).commit(receipt, lease, 1)
    return receipt


def planned_tags(out: Folder, *names: str) -> list[list[tuple[str, float, str]]]:
    """What a plan sees of each image."""
    inputs = Inputs.of(out, names)
    rows = inputs.objects(inputs.partitions[0]).to_pylist()
    return [sorted((one["path"], round(one["score"], 2), one["tagger"]) for one in row["tags"]) for row in rows]


@pytest.fixture
def listed(workspace: Path, tmp_path: Path) -> tuple[Folder, Lease]:
    for place, path in enumerate(make_images(workspace / "photos", 2, ["cat"])):
        RED.resize((20 + place, 20)).save(path)
    out = Folder(str(tmp_path / "out"))
    lease = Lease.take(out)
    listing.run(out, list_objects(SourceConfig(uri="photos", sidecar=".json")), lease, "print")
    return out, lease


def test_tags_of_several_taggers_are_stored_apart_and_planned_together_each_with_its_name(
    own: None, listed: tuple[Folder, Lease]
) -> None:
    out, lease = listed
    receipt = tagged(out, lease, [beside("first", "tags"), code({"said": {"animal/cat": 0.5, "document": 0.4}})])
    assert {name for name in receipt.tables if name.startswith("tags/")} == {"tags/first", "tags/mine"}
    assert planned_tags(out, "first", "mine") == [[("animal/cat", 1.0, "first"), ("document", 0.4, "mine")]] * 2
    assert planned_tags(out, "mine") == [[("animal/cat", 0.5, "mine"), ("document", 0.4, "mine")]] * 2


def test_a_tagger_named_by_its_path_is_stored_inside_the_folder_and_outlives_tidying(
    own: None, listed: tuple[Folder, Lease]
) -> None:
    out, lease = listed
    whole = Path("taggers/first.yaml").absolute()
    names = (str(whole), "./taggers/first.yaml", "taggers/first.yaml", f"../../../../../../../../..{whole}", "first")
    beside("first", "tags")
    before = {path for path in Path(out.path).parent.rglob("*") if path.is_file()}
    receipt = tagged(out, lease, [tagging.load(name) for name in names])
    made = {path for path in Path(out.path).parent.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(Path(out.path, "1-tagged")) for path in made)
    assert len(receipt.tables) == 6 and "tags/first" in receipt.tables
    collect_garbage(out, (tag.LISTED, tag.TAGGED), lease)
    for name in names:
        assert planned_tags(out, name) == [[("animal/cat", 1.0, name)]] * 2
    assert not tag.todo(
        Stage(out, tag.LISTED).log(), Stage(out, tag.TAGGED).log(), terms_of(out, [tagging.load(names[0])]), True
    )


def test_another_tagger_is_an_update_like_any_other(own: None, listed: tuple[Folder, Lease]) -> None:
    out, lease = listed
    first = beside("first", "tags")
    tagged(out, lease, [first])
    both = (first, code({"said": {"document": 0.4}}))
    logs = Stage(out, tag.LISTED).log(), Stage(out, tag.TAGGED).log()
    assert not tag.todo(*logs, terms_of(out, both), False) and len(tag.todo(*logs, terms_of(out, both), True)) == 1
    tagged(out, lease, both, update=True)
    assert planned_tags(out, "first", "mine") == [[("animal/cat", 1.0, "first"), ("document", 0.4, "mine")]] * 2
    assert not tag.todo(logs[0], Stage(out, tag.TAGGED).log(), terms_of(out, both), True)


def test_what_a_tagger_said_stands_while_it_does_not_change(
    chooser: list[Request], own: None, listed: tuple[Folder, Lease]
) -> None:
    """A second tagger, and an edit of it, cost the first no call; an edit of the first does."""
    out, lease = listed
    vlm({"wanted": ["animal", "cat"]})
    Path("taggers/mine.yaml").rename("taggers/walker.yaml")
    walker = tagging.resolved(tagging.load("walker"))
    tagged(out, lease, [walker])
    calls = len(chooser)
    tagged(out, lease, [walker, code({"said": {"document": 0.4}})], update=True)
    tagged(out, lease, [walker, code({"said": {"document": 0.6}})], update=True)
    expected = [("animal", 1.0, "walker"), ("animal/cat", 1.0, "walker"), ("document", 0.6, "mine")]
    assert planned_tags(out, "walker", "mine") == [expected] * 2
    assert len(chooser) == calls
    text = Path("taggers/walker.yaml").read_text()
    write(Path("taggers/walker.yaml"), f"{text}question: Hm?\n")
    tagged(out, lease, [tagging.resolved(tagging.load("walker")), code({"said": {"document": 0.6}})], update=True)
    assert len(chooser) == 2 * calls


def test_an_embedding_stands_with_the_tags_of_its_tagger(
    listed: tuple[Folder, Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lease = listed
    write(Path("model/open_clip_config.json"), "{}")
    write(Path("model/weights.bin"), "")
    write(Path("taggers/clip.yaml"), "about: x\nengine: open_clip\ntaxonomy: small\nmodel: model\n")
    looks: list[int] = []

    class Embedder:
        def prepare(self, image: Image.Image, source_meta: str | None) -> int:
            looks.append(1)
            return 7

        def tag(self, inputs: Sequence[int]) -> list[Tagged]:
            return [Tagged([], np.array([0.25, 0.5], np.float32)) for _ in inputs]

    real = ensemble.open_tagger
    monkeypatch.setattr(ensemble, "open_tagger", lambda spec: Embedder() if spec.name == "clip" else real(spec))
    stage = Stage(out, tag.TAGGED)
    for specs in ([tagging.load("clip")], [tagging.load("clip"), beside("first", "tags")]):
        receipt = tagged(out, lease, specs, update=True)
        rows = stage.current(stage.log(), receipt.partition, "images", "object_id", IMAGES).to_pylist()
        assert [[float(value) for value in row["embedding"]] for row in rows] == [[0.25, 0.5]] * 2
    assert len(looks) == 2


def test_an_image_that_one_tagger_fails_on_is_quarantined_with_its_words(
    own: None, listed: tuple[Folder, Lease]
) -> None:
    out, lease = listed
    receipt = tagged(out, lease, [beside("first", "tags"), code({"said": {"animal/kat": 1}})])
    assert receipt.counts == {"quarantined.tagger_failed": 2}
    stage = Stage(out, tag.TAGGED)
    rows = stage.current(stage.log(), receipt.partition, "images", "object_id", IMAGES).to_pylist()
    assert all("no tag of 'small' is 'animal/kat'" in row["detail"] for row in rows)


def test_whatever_a_users_code_raises_costs_the_images_that_it_fails_on(
    own: None, listed: tuple[Folder, Lease]
) -> None:
    out, lease = listed
    receipt = tagged(out, lease, [code({"raises": "LookupError"})])
    assert receipt.counts == {"quarantined.tagger_failed": 2}
    stage = Stage(out, tag.TAGGED)
    rows = stage.current(stage.log(), receipt.partition, "images", "object_id", IMAGES).to_pylist()
    assert [row["detail"] for row in rows] == [r"LookupError: no such \udc80"] * 2


def test_memory_that_runs_out_is_no_images_failure(own: None, listed: tuple[Folder, Lease]) -> None:
    out, lease = listed
    with pytest.raises(MemoryError):
        tagged(out, lease, [code({"raises": "MemoryError"})])


def test_a_tagger_that_does_not_start_is_no_images_failure(
    listed: tuple[Folder, Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lease = listed

    def broken(*_: object) -> None:
        raise ImportError("a library\nis missing")

    monkeypatch.setattr(ensemble, "SidecarTagger", broken)
    with pytest.raises(ModelUnavailable, match=r"^tagger 'first' does not start: ImportError: a library is missing$"):
        tagged(out, lease, [beside("first", "tags")])


def preview_tags(spec: TaggerSpec) -> object:
    job = SimpleNamespace(texts=SimpleNamespace(taggers=(spec,)))
    return preview._tags(preview.PreviewTask(cast(Any, job), RED, "0", 16, 16, None))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"raises": "LookupError"}, "tagger mine: LookupError: no such"),
        ({"short": True}, "returned no list of 1 for 1 images"),
    ],
)
def test_a_preview_says_in_a_line_what_the_tagger_failed_of(own: None, options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(SynthError, match=said) as caught:
        preview_tags(code(options))
    assert "\n" not in str(caught.value)


def test_a_vlm_tagger_works_in_the_tagging_worker(chooser: list[Request], listed: tuple[Folder, Lease]) -> None:
    out, lease = listed
    assert tagged(out, lease, [vlm({"wanted": ["animal", "cat"]})]).counts == {"tagged": 2}
    assert planned_tags(out, "mine") == [[("animal", 1.0, "mine"), ("animal/cat", 1.0, "mine")]] * 2


def test_a_worker_gets_the_resources_of_its_vlm(chooser: list[Request]) -> None:
    assert tag.resources(terms_of(Folder("out"), [beside("first", "tags")]), 0.5) == (1, 0.5)
    assert tag.resources(terms_of(Folder("out"), [vlm()]), 0.5) == (1, 0.5)  # this engine takes no GPU
    write(Path("taggers/big.yaml"), "about: x\nengine: vlm\ntaxonomy: small\nmodel: a/b\nserve: {gpus: 2, cpus: 4}\n")
    assert tag.resources(terms_of(Folder("out"), [tagging.load("big")]), 0.5) == (4, 2)


def test_how_much_of_a_gpu_is_left_open_where_nobody_says_and_a_tagger_may_use_one(chooser: list[Request]) -> None:
    write(Path("taggers/big.yaml"), "about: x\nengine: vlm\ntaxonomy: small\nmodel: a/b\nserve: {gpus: 2, cpus: 4}\n")
    specs = {"code": code(), "sidecar": beside("first", "tags"), "vlm": tagging.load("big")}
    wanted = {name: tag.resources(terms_of(Folder("out"), [spec]), None)[1] for name, spec in specs.items()}
    assert wanted == {"code": None, "sidecar": 0, "vlm": 2}
    assert tag.resources(terms_of(Folder("out"), [specs["code"]]), 0) == (1, 0)
    assert tag.resources(terms_of(Folder("out"), list(specs.values())), None) == (4, 2)


@pytest.mark.parametrize(("given", "seen"), [([], ""), ([1], "0,1,2")])
def test_a_worker_without_a_gpu_of_its_own_sees_none(
    given: list[int], seen: str, own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray gives a worker it also makes visible; from one that gets none it hides nothing."""
    import os

    import ray

    monkeypatch.setattr(ray, "get_gpu_ids", lambda: given)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    worker = asyncio.run(tag.build(terms_of(Folder(str(tmp_path / "out")), [code()])))
    worker._decoder.close()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_a_pipeline_names_one_tagger_or_several() -> None:
    beside("first", "tags")
    pipeline = pipelines.load("small", ["tag.tagger=[beside, first]"])
    assert [one.name for one in load_definitions(pipeline).taggers] == ["beside", "first"]
    for wrong, said in (("[]", "must name a tagger"), ("[first, first]", "names a tagger twice")):
        with pytest.raises(Mistakes, match=said):
            pipelines.load("small", [f"tag.tagger={wrong}"])


def test_taggers_of_different_taxonomies_cannot_be_merged() -> None:
    write(Path("taggers/taxonomies/other.yaml"), "about: x\ntemplates: ['{}']\ntags: {thing: {means: a thing}}\n")
    write(Path("taggers/strange.yaml"), "about: x\nengine: sidecar\ntaxonomy: other\n")
    with pytest.raises(Mistakes, match="'strange' tags with taxonomy 'other' and 'beside' with 'small'"):
        tagging.load_all(["beside", "strange"])
