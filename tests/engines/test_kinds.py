"""Kinds of engine: those of the package, one that another package adds, a class of the user's own, unknown names."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synthgen import taggers
from synthgen.commands.doctor.command import needed_packages
from synthgen.commands.plan import pricing
from synthgen.config import pipeline as pipelines
from synthgen.config.engine import EngineConfig, PriceConfig
from synthgen.config.generation import GenerateConfig
from synthgen.config.library import Section
from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.engines import ModelName, check_engine, kinds, open_engine
from synthgen.engines.endpoint import settings_fault
from synthgen.engines.kinds import ENGINE_KINDS, engine_kind, gpus_of, kind_of, reply_options, resolve_model
from synthgen.errors import Mistakes, ModelUnavailable, UserMistake
from synthgen.ingest.images.shared_memory import BYTES_PER_PIXEL
from synthgen.job import job, resolve
from synthgen.stages import memory, tag
from synthgen.stages.pack.card import ShardContents, card
from synthgen.store import Folder
from synthgen.workers import cluster
from tests.fixtures.packages import InstallPackage
from tests.fixtures.tagging import write_tagger
from tests.fixtures.workspace import DEFINITION_FILES, write

pytestmark = pytest.mark.usefixtures("workspace")
OWN = "mine:Engine"
TRIED = ("vllm", "endpoint", "scripted", "toy", OWN)
TOY = """
from synthgen.engines import EngineInfo
from synthgen.engines.kinds import EngineKind

opened = []

class Engine:
    def __init__(self, name, settings):
        self.facts = EngineInfo(name.model, name.revision, frozenset({"labels"}), None, "toy 1")

    async def generate(self, request):
        raise NotImplementedError

    async def close(self):
        opened.append("closed")

async def start(name, settings):
    opened.append(name)
    return Engine(name, settings)

def fault(settings):
    return None if settings.urls else "a toy needs urls"

KIND = EngineKind("toy", start, settings_fault=fault, reply_options=("size",), images_in_memory=7,
                  memory_advice="take a smaller toy", capabilities=frozenset({"labels"}), needs=("vllm",))
"""


@pytest.fixture
def package(install_package: InstallPackage) -> Path:
    """Install a package that adds the kind `toy` and two that are broken; return the module of the first."""
    points = "toy = toy_engine:KIND\ngone = no_such_module:KIND\nodd = toy_engine:Engine"
    return install_package("toy", "toy_engine", TOY, points, kinds.ENTRY_POINTS)


@pytest.fixture
def own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a class of the user's own; return its module."""
    monkeypatch.syspath_prepend(str(workspace))
    yield write(
        workspace / "mine.py",
        "from synthgen.engines import EngineInfo\n\n"
        "class Engine:\n"
        "    def __init__(self, name, settings):\n"
        "        self.facts = EngineInfo(name.model, name.revision, frozenset(), None, '1')\n\n"
        "    async def generate(self, request):\n"
        "        raise KeyError(request.text)\n",
    )
    sys.modules.pop("mine", None)


def generate(model: Path | str = "some-model", **engine: Any) -> GenerateConfig:
    return GenerateConfig(model=str(model), prompts="small", engine=EngineConfig(**engine))


def small(**engine: Any) -> pipelines.Pipeline:
    """Return the small pipeline with another engine."""
    pipeline = pipelines.load("small", ["select.keep={}"])
    return pipeline.model_copy(update={"generate": generate(**engine)})


def card_of(kind: str) -> str:
    """Return the text of a card above its table of facts."""
    turns: dict[str, dict[str, int]] = {"type": {}, "form": {}, "language": {}}
    contents = ShardContents([], [], 0, 0, turns, {}, {})
    return card(contents, {"Engine": kind}, SelectConfig(), PackConfig()).partition("## Where")[0]


def mistakes(*overrides: str) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        resolve.load(pipelines.read("small", overrides))
    return list(caught.value.lines)


def one_line_of(name: str) -> str:
    with pytest.raises(UserMistake) as caught:
        engine_kind(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- a kind that another package adds --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["toy", OWN])
def test_an_engine_of_another_package_or_of_the_user_gets_its_gpus(
    package: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[float] = []
    monkeypatch.setattr(cluster, "join_ray", lambda home: None)

    def check_resources(cpus: float, gpus: float) -> None:
        wanted.append(gpus)
        raise UserMistake("enough")

    monkeypatch.setattr(cluster, "check_resources", check_resources)
    for gpus in (2.0, 0.0):
        settings = EngineConfig(kind=kind, gpus=gpus)
        assert gpus_of(settings) == gpus
        with pytest.raises(UserMistake, match="enough"):
            cluster.run_in_actor(check_engine, (ModelName("m", "r"), settings), settings)
    assert wanted == [2.0, 0.0]


def test_a_tagger_gets_the_gpus_of_its_engine(package: Path) -> None:
    write(
        Path("taggers/mine.yaml"),
        "about: x\nengine: vlm\ntaxonomy: small\nmodel: m\nserve: {kind: toy, gpus: 2, urls: ['http://x']}\n",
    )
    out, pipeline = Folder("out"), pipelines.load("small")
    context = tag.TagContext(out, pipeline.source, pipeline.images, (taggers.load("mine"),), 1, "")
    assert tag.resources(context, None) == (1, 2.0)


@pytest.mark.parametrize("kind", ["toy", OWN])
def test_the_revision_of_such_an_engine_is_that_of_its_files_or_the_configured_one(
    package: Path, tmp_path: Path, kind: str
) -> None:
    write(tmp_path / "weights/model.bin", "w")
    before = resolve_model(generate(tmp_path / "weights", kind=kind)).revision
    assert before.startswith("files:")
    write(tmp_path / "weights/model.bin", "other")
    assert resolve_model(generate(tmp_path / "weights", kind=kind)).revision != before
    assert resolve_model(generate("a/b", kind=kind)) == ModelName("a/b", "unverified")
    configured = generate("a/b", kind=kind).model_copy(update={"revision": "2026-01"})
    assert resolve_model(configured) == ModelName("a/b", "2026-01")


def test_only_the_card_of_the_shipped_scripted_engine_says_that_its_replies_mean_nothing(package: Path) -> None:
    says = {kind: "The replies mean nothing" in card_of(kind) for kind in TRIED}
    assert says == {"vllm": False, "endpoint": False, "scripted": True, "toy": False, OWN: False}


def test_such_an_engine_costs_by_the_gpu_hour(package: Path) -> None:
    hour, price = pricing.Usage(seconds=3600), PriceConfig(gpu_hour=3)
    gpus = {kind: gpus_of(EngineConfig(kind=kind, gpus=2)) for kind in TRIED}
    assert {kind: pricing.money(hour, price, count) for kind, count in gpus.items()} == {
        "vllm": 6,
        "endpoint": 3,
        "scripted": 3,
        "toy": 6,
        OWN: 6,
    }


def test_host_memory_covers_the_images_that_an_engine_keeps(package: Path) -> None:
    image = small().images.model_pixels * BYTES_PER_PIXEL
    plain = memory.generate_bytes(small(kind="vllm"))
    assert memory.generate_bytes(small(kind="toy")) - plain == 7 * image
    assert memory.generate_bytes(small(kind="endpoint")) - plain == 128 * image
    assert memory.generate_bytes(small(kind=OWN)) == memory.generate_bytes(small(kind="scripted")) == plain


def test_a_kind_says_what_to_do_when_memory_runs_out_and_which_modules_it_needs(package: Path) -> None:
    assert "if it was for memory, take a smaller toy; " in str(
        cluster._ended("it was killed", EngineConfig(kind="toy"))
    )
    assert "for memory" not in str(cluster._ended("it was killed", EngineConfig(kind="endpoint")))
    for engine, packages in (("{kind: toy}", ["vllm"]), (f"{{kind: '{OWN}'}}", []), ("{}", ["vllm"])):
        text = DEFINITION_FILES["pipelines/small.yaml"].replace("{kind: scripted}", engine)
        assert needed_packages(str(write(Path("pipelines/other.yaml"), text))) == packages


def test_a_kind_decides_which_options_make_pairs_anew(package: Path) -> None:
    options = {"size": 1, "dtype": "x", "colour": "red"}
    shaping = {kind: reply_options(EngineConfig(kind=kind, options=options)) for kind in TRIED}
    everything = {"endpoint": options, OWN: options}
    assert shaping == {"vllm": {"dtype": "x", "image_tokens": 1280}, "scripted": {}, "toy": {"size": 1}, **everything}


def test_such_an_engine_is_opened_and_checked(package: Path) -> None:
    settings = EngineConfig(kind="toy", urls=("http://x",))
    asyncio.run(check_engine((ModelName("m", "r"), settings)))
    import toy_engine  # type: ignore[import-not-found]

    assert toy_engine.opened == [ModelName("m", "r"), "closed"]
    with pytest.raises(UserMistake, match=r"^engine: a toy needs urls$"):
        asyncio.run(open_engine(ModelName("m", "r"), EngineConfig(kind="toy")))


def test_options_that_a_kind_of_another_package_does_not_know_are_one_line(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Options(Section):
        size: int = 1

    monkeypatch.setitem(ENGINE_KINDS, "sized", replace(engine_kind("toy"), name="sized", options=Options))
    settings = EngineConfig(kind="sized", urls=("http://x",), options={"szie": 2})
    with pytest.raises(ModelUnavailable, match=r"^engine kind sized: options\.szie: .*; known: size$"):
        asyncio.run(open_engine(ModelName("m", "r"), settings))


def test_mistakes_in_the_settings_of_such_an_engine_are_reported_with_all_others(package: Path) -> None:
    engine, scores = "generate.engine={kind: toy}", "generate.scores=[image_gain]"
    assert mistakes(engine, scores, "select.keep={}", "tag.bach=1") == [
        "--set tag.bach=1: unknown key 'bach' in tag: did you mean 'batch'?",
        f"--set {engine}: generate.engine: a toy needs urls",
        f"--set {scores}: generate.scores: 'image_gain' needs prompt log-probabilities, "
        "which engine kind toy does not give; take it out of the scores and select.keep, or use engine kind vllm",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "gone",
            "engine kind 'gone' of package toy (no_such_module:KIND) does not load: "
            "ModuleNotFoundError: No module named 'no_such_module'; fix or uninstall the package",
        ),
        (
            "odd",
            "engine kind 'odd' of package toy (toy_engine:Engine) is not an EngineKind; fix or uninstall the package",
        ),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_is_one_line(package: Path, name: str, message: str) -> None:
    assert one_line_of(name) == message
    assert mistakes(f"generate.engine.kind={name}") == [
        f"--set generate.engine.kind={name}: generate.engine.kind: {message}"
    ]


def test_no_package_is_imported_for_a_kind_that_it_does_not_add(package: Path) -> None:
    for name in ENGINE_KINDS:
        engine_kind(name)
    one_line_of("tyo")
    assert "toy_engine" not in sys.modules


# --- names of no kind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vlm", "did you mean 'vllm'?"),
        ("endpiont", "did you mean 'endpoint'?"),
        ("toyy", "did you mean 'toy'?"),
        ("transformers", f"known: {', '.join(sorted((*ENGINE_KINDS, 'gone', 'module:Class', 'odd', 'toy')))}"),
    ],
)
def test_a_name_of_no_kind_is_one_line_with_the_nearest(package: Path, name: str, hint: str) -> None:
    assert one_line_of(name) == f"'{name}' is not a kind of engine: {hint}"


def test_a_name_of_no_kind_is_reported_with_its_line_and_all_other_mistakes() -> None:
    text = (
        DEFINITION_FILES["pipelines/small.yaml"]
        .replace("{kind: scripted}", "\n    kind: vlm")
        .replace("answer]", "answre]")
    )
    path = write(Path("pipelines/small.yaml"), text)
    assert mistakes("plan.per_image=0") == [
        "--set plan.per_image=0: plan.per_image: must be greater than 0, not 0",
        f"{Path.cwd() / path}:9: generate.engine.kind: 'vlm' is not a kind of engine: did you mean 'vllm'?",
        f"{Path.cwd() / path}:10: generate.scores: 'answre' is not a score: did you mean 'answer'?",
        f"{Path.cwd() / path}:11: select.keep: 'answer' is not scored; add it to generate.scores (likelihood, answre)",
    ]


def test_the_engine_of_a_tagger_is_checked_like_that_of_a_pipeline() -> None:
    tagger = "about: x\nengine: vlm\ntaxonomy: small\nmodel: m\nserve:\n  kind: {}\n"
    path = Path.cwd() / write(Path("taggers/mine.yaml"), tagger.format("vlm"))
    with pytest.raises(Mistakes) as caught:
        taggers.load("mine")
    assert caught.value.lines == [f"{path}:6: serve.kind: 'vlm' is not a kind of engine: did you mean 'vllm'?"]
    write(path, tagger.format("endpoint"))
    with pytest.raises(Mistakes, match=r":6: serve: an endpoint needs urls"):
        taggers.load("mine")


def test_an_endpoint_without_urls_is_one_line() -> None:
    message = "an endpoint needs urls, a list of base URLs such as http://127.0.0.1:8000/v1"
    setting = "generate.engine.kind=endpoint"
    assert mistakes(setting) == [f"--set {setting}: generate.engine: {message}"]


def test_settings_that_never_reach_an_endpoint_are_named() -> None:
    beside = "urls: ['http://127.0.0.1:1/v1'], options: {top_k: 20, max_model_len: 4096}, image_tokens: 500"
    (line,) = mistakes(setting := f"generate.engine={{kind: endpoint, {beside}}}")
    assert line == (
        f"--set {setting}: generate.engine: options.max_model_len, image_tokens would not reach an endpoint; "
        "start its server with that, and leave it out here"
    )
    served = EngineConfig(kind="endpoint", urls=("http://127.0.0.1:1/v1",), options={"top_k": 20})
    again = EngineConfig.model_validate(served.model_dump())  # as a run record has it, with every default
    assert settings_fault(served) is settings_fault(again) is None


def test_until_the_first_reply_a_model_loads_here_and_elsewhere_nobody_knows() -> None:
    here, served = EngineConfig(), EngineConfig(kind="endpoint", urls=("http://127.0.0.1:1/v1",))
    assert kinds.first_wait([served]) == "no reply yet"
    assert kinds.first_wait([here]) == kinds.first_wait([here, served]) == "the model is loading"


def test_a_kind_that_is_no_text_is_one_mistake() -> None:
    assert mistakes("generate.engine.kind=3") == [
        "--set generate.engine.kind=3: generate.engine.kind: must be text, not 3"
    ]


# --- a class of the user's own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"kind": OWN}, {"kind": "scripted", "script": OWN}])
def test_a_class_of_the_users_own_is_opened_by_module_and_name(own: Path, settings: dict[str, Any]) -> None:
    engine: Any = asyncio.run(open_engine(ModelName("m", "r"), EngineConfig(**settings)))
    assert (engine.facts.model, engine.facts.revision) == ("m", "r")
    assert kind_of(EngineConfig(**settings)).name == OWN and gpus_of(EngineConfig(**settings)) == 1


@pytest.mark.parametrize(
    ("kind", "source", "error", "message"),
    [
        (
            "mine_bad:Engine",
            "def Engine(name, settings): raise OSError('no device\\nhere')",
            ModelUnavailable,
            "engine mine_bad:Engine: OSError: no device here",
        ),
        (
            "mine_odd:Engine",
            "import json\njson.nope\n",
            UserMistake,
            "engine mine_odd:Engine: cannot import mine_odd: AttributeError: module 'json' has no attribute 'nope' "
            "(mine_odd.py:2); fix it there",
        ),
        (
            "mine_lean:Engine",
            "import no_such_library\n",
            UserMistake,
            "engine mine_lean:Engine: cannot import mine_lean: ModuleNotFoundError: No module named "
            "'no_such_library' (mine_lean.py:1); fix it there",
        ),
        ("mine_gone:Engine", "", UserMistake, "mine_gone:Engine: module mine_gone has no 'Engine'"),
        ("mine_absent:Engine", None, UserMistake, "mine_absent:Engine: cannot import mine_absent"),
    ],
)
def test_a_class_that_does_not_load_is_one_line(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    source: str | None,
    error: type[Exception],
    message: str,
) -> None:
    module = kind.partition(":")[0]
    if source is not None:
        write(workspace / f"{module}.py", source)
    monkeypatch.syspath_prepend(str(workspace))
    with pytest.raises(error) as caught:
        asyncio.run(open_engine(ModelName("m", "r"), EngineConfig(kind=kind)))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    sys.modules.pop(module, None)


def test_the_earlier_spelling_needs_its_kind() -> None:
    engine = f"generate.engine={{kind: vllm, script: '{OWN}'}}"
    message = f"generate.engine.script: is of kind scripted; write kind: {OWN} instead"
    assert mistakes(engine) == [f"--set {engine}: {message}"]


def test_a_folder_that_was_made_with_the_earlier_spelling_keeps_its_pairs(own: Path, tmp_path: Path) -> None:
    out = Folder(str(tmp_path / "out"))
    earlier = small(kind="scripted", script=OWN, options={"dtype": "x", "size": 1})
    new, again = (
        job.open_job(out, earlier, record=record)
        for record in ({}, {"shape": {"generated": {"model": ["some-model", "scripted"]}}})
    )
    assert new.model == ModelName("some-model", "unverified")
    assert again.model == ModelName("some-model", "scripted") and again.shape["generated"]["engine"] == {"dtype": "x"}
    assert job.open_job(out, small(kind=OWN), record={"shape": again.shape}).model == new.model


def test_a_folder_that_was_made_with_the_earlier_spelling_keeps_its_tags(tmp_path: Path) -> None:
    options = "options: {max_model_len: 512, seed: 1}, template: {think: false}, gpus: 2"
    serve = f"{{kind: scripted, script: 'chooser:Chooser', {options}}}"
    write_tagger(f"engine: vlm\nmodel: none\na_level: 2\nserve: {serve}\n")
    pipeline = pipelines.load("small", ["select.keep={}", "tag.tagger=mine"])
    recorded = "c7c663cb35997121fe2f2e56b16aef7d"  # with "scripted" as the model's revision
    new, again = (
        job.open_job(Folder(str(tmp_path / "out")), pipeline, record={"shape": {"tags": {"mine": fingerprint}}})
        for fingerprint in ("another", recorded)
    )
    assert new.definitions.taggers[0].model == ModelName("none", "unverified")
    assert again.shape["tags"] == {"mine": recorded}
