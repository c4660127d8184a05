"""`synth train` learns from the image, trains only the chosen part, and saves the files of the starting model."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from synthgen.errors import ModelUnavailable, UserMistake
from synthgen.store import Folder
from synthgen.train import pretrained, train
from synthgen.train.group import ALONE
from synthgen.train.sharding import whole_weights
from tests.fixtures.tiny_vlm import COLOURS, FAST, losses, names, part, picture, samples, write

# --- learning ---------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_answers_come_from_the_image(
    model: Path, tmp_path: Path, processor: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = write(tmp_path / "shards", samples(4), samples(4))
    settings = FAST.model_copy(update={"steps": 60, "batch": 8, "learning_rate": 1e-2})
    result = train(str(shards), str(model), tmp_path / "out", settings)
    assert result.first_loss > 1.5
    assert result.last_loss < 0.5
    assert str(tmp_path / "out" / "model") in str(result)
    assert len(losses(tmp_path / "out")) == 60
    assert "train: 60 of 60 steps" in capsys.readouterr().err
    tuned = AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "model", dtype=torch.float32).eval()
    for colour in COLOURS:
        question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is it?"}]}]
        text = processor.apply_chat_template(question, add_generation_prompt=True)
        inputs = processor(text=[text], images=[[Image.open(io.BytesIO(picture(colour)))]], return_tensors="pt")
        answer = tuned.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert processor.decode(answer, skip_special_tokens=True) == f"It is {colour}."


def test_micro_batches_make_the_same_steps(model: Path, tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", samples(8))
    train(str(shards), str(model), tmp_path / "whole", FAST)
    train(str(shards), str(model), tmp_path / "cut", FAST.model_copy(update={"micro_batch": 1, "workers": 3}))
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_activations_that_are_computed_again_make_the_same_steps(model: Path, tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", samples(8))
    train(str(shards), str(model), tmp_path / "kept", FAST)
    train(str(shards), str(model), tmp_path / "again", FAST.model_copy(update={"recompute": True}))
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "kept"), rel=1e-5)


@pytest.mark.parametrize(
    ("part", "trained"),
    [("language", {"language_model", "multi_modal_projector"}), ("projector", {"multi_modal_projector"})],
)
def test_only_the_chosen_part_is_trained(model: Path, tmp_path: Path, part: str, trained: set[str]) -> None:
    shards = write(tmp_path / "shards", samples(8))
    train(str(shards), str(model), tmp_path / "out", FAST.model_copy(update={"what": part}))
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "out" / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parts = {part for name in changed for part in name.split(".")}
    assert parts & {"language_model", "multi_modal_projector", "vision_tower"} == trained


# --- the tuned model --------------------------------------------------------------------------------------------------


def test_a_model_saved_without_training_has_the_same_files(model: Path, tmp_path: Path, processor: Any) -> None:
    loaded = pretrained.load_model(str(model), model)
    batch = part(processor, samples(2))
    with torch.no_grad():
        before = loaded.eval()(**batch.inputs).logits
    pretrained.save(loaded, whole_weights(loaded, ALONE), model, tmp_path / "saved")
    assert pretrained.new_names(model, tmp_path / "saved") == []
    assert names(tmp_path / "saved") == names(model)
    assert (tmp_path / "saved" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    ours, theirs = load_file(tmp_path / "saved" / "model.safetensors"), load_file(model / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("vision_tower.vision_model.") or ".vision_tower.vision_model." in name for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in theirs)
    with torch.no_grad():
        assert torch.equal(pretrained.load_model("saved", tmp_path / "saved").eval()(**batch.inputs).logits, before)
    again = AutoProcessor.from_pretrained(tmp_path / "saved")
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_weights_in_several_files_keep_their_names_too(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = pretrained.load_model(str(model), model)
    stock = type(loaded).save_pretrained
    monkeypatch.setattr(
        type(loaded), "save_pretrained", lambda self, folder, **more: stock(self, folder, max_shard_size="30KB", **more)
    )
    pretrained.save(loaded, whole_weights(loaded, ALONE), model, tmp_path / "saved")
    assert pretrained.new_names(model, tmp_path / "saved") == []
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    index = json.loads((tmp_path / "saved" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == pretrained.read_specs(model).keys()
    assert pretrained.load_model("saved", tmp_path / "saved")


def test_names_are_matched_by_shape_and_path() -> None:
    def weights(*names: str, shape: tuple[int, ...] = (4, 4)) -> dict[str, pretrained.WeightSpec]:
        return {name: pretrained.WeightSpec(shape, "F16") for name in names}

    new = weights(
        "model.language_model.layers.0.q.weight",
        "model.language_model.layers.1.q.weight",
        "model.vision.layers.0.q.weight",
        "same",
    )
    old = weights(
        "language_model.model.layers.0.q.weight",
        "language_model.model.layers.1.q.weight",
        "vision.body.layers.0.q.weight",
        "same",
    )
    assert pretrained.original_names(new, old) == dict(zip(list(new)[:3], list(old)[:3], strict=True))
    assert pretrained.original_names(weights("a.w"), weights("b.w", "c.w")) == {}
    assert pretrained.original_names(weights("a.w"), weights("b.w", shape=(2,))) == {}


# --- mistakes of the user ---------------------------------------------------------------------------------------------


def test_mistakes_are_reported_in_one_line_and_write_nothing(model: Path, tmp_path: Path) -> None:
    shards, empty, out = write(tmp_path / "shards", samples(4)), tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    text, full = tmp_path / "text-model", tmp_path / "full"
    text.mkdir()
    (text / "config.json").write_text(json.dumps({"model_type": "qwen2", "architectures": ["Qwen2"]}))
    shutil.copyfile(model / "model.safetensors", text / "model.safetensors")
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    pq.write_table(pa.table({"question": ["?"]}), empty.with_name("other.parquet"))
    started = Folder(str(tmp_path / "started"))
    started.write("run.json", b'{"format": 1}')
    cases: list[tuple[str, str, Path, type[Exception], str]] = [
        (str(empty), str(model), out, UserMistake, "no shards here"),
        (str(tmp_path / "nowhere"), str(model), out, UserMistake, "no shards here"),
        (started.url, str(model), out, UserMistake, "has no shards yet"),
        (str(tmp_path / "other.parquet"), str(model), out, UserMistake, "no column 'messages'"),
        (str(shards), str(empty), out, UserMistake, "without config.json"),
        (str(shards), str(tmp_path / "nowhere"), out, UserMistake, "no such folder"),
        (str(shards), str(text), out, UserMistake, "is not a vision-language model"),
        (str(shards), str(model), full, UserMistake, "holds other files"),
    ]
    for source, name, target, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            train(source, name, target, FAST)
        assert "\n" not in str(caught.value)
    assert not out.exists()
    assert names(full) == ["thesis.txt"]


def test_a_model_that_lacks_weights_is_refused(model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "projector.linear_1" not in name}
    save_file(kept, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match="its files lack 2 weights"):
        train(str(write(tmp_path / "shards", samples(4))), str(broken), tmp_path / "out", FAST)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserMistake, match=r"model\.safetensors is cut short"):
        train(str(tmp_path / "shards"), str(broken), tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


def test_arguments_are_checked_before_torch_is_loaded(model: Path, tmp_path: Path) -> None:
    shards, full = write(tmp_path / "shards", samples(4)), tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    cases = [
        ("nowhere", str(model), "out", "nowhere: no shards here"),
        (str(shards), "nowhere", "out", "--model nowhere: no such folder"),
        (str(shards), str(full), "out", "without config.json"),
        (str(shards), str(model), str(full), "holds other files"),
    ]
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom synthgen.config.training import TrainConfig\n"
        "from synthgen.train import train\n"
        "for shards, model, out, _ in json.loads(sys.argv[1]):\n"
        "    try: train(shards, model, Path(out), TrainConfig())\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, json.dumps(cases)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines.pop() == "[]"
    for line, (*_, message) in zip(lines, cases, strict=True):
        assert line.startswith("UserMistake ") and message in line


@pytest.mark.parametrize(
    ("lacks", "packages"), [("torch", "torch transformers accelerate"), ("transformers", "transformers accelerate")]
)
def test_without_torch_or_transformers_the_command_that_installs_it_is_named(lacks: str, packages: str) -> None:
    code = (
        f"import sys\nsys.modules['{lacks}'] = None\n"
        "from pathlib import Path\nfrom synthgen.config.training import TrainConfig\nimport synthgen.train\n"
        "try: synthgen.train.train('.', 'a/b', Path('o'), TrainConfig())\nexcept Exception as error: "
        "print(type(error).__name__, error)"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert message.startswith("UserMistake")
    assert message.endswith(f"get them with: pip install {packages}\n")
