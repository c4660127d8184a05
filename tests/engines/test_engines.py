"""Models: which exact one a name stands for, what makes a pair of today, and the engine that tests misbehave with."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen.config import prompt_pack
from synthgen.config.pipeline import EngineConfig, GenerateConfig, ImagesConfig, SamplingConfig, SourceConfig
from synthgen.config.replies import Question, parse_questions, question_schema
from synthgen.engines import EngineDied, ModelName, Reply, Request, open_engine
from synthgen.engines.revision import folder_digest, resolve
from synthgen.engines.scripted import ScriptedEngine
from synthgen.errors import Failure, ModelUnavailable, SynthError, UserMistake
from synthgen.stages.generate.context import GenerateContext
from synthgen.store import Folder
from tests.fixtures.workspace import write

# --- which model a name stands for -----------------------------------------------------------------------------------


def model_folder(folder: Path, **files: bytes) -> Path:
    """A folder that looks like a small model; files by their names, `_` for the point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["SmallModel"]}))
    (folder / "model.safetensors").write_bytes(tensors(8))
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def tensors(size: int, kept: int | None = None) -> bytes:
    """A safetensors file with one tensor of `size` bytes, of which only some are there."""
    header = json.dumps(
        {"__metadata__": {"a": "b"}, "w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size if kept is None else kept)


def named(model: Path | str, **more: Any) -> ModelName:
    folder_digest.cache_clear()
    return resolve(GenerateConfig(model=str(model), prompts="small", **more))


def test_a_local_model_is_its_files_wherever_they_lie(tmp_path: Path) -> None:
    one, other = named(model_folder(tmp_path / "one")), named(model_folder(tmp_path / "other"))
    assert one.revision == other.revision and one.revision.startswith("files:")
    assert one.model == str(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.safetensors", tensors(9)),
        ("config.json", b'{"architectures": ["Other"]}'),
        ("chat_template.jinja", b"hello"),
        ("merges.txt", b"a b"),
        ("tokenizer.model", b"x"),
        ("model.pt", b"x"),
        ("model.pth", b"x"),
        ("model.gguf", b"x"),
    ],
)
def test_the_revision_of_a_local_model_changes_when_a_file_does(tmp_path: Path, name: str, data: bytes) -> None:
    folder = model_folder(tmp_path / "model")
    before = named(folder).revision
    (folder / name).write_bytes(data)
    assert named(folder).revision != before


def test_files_that_no_model_reads_do_not_count(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    before = named(folder).revision
    write(folder / "README.md", "hello")
    write(folder / "logs/run.json", "{}")
    assert named(folder).revision == before


def test_the_same_bytes_under_another_name_are_another_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", merges_txt=b"a b")
    before = named(folder).revision
    (folder / "merges.txt").rename(folder / "merge.txt")  # the same place in order
    assert named(folder).revision != before


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"config_json": b"{"}, "its config.json is not JSON"),
        ({"config_json": b"[]"}, "its config.json names no architecture"),
        ({"config_json": b"{}"}, "its config.json names no architecture"),
        ({"model_safetensors": tensors(800, kept=100)}, "model.safetensors is cut short"),
        ({"model_safetensors": b""}, "model.safetensors is cut short"),
        ({"model_safetensors": b"version https://git-lfs.github.com/spec/v1"}, "model.safetensors is cut short"),
        (
            {"model_safetensors_index_json": b'{"weight_map": {"a": "m-1", "b": "m-2"}}'},
            "lacks m-1, which its index names (and 1 more)",
        ),
    ],
)
def test_a_folder_that_cannot_be_a_model_is_told_before_anything_starts(
    tmp_path: Path, files: dict[str, bytes], fault: str
) -> None:
    folder = model_folder(tmp_path / "model", **files)
    with pytest.raises(UserMistake) as caught:
        named(folder)
    assert (
        str(caught.value).startswith(f"generate.model {folder}: ")
        and fault in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_a_folder_without_config_or_weights_is_one_line(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserMistake, match="holds no weights"):
        named(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserMistake, match=r"is a folder without config\.json; give a model folder or a hub name"):
        named(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "./gone", "~/gone", "gone", "a/b/c", "../x"])
def test_a_missing_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserMistake) as caught:
        named(name)
    where = "" if name[0] in "/~" else f" in {tmp_path}"
    assert str(caught.value) == f"generate.model {name}: no such folder{where}, and a hub name reads organisation/model"


@pytest.mark.parametrize("name", ["organisation/model-that-is-not-cached", "a b/c", "-a/b"])
def test_a_hub_name_that_nobody_has_is_one_line(name: str) -> None:
    with pytest.raises(UserMistake) as caught:
        named(name, revision="main")
    assert str(caught.value).startswith(f"generate.model {name}") and "no such folder here" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_without_a_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class NoRoute(Exception):
        """What HTTP libraries raise is no OSError."""

    def fail(self: object, model: str, revision: str | None = None) -> None:
        raise NoRoute("[Errno -2] Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(UserMistake, match=r"the hub does not give it \(\[Errno -2\] Name or service not known\)$"):
        named("organisation/model")


def test_a_cached_hub_model_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def cached(model: str, name: str, revision: str | None = None) -> str:
        return str(tmp_path / "snapshots/0123abc/config.json")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert named("organisation/model", revision="main") == ModelName("organisation/model", "0123abc")


def test_endpoints_and_scripts_are_taken_at_their_word() -> None:
    endpoint = EngineConfig(kind="endpoint", urls=("http://127.0.0.1:1/v1",))
    assert named("anything", engine=endpoint) == ModelName("anything", "unverified")
    assert named("anything", engine=EngineConfig(kind="scripted")) == ModelName("anything", "scripted")


# --- what makes a pair of today ----------------------------------------------------------------------------------------


def terms(**changes: Any) -> GenerateContext:
    made = GenerateContext(
        out=Folder("/nowhere"),
        source=SourceConfig(),
        images=ImagesConfig(),
        prompts=prompt_pack.load("small"),
        model=ModelName("/models/one", "files:0123"),
        engine=EngineConfig(options={"dtype": "bfloat16", "max_num_seqs": 8}),
        sampling=SamplingConfig(),
        scores=("likelihood", "agreement"),
        seed=0,
    )
    return replace(made, **changes)


SHAPING: dict[str, dict[str, Any]] = {
    "weights": {"model": ModelName("/models/one", "files:4567")},
    "hub model": {"model": ModelName("a/b", "0123")},
    "endpoint's model": {"model": ModelName("a/b", "unverified")},
    "dtype": {"engine": EngineConfig(options={"dtype": "float32"})},
    "quantization": {"engine": EngineConfig(options={"dtype": "bfloat16", "quantization": "fp8"})},
    "longest prompt": {"engine": EngineConfig(options={"dtype": "bfloat16", "max_model_len": 512})},
    "what the processor does": {
        "engine": EngineConfig(options={"dtype": "bfloat16", "mm_processor_kwargs": {"max_pixels": 1}})
    },
    "overridden configuration": {"engine": EngineConfig(options={"dtype": "bfloat16", "hf_overrides": {"x": 1}})},
    "chat template": {"engine": EngineConfig(options={"dtype": "bfloat16"}, template={"enable_thinking": False})},
    "ask temperature": {"sampling": SamplingConfig(ask_temperature=0.1)},
    "answer temperature": {"sampling": SamplingConfig(answer_temperature=0.1)},
    "top p": {"sampling": SamplingConfig(top_p=0.5)},
    "size of images": {"images": ImagesConfig(model_pixels=1000)},
    "seed": {"seed": 1},
}
IDLE: dict[str, dict[str, Any]] = {
    "place of the model": {"model": ModelName("/models/moved", "files:0123")},
    "replicas": {
        "engine": EngineConfig(
            options={"dtype": "bfloat16"}, replicas=4, in_flight=9, retries=0, call_seconds=5, gpus=0
        )
    },
    "engine's speed": {
        "engine": EngineConfig(options={"dtype": "bfloat16", "max_num_seqs": 99, "gpu_memory_utilization": 0.5})
    },
    "environment": {"engine": EngineConfig(options={"dtype": "bfloat16"}, environment={"OMP_NUM_THREADS": "1"})},
    "samples of a score": {"sampling": SamplingConfig(agree_samples=9, agree_temperature=0.1)},
    "scores": {"scores": ()},
    "limits of decoding": {"images": ImagesConfig(max_bytes=5, decode_seconds=1)},
    "source": {"source": SourceConfig(uri="/elsewhere")},
}
pytestmark = pytest.mark.usefixtures("workspace")


@pytest.mark.parametrize("change", SHAPING.values(), ids=SHAPING)
def test_what_shapes_a_text_makes_every_pair_another(change: dict[str, Any]) -> None:
    before, after = terms().recipes(), terms(**change).recipes()
    assert set(before) == set(after) and not set(before.values()) & set(after.values())
    assert terms().fingerprint(before) != terms().fingerprint(after)


@pytest.mark.parametrize("change", IDLE.values(), ids=IDLE)
def test_what_only_says_how_fast_or_where_leaves_every_pair(change: dict[str, Any]) -> None:
    assert terms(**change).recipes() == terms().recipes()


def test_a_chat_template_without_options_is_no_part_of_a_recipe() -> None:
    """So that pairs from before there were such options are still of today."""
    assert EngineConfig(options={"dtype": "bfloat16", "seed": 1}, template={}).shaping == {"dtype": "bfloat16"}


def test_two_hub_models_are_two_models_even_of_one_commit() -> None:
    one, other = (terms(model=ModelName(name, "0123")).recipes() for name in ("a/b", "a/c"))
    assert not set(one.values()) & set(other.values())


def test_every_type_and_form_has_a_recipe_of_its_own() -> None:
    found = terms().recipes()
    assert len(set(found.values())) == len(found) == 5


def test_a_score_is_of_today_by_its_own_settings() -> None:
    before = terms().score_fingerprints()
    after = terms(sampling=SamplingConfig(agree_samples=9)).score_fingerprints()
    assert before["likelihood"] == after["likelihood"] and before["agreement"] != after["agreement"]


# --- the scripted engine ------------------------------------------------------------------------------------------------

ASK = Request(
    "ask", "Ask 3 questions", 99, image=Image.new("RGB", (4, 4)), image_key="abc", schema=question_schema(False, 3)
)


def replies(options: dict[str, Any], *requests: Request, **more: Any) -> list[Reply]:
    async def talk() -> list[Reply]:
        engine = await open_engine(
            ModelName("none", "scripted"), EngineConfig(kind="scripted", options=options, **more)
        )
        return [await engine.generate(request) for request in requests]

    return asyncio.run(talk())


def test_the_scripted_engine_says_what_the_parsers_read() -> None:
    (found,) = replies({}, ASK)
    assert (
        isinstance(questions := parse_questions(found.text, "json", None, False), list)
        and len({one.text for one in questions}) == 3
    )
    (found,) = replies({}, replace(ASK, schema=question_schema(True, 2)))
    assert isinstance(questions := parse_questions(found.text, "json", None, True), list) and all(
        len(one.options) == 4 for one in questions
    )
    (found,) = replies({}, replace(ASK, schema=None))
    assert isinstance(questions := parse_questions(found.text, "lines", "none", False), list) and isinstance(
        questions[0], Question
    )
    assert parse_questions(replies({"decline": 1}, ASK)[0].text, "json", None, False) == Failure("declined")
    assert parse_questions(
        replies({"decline": 1}, replace(ASK, schema=None))[0].text, "lines", "none", False
    ) == Failure("declined")
    assert isinstance(parse_questions(replies({"junk": 1}, ASK)[0].text, "json", None, False), Failure)


def test_the_scripted_engine_says_the_same_each_time() -> None:
    other = replace(ASK, image_key="other")
    assert replies({}, ASK, ASK, other) == replies({}, ASK, ASK, other)
    assert replies({}, ASK)[0] != replies({}, other)[0]


def test_the_scripted_engine_fails_hangs_and_dies_on_demand() -> None:
    assert replies({"fail": 1}, ASK)[0].failure == "call_failed"
    assert replies({"hang": 1}, ASK, call_seconds=0.01)[0].failure == "call_timeout"
    with pytest.raises(EngineDied):
        replies({"die_on": "ab"}, ASK)
    with pytest.raises(EngineDied):  # and stays dead
        asyncio.run(_after_death())
    assert replies({"die_on": "zz"}, ASK)[0].failure is None


async def _after_death() -> None:
    engine = ScriptedEngine(ModelName("none", "scripted"), EngineConfig(kind="scripted", options={"die_on": "ab"}))
    with pytest.raises(EngineDied):
        await engine.generate(ASK)
    await engine.generate(replace(ASK, image_key="zz"))


@pytest.mark.parametrize("options", [{"fial": 1}, {"fail": "often"}, {"die_on": 5}])
def test_a_script_that_makes_no_sense_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(SynthError, match=r"engine\.options of the scripted engine: "):
        replies(options, ASK)


def test_a_share_of_calls_is_about_that_share() -> None:
    found = replies({"fail": 0.3, "junk": 0.2}, *[replace(ASK, image_key=str(number)) for number in range(400)])
    assert 80 < sum(reply.failure is not None for reply in found) < 160
    assert 45 < sum(reply.text == "{ junk }" for reply in found) < 115


# --- engines of the user's own ----------------------------------------------------------------------------------------


def test_an_engine_of_the_users_own_is_found_by_module_and_attribute(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        workspace / "mine_fine.py", "class Engine:\n    def __init__(self, name, settings):\n        self.name = name\n"
    )
    monkeypatch.syspath_prepend(str(workspace))
    engine = asyncio.run(open_engine(ModelName("m", "r"), EngineConfig(kind="scripted", script="mine_fine:Engine")))
    assert engine.name == ModelName("m", "r")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("script", "source", "kind", "said"),
    [
        (
            "mine_bad:Engine",
            "def Engine(name, settings): raise OSError('no device')",
            ModelUnavailable,
            "OSError: no device",
        ),
        ("mine_odd:Engine", "def (", ModelUnavailable, "engine mine_odd:Engine: SyntaxError"),
        ("mine_gone:Engine", "", UserMistake, "mine_gone:Engine: module mine_gone has no 'Engine'"),
        ("mine_absent:Engine", None, UserMistake, "mine_absent:Engine: cannot import mine_absent"),
    ],
)
def test_an_engine_that_does_not_load_is_one_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, script: str, source: str | None, kind: type[Exception], said: str
) -> None:
    if source is not None:
        write(workspace / f"{script.partition(':')[0]}.py", source)
    monkeypatch.syspath_prepend(str(workspace))
    with pytest.raises(kind) as caught:
        asyncio.run(open_engine(ModelName("m", "r"), EngineConfig(kind="scripted", script=script)))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    sys.modules.pop(script.partition(":")[0], None)
