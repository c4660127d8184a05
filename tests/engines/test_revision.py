"""Revisions: which exact model a name stands for, and what is said of a name that stands for none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from synthgen.config.engine import EngineConfig
from synthgen.config.generation import GenerateConfig
from synthgen.engines import ModelName
from synthgen.engines.kinds import resolve_model
from synthgen.errors import UserMistake
from tests.fixtures.workspace import write

pytestmark = pytest.mark.usefixtures("workspace")


def model_folder(folder: Path, **files: bytes) -> Path:
    """Make a folder that looks like a small model; `files` by their names, `_` for the point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["SmallModel"]}))
    (folder / "model.safetensors").write_bytes(tensors(8))
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def tensors(size: int, kept: int | None = None) -> bytes:
    """Return a safetensors file with one tensor of `size` bytes, `kept` of which are there."""
    header = json.dumps(
        {"__metadata__": {"a": "b"}, "w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size if kept is None else kept)


def resolve(model: Path | str, **more: Any) -> ModelName:
    return resolve_model(GenerateConfig(model=str(model), prompts="small", **more))


def test_two_folders_with_the_same_files_are_the_same_model(tmp_path: Path) -> None:
    first, second = resolve(model_folder(tmp_path / "one")), resolve(model_folder(tmp_path / "other"))
    assert first.revision == second.revision and first.revision.startswith("files:")
    assert first.model == str(tmp_path / "one")


def test_new_weights_of_the_same_size_are_noticed_in_the_same_process(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    before = resolve(folder)
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(0, 0))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert resolve(folder).revision != before.revision


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
    before = resolve(folder).revision
    (folder / name).write_bytes(data)
    assert resolve(folder).revision != before


def test_files_that_no_model_reads_leave_the_revision(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    before = resolve(folder).revision
    write(folder / "README.md", "hello")
    write(folder / "logs/run.json", "{}")
    assert resolve(folder).revision == before


def test_the_same_bytes_under_another_name_are_another_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", merges_txt=b"a b")
    before = resolve(folder).revision
    (folder / "merges.txt").rename(folder / "merge.txt")  # the same place in order
    assert resolve(folder).revision != before


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
def test_a_folder_that_cannot_be_a_model_is_refused_before_anything_starts(
    tmp_path: Path, files: dict[str, bytes], fault: str
) -> None:
    folder = model_folder(tmp_path / "model", **files)
    with pytest.raises(UserMistake) as caught:
        resolve(folder)
    assert (
        str(caught.value).startswith(f"generate.model {folder}: ")
        and fault in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_a_folder_without_config_or_weights_is_one_line(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserMistake, match="holds no weights"):
        resolve(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserMistake, match=r"is a folder without config\.json; give a model folder or a hub name"):
        resolve(folder)


@pytest.mark.parametrize("name", ["/no/such/folder", "./gone", "~/gone", "gone", "a/b/c", "../x"])
def test_a_missing_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserMistake) as caught:
        resolve(name)
    where = "" if name[0] in "/~" else f" in {tmp_path}"
    assert str(caught.value) == f"generate.model {name}: no such folder{where}, and a hub name reads organisation/model"


@pytest.mark.parametrize("name", ["organisation/model-that-is-not-cached", "a b/c", "-a/b"])
def test_a_hub_name_that_the_hub_does_not_have_is_one_line(name: str) -> None:
    with pytest.raises(UserMistake) as caught:
        resolve(name, revision="main")
    assert str(caught.value).startswith(f"generate.model {name}") and "no such folder here" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_without_a_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class NoRoute(Exception):
        """An error of an HTTP library, which is no OSError."""

    def fail(self: object, model: str, revision: str | None = None) -> None:
        raise NoRoute("[Errno -2] Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    reason = r"not from the hub \(NoRoute: \[Errno -2\] Name or service not known and more\); name a local folder, or "
    with pytest.raises(UserMistake, match=reason):
        resolve("organisation/model")


def test_a_cached_hub_model_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def cached(model: str, name: str, revision: str | None = None) -> str:
        return str(tmp_path / "snapshots/0123abc/config.json")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert resolve("organisation/model", revision="main") == ModelName("organisation/model", "0123abc")


def test_the_model_of_an_endpoint_is_unverified_and_that_of_the_scripted_engine_scripted() -> None:
    endpoint = EngineConfig(kind="endpoint", urls=("http://127.0.0.1:1/v1",))
    assert resolve("anything", engine=endpoint) == ModelName("anything", "unverified")
    assert resolve("anything", engine=EngineConfig(kind="scripted")) == ModelName("anything", "scripted")
