"""Each form is read by the program that it is for, or by what that reads files with, and tells what the shards do."""

import base64
import csv
import gc
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from synthgen.commands.export.forms.kinds import FORMS
from synthgen.commands.export.forms.vlmevalkit import MISSING
from tests.fixtures.exporting import TURNS, Run, Told, image, lines, turns_of
from tests.stages.pack.test_readers import _processor

datasets = pytest.importorskip("datasets")


def load(kind: str, files: Any, folder: Path, split: str = "train") -> Any:
    """Return files as the datasets library reads them, with images as their bytes."""
    data = datasets.load_dataset(kind, data_files=files, split=split, cache_dir=str(folder / "cache"))
    for name, feature in data.features.items():
        if feature == datasets.List(datasets.Image()):
            data = data.cast_column(name, datasets.List(datasets.Image(decode=False)))
        elif isinstance(feature, datasets.Image):
            data = data.cast_column(name, datasets.Image(decode=False))
    return data


def pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def read_llava(folder: Path, tmp: Path) -> list[Told]:
    """Read as `LazySupervisedDataset` does: `json.load`, and the image below the folder."""
    told = []
    for row in json.loads((folder / "data.json").read_text(encoding="utf-8")):
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (len(row["conversations"]) // 2)
        first, *rest = [turn["value"] for turn in row["conversations"]]
        assert first.startswith("<image>\n") and "<image>" not in "".join(rest)
        (path,) = [row["image"]] if "image" in row else row["images"]
        data = (folder / path).read_bytes()
        told.append(Told(row["id"], image(data, True), pairs([first.removeprefix("<image>\n"), *rest])))
    return told


def read_lines(folder: Path, tmp: Path) -> list[Told]:
    """Read as LLaMA-Factory and ms-swift do: by the datasets library, one marker for each image."""
    told = []
    for row in load("json", str(folder / "data.jsonl"), tmp):
        roles = [message["role"] for message in row["messages"]]
        first, *rest = [message["content"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert "".join([first, *rest]).count("<image>") == len(row["images"]) == 1
        data = (folder / row["images"][0]).read_bytes()
        told.append(Told(row["id"], image(data, True), pairs([first.removeprefix("<image>"), *rest])))
    return told


def read_parquet(folder: Path, tmp: Path) -> list[Told]:
    """Read as TRL's and nanoVLM's users do: the whole folder as a data set."""
    told = []
    for row in load("parquet", f"{folder}/data/train-*.parquet", tmp):
        own = [(text["user"], text["assistant"]) for text in row["texts"]] if "texts" in row else None
        turns = turns_of(row["messages"]) if own is None else tuple(own)
        told.append(Told(row["id"], image(row["images"][0]["bytes"], True), turns))
    return told


def read_turns(folder: Path, tmp: Path) -> list[Told]:
    """Put the rows of a sample together again: the last of them has the whole conversation."""
    whole = {}
    for row in load("parquet", f"{folder}/data/train-*.parquet", tmp):
        first, _ = row["prompt"][0]["content"], row["id"]
        key = row["images"][0]["path"]
        assert [part["type"] for part in first] == ["image", "text"]
        whole[key] = Told(key, image(row["images"][0]["bytes"], True), turns_of(row["prompt"] + row["completion"]))
    return list(whole.values())


def read_tars(folder: Path, tmp: Path) -> list[Told]:
    """Read by the datasets library's own reader of WebDataset."""
    told = []
    for row in load("webdataset", f"{folder}/train-*.tar", tmp):
        assert row["__key__"] == row["json"]["id"]
        told.append(Told(row["json"]["id"], image(row["jpg"]["bytes"], True), turns_of(row["json"]["messages"])))
    return told


def read_csv(folder: Path, tmp: Path) -> list[Told]:
    rows: dict[str, list[dict[str, str]]] = {}
    with (folder / "data.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["id"], []).append(row)
    return [
        Told(
            name,
            image((folder / of[0]["image"]).read_bytes(), True),
            tuple((row["question"], row["answer"]) for row in of),
        )
        for name, of in rows.items()
    ]


REVERSIBLE: dict[str, Callable[[Path, Path], list[Told]]] = {
    "llava": read_llava,
    "sharegpt": read_llava,
    "llamafactory": read_lines,
    "ms-swift": read_lines,
    "trl": read_parquet,
    "finevision": read_parquet,
    "webdataset": read_tars,
    "csv": read_csv,
}


@pytest.mark.parametrize("form", REVERSIBLE)
def test_a_form_tells_the_same_ids_images_and_turns_in_the_same_order(run: Run, form: str, tmp_path: Path) -> None:
    target, record = run.export(form, form)
    assert REVERSIBLE[form](target, tmp_path) == run.told(upright=True)
    assert record.counts["samples"] == 5 and record.counts["turns"] == 13 and not record.left_out


def test_every_form_is_read_here() -> None:
    assert {*REVERSIBLE, "trl-turns", "vlmevalkit", "lmms-eval"} == set(FORMS)


def test_a_row_for_each_turn_holds_the_conversation_so_far(run: Run, tmp_path: Path) -> None:
    target, record = run.export("trl-turns", "trl-turns")
    told = read_turns(target, tmp_path)
    assert [(each.image, each.turns) for each in told] == [(each.image, each.turns) for each in run.told(upright=True)]
    assert record.counts["rows"] == 13


@pytest.mark.parametrize("form", ["llava", "llamafactory", "webdataset", "vlmevalkit"])
def test_a_photograph_that_is_stored_turned_is_upright_for_readers_that_ignore_exif(
    run: Run, form: str, tmp_path: Path
) -> None:
    target, _ = run.export(form, form)
    found = [path.read_bytes() for path in target.rglob("*.jpg")]
    for archive in target.glob("*.tar"):
        with tarfile.open(archive) as tar:
            found += [tar.extractfile(each).read() for each in tar if each.name.endswith(".jpg")]  # type: ignore[union-attr]
    for table in target.glob("*_open.tsv"):
        found += [base64.b64decode(cell) for cell in pd.read_csv(table, sep="\t")["image"] if len(str(cell)) > 64]
    opened = [Image.open(io.BytesIO(data)) for data in found]
    (turned,) = [picture for picture in opened if picture.size == (40, 60)]
    assert not turned.getexif()
    pixels = np.asarray(turned.convert("RGB"))
    white, red, blue = pixels[2, 37], pixels[15, 20], pixels[45, 20]
    assert min(white) > 200 and red[0] > 200 > 60 > red[2] and blue[2] > 200 > 60 > blue[0]


def test_readers_that_turn_images_get_them_as_they_are_stored(run: Run, tmp_path: Path) -> None:
    target, _ = run.export("trl", "trl")
    stored = {row["images"][0]["bytes"] for row in run.world.samples}
    assert {row["images"][0]["bytes"] for row in load("parquet", f"{target}/data/*.parquet", tmp_path)} == stored
    sizes = {
        row["images"][0].size for row in datasets.load_dataset(str(target), split="train", cache_dir=str(tmp_path))
    }
    assert sizes == {(48, 48), (40, 60), (60, 40)}


# --- the programs themselves ------------------------------------------------------------------------------------------


def test_trl_trains_on_the_answers_of_each_turn_alone_whatever_the_template(run: Run, tmp_path: Path) -> None:
    """The template here marks no answers, so `assistant_only_loss` would be refused."""
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    target, _ = run.export("trl-turns", "trl-turns")
    data = datasets.load_dataset(str(target), split="train", cache_dir=str(tmp_path))
    processor = _processor()
    collator = trainer.DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    batch = collator([data[index] for index in range(2)])
    for row, labels in enumerate(batch["labels"]):
        learned = processor.tokenizer.decode(labels[labels != -100], skip_special_tokens=True)
        answer = data[row]["completion"][0]["content"][0]["text"]
        assert learned.replace("<|assistant|>", "") == answer
    assert batch["pixel_values"].shape[0] == 2


def test_trl_collates_the_conversations(run: Run, tmp_path: Path) -> None:
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    target, _ = run.export("trl", "trl")
    data = datasets.load_dataset(str(target), split="train", cache_dir=str(tmp_path))
    processor = _processor()
    batch = trainer.DataCollatorForVisionLanguageModeling(processor)([data[0]])
    text = processor.tokenizer.decode(batch["input_ids"][0])
    assert all(question in text and answer in text for question, answer in run.told()[0].turns)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves the last tar to the garbage collector
def test_the_webdataset_library_reads_the_tars(run: Run) -> None:
    webdataset = pytest.importorskip("webdataset")
    target, _ = run.export("webdataset", "webdataset")
    names = str(target / "train-{000000..000001}.tar")
    assert names.rpartition("/")[2] in (target / "README.md").read_text()
    samples = list(webdataset.WebDataset(names, shardshuffle=False).decode("pil"))
    gc.collect()
    assert [sample["__key__"] for sample in samples] == [row["id"] for row in run.world.samples]
    assert [turns_of(sample["json"]["messages"]) for sample in samples] == [told.turns for told in run.told()]
    assert {sample["jpg"].size for sample in samples} == {(48, 48), (40, 60), (60, 40)}


def test_llamafactory_converts_the_rows_by_their_description(run: Run, tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.data.parser")
    converter = pytest.importorskip("llamafactory.data.converter")
    target, _ = run.export("llamafactory", "llamafactory")
    (about,) = parser.get_dataset_list(["llamafactory"], str(target))
    convert = converter.SharegptDatasetConverter(about, type("Arguments", (), {"media_dir": str(target)})())
    rows = [convert(row) for row in load("json", str(target / about.dataset_name), tmp_path)]
    texts = [[message["content"] for message in row["_prompt"] + row["_response"]] for row in rows]
    assert [pairs([of[0].removeprefix("<image>"), *of[1:]]) for of in texts] == [told.turns for told in run.told()]
    assert all(Path(path).is_file() for row in rows for path in row["_images"])


def test_ms_swift_takes_the_rows(run: Run, tmp_path: Path) -> None:
    preprocessor = pytest.importorskip("swift.dataset.preprocessor.core")
    target, _ = run.export("ms-swift", "ms-swift")
    rows = preprocessor.AutoPreprocessor()(load("json", str(target / "data.jsonl"), tmp_path))
    texts = [[message["content"] for message in row["messages"]] for row in rows]
    assert [pairs([of[0].removeprefix("<image>"), *of[1:]]) for of in texts] == [told.turns for told in run.told()]


def test_the_description_for_llamafactory_names_every_column_and_role(run: Run) -> None:
    """A column or role that is missing in it counts as absent, so all are named; the keys are those of its README."""
    target, _ = run.export("llamafactory", "llamafactory")
    (about,) = json.loads((target / "dataset_info.json").read_text()).items()
    assert about[0] == "llamafactory" and about[1]["formatting"] == "sharegpt"
    row = lines(target / about[1]["file_name"])[0]
    assert set(about[1]["columns"].values()) <= row.keys()
    tags = about[1]["tags"]
    assert {message[tags["role_tag"]] for message in row["messages"]} == {tags["user_tag"], tags["assistant_tag"]}
    assert all(isinstance(message[tags["content_tag"]], str) for message in row["messages"])


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_vlmevalkit_gets_multiple_choice_with_options_and_open_questions_apart(run: Run) -> None:
    """A cell of an image is base64, or the index of the row that has it, which the toolkit tells by the length."""
    target, record = run.export("vlmevalkit", "eval set")
    choice, others = (pd.read_csv(target / f"eval_set_{kind}.tsv", sep="\t") for kind in ("choice", "open"))
    assert record.counts["rows"] == len(choice) + len(others) == 13
    assert list(choice["index"]) == [1, 2, 3] and list(others["index"]) == list(range(1, 11))
    assert {tuple(row) for row in choice[["question", "answer", "A", "B", "C"]].itertuples(index=False)} == {
        ("Which is it?", "B", "a dog", "a cat", "a cow")
    }
    assert choice["D"].isna().all() and "A" not in others
    images = dict(zip(others["index"].astype(str), others["image"].astype(str), strict=True))
    for index, cell in images.items():
        holder = cell if len(cell) > 64 else images[cell]
        assert len(holder) > 64, index
        Image.open(io.BytesIO(base64.b64decode(holder))).verify()
    assert set(others["question"]) > {TURNS[0]["question"]} and set(others["answer"]) > {TURNS[0]["answer"]}


def test_what_pandas_takes_for_missing_is_the_list_of_the_form() -> None:
    for text in [*MISSING, "none", "No", "0", "-", "nil"]:
        cell = pd.read_csv(io.StringIO(f'a\tb\n"{text}"\t1\n'), sep="\t")["a"][0]
        assert bool(pd.isna(cell)) == (text in MISSING), text


def test_lmms_eval_finds_the_rows_by_its_task_file(run: Run, tmp_path: Path) -> None:
    """The keys are those of its guide; the answers in sentences are left out, as an exact match cannot grade them."""
    target, record = run.export("lmms-eval", "lmms-eval")
    task = yaml.safe_load((target / "lmms_eval.yaml").read_text())
    data = datasets.load_dataset(
        task["dataset_path"], split=task["test_split"], cache_dir=str(tmp_path), **task["dataset_kwargs"]
    )
    assert {task[name] for name in ("doc_to_visual", "doc_to_text", "doc_to_target")} <= set(data.column_names)
    assert data[0][task["doc_to_visual"]].size == (48, 48)
    assert len(data) == record.counts["rows"] == 10 and record.left_out == {"sentences": 3}
    assert {row["reason"] for row in lines(target / "left_out.jsonl")} == {"sentences"}
    assert "B" in data["answer"][:] and not any("wide field" in answer for answer in data["answer"][:])
