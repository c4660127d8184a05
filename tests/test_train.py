"""`synth train`: it learns, from the answers alone, in an order that the seed fixes, and a kill costs no step twice."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from synthgen.config import Train
from synthgen.errors import Damaged, LeaseHeld, ModelUnavailable, SettingsChanged, UserMistake
from synthgen.learn.seed import open_seed
from synthgen.pack.features import sample_schema
from synthgen.store import Folder, Lease, Receipt, Stage, TablePart
from synthgen.train import start, train
from synthgen.train.batches import batches
from synthgen.train.encode import IGNORED, Encoder, Part, Unusable
from synthgen.train.shards import pin, rows

Row = dict[str, Any]

SIDE, PATCH = 32, 16
COLOURS = ("red", "blue", "green", "black")
SPECIAL = ("<pad>", "<|start|>", "<|end|>", "<image>", "<video>")
CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
# Answers end without a mark of their own, the role is not a token, answers are trimmed.
PLAIN = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>\n{% else %}{{ p['text'] | trim }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# As the templates of LLaVA-OneVision: the space after the role is not in the generation prompt.
UNEVEN = CHATML.replace("{{ m['role'] }}\n", "{{ m['role'] + ' ' }}\n")
SHOUTED = CHATML.replace("{{ p['text'] }}", "{{ p['text'] | upper }}")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The model is so small that threads would only wait for each other."""
    torch.set_num_threads(1)


# --- a tiny model, and shards for it ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-OneVision of a few thousand parameters, in the files that vLLM wants: float16, `vision_tower.vision_model.`"""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tiny_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=PATCH,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=ids["<|end|>"],
            bos_token_id=None, pad_token_id=ids["<pad>"],
        ),
        image_token_id=ids["<image>"], video_token_id=ids["<video>"], vision_feature_layer=-1, vision_feature_select_strategy="full",
        image_grid_pinpoints=[[SIDE, SIDE]], tie_word_embeddings=True,
    )  # fmt: skip
    tiny = LlavaOnevisionForConditionalGeneration(config)
    torch.manual_seed(1)
    for parameter in tiny.parameters():
        if parameter.ndim >= 2:  # the usual 0.02 suits wide layers; here the image would hardly be seen
            torch.nn.init.normal_(parameter, std=0.12)
    tiny.to(torch.float16).save_pretrained(folder)
    processor_of(tokenizer).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in weights.items()}
    assert named.keys() != weights.keys()
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words = ("user assistant system", "What colour is it? It is ", *COLOURS, "Is it light or dark? It is dark. It is light.")
    bpe.train_from_iterator(words * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=["<|start|>", "<image>", "<video>"],
        chat_template=CHATML,
        padding_side="left",
    )


def processor_of(tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionProcessor:
    pictures = LlavaOnevisionImageProcessor(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=[[SIDE, SIDE]])
    return LlavaOnevisionProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size={"height": SIDE, "width": SIDE}),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
        image_token="<image>",
        video_token="<video>",
    )


@pytest.fixture(scope="session")
def processor(model: Path) -> Any:
    return AutoProcessor.from_pretrained(model)


def picture(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def row(*turns: tuple[str, str], colour: str = "red", image: bytes | None = None) -> Row:
    """A sample in TRL's form, with the nulls that Arrow fills in."""
    messages: list[Row] = []
    for question, answer in turns:
        asked = {"type": "text", "text": question}
        messages.append({"role": "user", "content": [asked] if messages else [{"type": "image", "text": None}, asked]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return {"images": [{"bytes": picture(colour) if image is None else image, "path": None}], "messages": messages}


def samples(count: int = 8) -> list[Row]:
    """Something to learn: the colour, and whether it is light, which nothing but the image tells."""
    told = {colour: "light" if colour in ("red", "green") else "dark" for colour in COLOURS}
    colours = [COLOURS[number % len(COLOURS)] for number in range(count)]
    return [row(("What colour is it?", f"It is {one}."), ("Is it light or dark?", f"It is {told[one]}."), colour=one) for one in colours]


def write(folder: Path, *files: Sequence[Row]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, some in enumerate(files):
        full = [{name: one.get(name) for name in sample_schema(()).names} for one in some]
        pq.write_table(pa.Table.from_pylist(full, schema=sample_schema(())), folder / f"train-{number:05d}.parquet", row_group_size=3)
    return folder


def commit(out: Path, *files: Sequence[Row], revision: int = 1) -> Path:
    """A run's output folder whose pack stage committed these files, the later revision in place of the earlier."""
    stage, aside = Stage(Folder(str(out)), "5-shards"), write(out.with_name("aside"), *files)
    data = [stage.put("data", "train", path.read_bytes(), pq.read_metadata(path).num_rows) for path in sorted(aside.iterdir())]
    with Lease.take(stage.out) as lease:
        stage.commit(Receipt("e001-00000", revision, {"data": TablePart(tuple(data), "f", replaces=True)}), lease, 1)
    shutil.rmtree(aside)
    return out


FAST = Train(steps=6, batch=4, learning_rate=3e-3, checkpoint_every=2, workers=1)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


# --- learning ---------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_answers_come_from_the_image(
    model: Path, tmp_path: Path, processor: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = write(tmp_path / "shards", samples(4), samples(4))
    result = train(str(shards), str(model), tmp_path / "out", FAST.model_copy(update={"steps": 60, "batch": 8, "learning_rate": 1e-2}))
    assert result.first_loss > 1.5
    assert result.last_loss < 0.5
    assert str(tmp_path / "out" / "model") in str(result)
    assert len(losses(tmp_path / "out")) == 60
    assert "train: 60 of 60 steps" in capsys.readouterr().err
    tuned = AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "model", dtype=torch.float32).eval()
    for colour in COLOURS:
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is it?"}]}]
        text = processor.apply_chat_template(asked, add_generation_prompt=True)
        inputs = processor(text=[text], images=[[Image.open(io.BytesIO(picture(colour)))]], return_tensors="pt")
        told = tuned.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert processor.decode(told, skip_special_tokens=True) == f"It is {colour}."


def test_micro_batches_make_the_same_steps(model: Path, tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", samples(8))
    train(str(shards), str(model), tmp_path / "whole", FAST)
    train(str(shards), str(model), tmp_path / "cut", FAST.model_copy(update={"micro_batch": 1, "workers": 3}))
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


@pytest.mark.parametrize(
    ("what", "moved"), [("language", {"language_model", "multi_modal_projector"}), ("projector", {"multi_modal_projector"})]
)
def test_only_what_is_chosen_learns(model: Path, tmp_path: Path, what: str, moved: set[str]) -> None:
    train(str(write(tmp_path / "shards", samples(8))), str(model), tmp_path / "out", FAST.model_copy(update={"what": what}))
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "out" / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parts = {part for name in changed for part in name.split(".") if part in ("language_model", "multi_modal_projector", "vision_tower")}
    assert parts == moved


# --- labels -----------------------------------------------------------------------------------------------------------

TURNS = (("What colour is it?", "It is red."), ("Why?\nSay it.", " Because it is.\n\nIt is  red. "), ("assistant It is", "assistant"))


@pytest.mark.parametrize("template", [CHATML, PLAIN, UNEVEN], ids=["chatml", "plain", "uneven"])
@pytest.mark.parametrize("turns", [TURNS[:1], TURNS], ids=["one turn", "three turns"])
def test_labels_cover_exactly_the_answers(processor: Any, template: str, turns: Any) -> None:
    part, skipped = encoder(processor, template).encode([row(*turns), row(("Is it light or dark?", "It is light.")), row(*turns[::-1])])
    assert part is not None and not skipped
    tokenizer = processor.tokenizer
    for number, answers in enumerate((turns, [("", "It is light.")], turns[::-1])):
        labels = part.labels[number]
        assert (labels[labels != IGNORED] == part.inputs["input_ids"][number][labels != IGNORED]).all()
        told = tokenizer.decode(labels[labels != IGNORED])
        if template == PLAIN:  # a token may take along the space before an answer
            assert told.replace(" ", "") == "".join(answer.strip() for _, answer in answers).replace(" ", "")
        else:
            assert told == "".join(f"{answer}<|end|>" for _, answer in answers)
    image = processor.image_token_id
    assert (part.labels[part.inputs["input_ids"] == image] == IGNORED).all()
    assert (part.labels[part.inputs["attention_mask"] == 0] == IGNORED).all()


def test_a_word_cut_into_many_tokens_is_labelled_whole(processor: Any) -> None:
    part, _ = encoder(processor).encode([row(("Q", "Größe: 你好 🙂 naïve"))])
    assert part is not None
    assert processor.tokenizer.decode(part.labels[part.labels != IGNORED]) == "Größe: 你好 🙂 naïve<|end|>"


def test_labels_hold_with_several_images_between_the_turns(processor: Any) -> None:
    one = row(("first", "It is red."), ("and this", "It is blue."))
    one["images"] *= 2
    one["messages"][2]["content"].insert(0, {"type": "image", "text": None})
    part, skipped = encoder(processor).encode([one])
    assert part is not None and not skipped
    assert processor.tokenizer.decode(part.labels[part.labels != IGNORED]) == "It is red.<|end|>It is blue.<|end|>"


def test_a_template_that_changes_answers_is_refused_in_one_line(model: Path, tmp_path: Path) -> None:
    loud = shutil.copytree(model, tmp_path / "loud")
    (loud / "chat_template.jinja").write_text(SHOUTED)
    with pytest.raises(UserMistake, match="chat template of this model does not fit") as caught:
        train(str(write(tmp_path / "shards", samples(4))), str(loud), tmp_path / "out", FAST)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_padding_and_the_other_rows_of_a_batch_do_not_change_the_loss(model: Path, processor: Any) -> None:
    from synthgen.train.loop import answer_loss

    loaded = start.load_model(str(model), model).eval()
    some = [*samples(3), row(("Is it light or dark?", "It is light. " * 5))]
    with torch.no_grad():
        alone = sum(answer_loss(loaded, part(processor, [one])) for one in some)
        together = answer_loss(loaded, part(processor, some))
        stock = loaded(**(whole := part(processor, some)).inputs, labels=whole.labels).loss * whole.answer_tokens
    assert together == pytest.approx(float(alone), rel=1e-4)
    assert together == pytest.approx(float(stock), rel=1e-4)


def encoder(processor: Any, template: str = CHATML, **settings: Any) -> Encoder:
    other = processor_of(processor.tokenizer)
    other.chat_template = template
    return Encoder(other, FAST.model_copy(update=settings))


def part(processor: Any, some: Sequence[Row]) -> Part:
    found, skipped = encoder(processor).encode(some)
    assert found is not None and not skipped
    return found


# --- rows that cannot be used -----------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_left_out_and_counted_never_cut(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = samples(5)
    bad = [
        row(("What colour is it?", "It is red. " * 60)),
        row(("What colour is it?", "It is red."), image=b"no image"),
        row(("What colour is it?", "It is red."), image=picture("red")[:40]),
        row(("What colour is it?", "It is red.<|end|>")),
        row(("<image> What colour is it?", "It is red.")),
        row(("What colour is it?", " ")),
        {**row(("What colour is it?", "It is red.")), "images": []},
        {**row(), "messages": [{"role": "user", "content": [{"type": "audio", "text": None}]}]},
    ]
    shards = write(tmp_path / "shards", good + bad)
    settings = FAST.model_copy(update={"max_tokens": 100, "batch": 13, "steps": 1})  # every row once
    result = train(str(shards), str(model), tmp_path / "out", settings)
    counted = Counter(too_long=1, unreadable_image=2, control_tokens=2, no_answer=1, images_do_not_match=1, malformed=1)
    assert result.skipped == counted
    assert json.loads((tmp_path / "out" / "training.json").read_text())["result"]["skipped"] == counted
    assert "2 unreadable image" in capsys.readouterr().err


def test_the_tokens_of_the_image_count_towards_the_limit(processor: Any) -> None:
    one = samples(1)
    length = part(processor, one).tokens
    assert encoder(processor, max_tokens=length).encode(one)[0] is not None
    found, skipped = encoder(processor, max_tokens=length - 1).encode(one * 2)
    assert found is None
    assert skipped == {"too_long": 2}


def test_a_picture_that_the_processor_refuses_costs_only_its_row(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = LlavaOnevisionProcessor.__call__

    def strict(self: Any, *, images: Any, **more: Any) -> Any:
        if any(image.width > 100 for some in images for image in some):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return stock(self, images=images, **more)

    monkeypatch.setattr(LlavaOnevisionProcessor, "__call__", strict)
    wide = row(("What colour is it?", "It is red."), image=picture("red", (120, 20)))
    found, skipped = encoder(processor).encode([samples(1)[0], wide, samples(1)[0]])
    assert found is not None and len(found.labels) == 2
    assert skipped == {"processor_refused": 1}


def test_a_set_without_a_usable_row_is_one_line(model: Path, tmp_path: Path) -> None:
    shards = write(tmp_path / "shards", [row(("Q", "A"), image=b"?")] * 5)
    with pytest.raises(UserMistake, match=r"none of the 5 rows can be trained on: .* unreadable image"):
        train(str(shards), str(model), tmp_path / "out", FAST)


def test_other_sets_in_trl_form_are_read_too(processor: Any) -> None:
    """Content that is a plain string, and images that no message speaks of."""
    one = {
        "images": [{"bytes": picture("red"), "path": None}],
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "It is red."}],
    }
    found = part(processor, [one])
    assert processor.tokenizer.decode(found.labels[found.labels != IGNORED]) == "It is red.<|end|>"
    with pytest.raises(Unusable, match="images_do_not_match"):
        encoder(processor).sample({**one, "images": []})


# --- order, pins, continuing ------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_order_from_any_place(tmp_path: Path) -> None:
    files = pin(str(write(tmp_path / "a", *(numbered(start, start + 7) for start in range(0, 28, 7)))))
    order = [name(one) for one in islice(rows(files, 3, 0), 56)]
    assert sorted(order[:28], key=int) == sorted(order[28:], key=int) == [str(number) for number in range(28)]
    assert order[:28] != order[28:]
    assert order[:28] != sorted(order[:28], key=int)
    for place in (0, 1, 7, 13, 28, 40):
        assert [name(one) for one in islice(rows(files, 3, place), 10)] == (order * 2)[place : place + 10]
    assert [name(one) for one in islice(rows(files, 4, 0), 28)] != order[:28]
    moved = pin(str(shutil.move(tmp_path / "a", tmp_path / "b")))
    assert [name(one) for one in islice(rows(moved, 3, 0), 56)] == order


def test_more_threads_change_neither_order_nor_counts(processor: Any, tmp_path: Path) -> None:
    mixed = [one for number, one in enumerate(numbered(0, 30)) for one in [one, *([row(("Q", "A"), image=b"")] if number % 5 == 0 else [])]]
    files = pin(str(write(tmp_path / "shards", mixed)))

    def seen(workers: int) -> list[tuple[int, Counter[str], list[int]]]:
        loader = batches(files, processor, FAST.model_copy(update={"workers": workers}), 0, 15)
        return [(batch.place, batch.skipped, batch.parts[0].labels.flatten().tolist()) for batch in loader]

    assert seen(1) == seen(3)


def test_shards_in_an_object_store_are_read_as_they_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {"ACCESS_KEY_ID": "nobody", "SECRET_ACCESS_KEY": "nothing", "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    s3fs.S3FileSystem.clear_instance_cache()  # a client of an earlier test leads elsewhere
    try:
        fsspec.filesystem("s3").mkdir("tuning")
        here, there = write(tmp_path / "shards", samples(3), samples(2)), "s3://tuning/shards"
        for path in here.iterdir():
            fsspec.filesystem("s3").put_file(str(path), f"{there}/{path.name}")
        local = pin(str(here))
        for source in (there, f"{there}/", f"{there}/*.parquet"):
            assert [(file.rows, file.sha256) for file in pin(source)] == [(file.rows, file.sha256) for file in local]
        assert list(islice(rows(pin(there), 0, 0), 5)) == list(islice(rows(local, 0, 0), 5))
        stage = Stage(Folder("s3://tuning/run"), "5-shards")
        data = stage.put("data", "train", (here / "train-00000.parquet").read_bytes(), 3)
        with Lease.take(stage.out) as lease:
            stage.commit(Receipt("e001-00000", 1, {"data": TablePart((data,), "f")}), lease, 1)
        assert len(list(islice(rows(pin("s3://tuning/run"), 0, 0), 7))) == 7
        for source in ("s3://nowhere-at-all/run", "s3://nowhere-at-all/*.parquet"):
            for opened in (pin, open_seed):  # of a trainer, and of `synth learn`, which reads shards too
                with pytest.raises(UserMistake, match="there is no bucket nowhere-at-all"):
                    opened(source)
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()


def numbered(first: int, last: int) -> list[Row]:
    return [row((f"number {number}", "It is red.")) for number in range(first, last)]


def name(one: Row) -> str:
    return str(one["messages"][0]["content"][1]["text"].split()[1])


def test_a_killed_training_continues_to_the_same_losses(model: Path, tmp_path: Path) -> None:
    bad = row(("Q", "A"), image=b"no image")
    shards, whole, killed = write(tmp_path / "shards", [*samples(7), bad], samples(5)), tmp_path / "whole", tmp_path / "killed"
    settings = FAST.model_copy(update={"steps": 14})
    undisturbed = train(str(shards), str(model), whole, settings)
    started = subprocess.Popen(
        [sys.executable, "-c", f"from pathlib import Path; from synthgen.config import Train; from synthgen.train import train; "
         f"train({str(shards)!r}, {str(model)!r}, Path({str(killed)!r}), Train.model_validate({settings.model_dump()!r}))"],
        start_new_session=True, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},  # the threads of this process
    )  # fmt: skip
    while not (killed / "checkpoints" / "step-0000004.pt").exists():
        assert started.poll() is None
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert 4 <= len((killed / "log.jsonl").read_text().splitlines()) < 14
    result = train(str(shards), str(model), killed, settings)
    assert losses(killed) == losses(whole)
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (killed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (result.steps, result.skipped) == (14, undisturbed.skipped)
    assert 4 <= result.skipped["unreadable_image"] <= 5  # in a bit more than four epochs


def test_two_checkpoints_are_kept_and_none_after_the_end(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.train import loop

    kept: list[list[str]] = []
    real = loop._finish
    monkeypatch.setattr(loop, "_finish", lambda job, *more: kept.append(names(job.out / "checkpoints")) or real(job, *more))
    train(str(write(tmp_path / "shards", samples(4))), str(model), tmp_path / "out", FAST)
    assert kept == [["step-0000004.pt", "step-0000006.pt"]]
    assert names(tmp_path / "out") == ["lease", "log.jsonl", "model", "training.json"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_training_started_again_does_nothing(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"
    result = train(str(shards), str(model), out, FAST)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert train(str(shards), str(model), out, FAST.model_copy(update={"workers": 2})) == result
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err


def test_another_training_in_the_same_folder_is_refused_in_words(model: Path, tmp_path: Path) -> None:
    shards, out = write(tmp_path / "shards", samples(4)), tmp_path / "out"
    train(str(shards), str(model), out, FAST)
    with pytest.raises(SettingsChanged, match=r"learning_rate was 0\.003 and is now 0\.001; use another --out"):
        train(str(shards), str(model), out, FAST.model_copy(update={"learning_rate": 1e-3}))


def test_one_folder_takes_one_training_at_a_time(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Lease.take(Folder(str(out))), pytest.raises(LeaseHeld):
        train(str(write(tmp_path / "shards", samples(4))), str(model), out, FAST)


def test_a_run_is_read_by_its_commits_and_pinned(model: Path, tmp_path: Path) -> None:
    run, out = commit(tmp_path / "run", samples(3)), tmp_path / "out"
    commit(run, samples(4), samples(2), revision=2)
    (run / "5-shards" / "data" / "orphan.parquet").write_bytes(b"half a file")
    train(str(run), str(model), out, FAST)
    pinned = json.loads((out / "training.json").read_text())["files"]
    assert sorted(file["rows"] for file in pinned) == [2, 4]
    assert all(len(file["sha256"]) == 64 for file in pinned)
    victim = Path(pinned[0]["url"])
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    with pytest.raises(Damaged, match="SHA-256 differs"):
        next(rows(pin(str(run)), 0, 0)) and list(islice(rows(pin(str(run)), 0, 0), 6))
    victim.unlink()
    with pytest.raises(Damaged, match=r"gone since training started; put it back and start .* train on a copy of the shards$"):
        list(islice(rows(pin(str(run)), 0, 0), 6))


def test_a_training_under_way_does_not_see_what_the_run_adds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.train import loop

    run, out = commit(tmp_path / "run", samples(4)), tmp_path / "out"
    real = loop._checkpoint

    def die_at_four(*parts: Any) -> None:
        real(*parts)
        if parts[-1].steps == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_checkpoint", die_at_four)
    with pytest.raises(KeyboardInterrupt):
        train(str(run), str(model), out, FAST)
    monkeypatch.undo()
    commit(run, samples(8), samples(8), revision=2)
    train(str(run), str(model), out, FAST)
    train(str(commit(tmp_path / "still" / "run", samples(4))), str(model), tmp_path / "other", FAST)
    assert losses(out) == losses(tmp_path / "other")


# --- the model that comes out -----------------------------------------------------------------------------------------


def test_a_model_that_is_saved_untouched_has_the_same_files(model: Path, tmp_path: Path, processor: Any) -> None:
    loaded = start.load_model(str(model), model)
    some = part(processor, samples(2))
    with torch.no_grad():
        before = loaded.eval()(**some.inputs).logits
    assert start.save(loaded, model, tmp_path / "saved") == []
    assert names(tmp_path / "saved") == names(model)
    assert (tmp_path / "saved" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    ours, theirs = load_file(tmp_path / "saved" / "model.safetensors"), load_file(model / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("vision_tower.vision_model.") or ".vision_tower.vision_model." in name for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in theirs)
    with torch.no_grad():
        assert torch.equal(start.load_model("saved", tmp_path / "saved").eval()(**some.inputs).logits, before)
    again = AutoProcessor.from_pretrained(tmp_path / "saved")
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_weights_in_several_files_keep_their_names_too(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = start.load_model(str(model), model)
    stock = type(loaded).save_pretrained
    monkeypatch.setattr(type(loaded), "save_pretrained", lambda self, folder: stock(self, folder, max_shard_size="30KB"))
    assert start.save(loaded, model, tmp_path / "saved") == []
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    index = json.loads((tmp_path / "saved" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == start.declared(model).keys()
    assert start.load_model("saved", tmp_path / "saved")


def test_names_are_matched_by_shape_and_path() -> None:
    def weights(*names: str, shape: tuple[int, ...] = (4, 4)) -> dict[str, start.Tensor]:
        return {name: start.Tensor(shape, "F16") for name in names}

    new = weights(
        "model.language_model.layers.0.q.weight", "model.language_model.layers.1.q.weight", "model.vision.layers.0.q.weight", "same"
    )
    old = weights(
        "language_model.model.layers.0.q.weight", "language_model.model.layers.1.q.weight", "vision.body.layers.0.q.weight", "same"
    )
    assert start.original_names(new, old) == dict(zip(list(new)[:3], list(old)[:3], strict=True))
    assert start.original_names(weights("a.w"), weights("b.w", "c.w")) == {}
    assert start.original_names(weights("a.w"), weights("b.w", shape=(2,))) == {}


# --- TRL reads the same rows ------------------------------------------------------------------------------------------


def test_trls_own_collator_builds_a_batch_from_the_same_rows(processor: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    path = write(tmp_path / "shards", samples(4)) / "train-00000.parquet"
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    batch = trainer.DataCollatorForVisionLanguageModeling(processor)([loaded[0], loaded[1]])
    ours = part(processor, samples(2))
    assert torch.equal(batch["input_ids"], ours.inputs["input_ids"])
    assert torch.equal(batch["pixel_values"], ours.inputs["pixel_values"])
    assert (batch["labels"][ours.labels != IGNORED] == ours.labels[ours.labels != IGNORED]).all()


# --- mistakes of the user ---------------------------------------------------------------------------------------------


def test_mistakes_are_one_line_and_write_nothing(model: Path, tmp_path: Path) -> None:
    shards, empty, out = write(tmp_path / "shards", samples(4)), tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    text, full = tmp_path / "text-model", tmp_path / "full"
    text.mkdir()
    (text / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    pq.write_table(pa.table({"question": ["?"]}), empty.with_name("other.parquet"))
    started = Folder(str(tmp_path / "started"))
    started.write("run.json", b"{}")
    cases: list[tuple[str, str, Path, type[Exception], str]] = [
        (str(empty), str(model), out, UserMistake, "no shards here"),
        (str(tmp_path / "nowhere"), str(model), out, UserMistake, "no shards here"),
        (started.url, str(model), out, UserMistake, "has no shards yet"),
        (str(tmp_path / "other.parquet"), str(model), out, UserMistake, "no column 'images'"),
        (str(shards), str(empty), out, UserMistake, "without config.json"),
        (str(shards), str(tmp_path / "nowhere"), out, UserMistake, "no such folder"),
        (str(shards), str(text), out, UserMistake, "no vision-language model"),
        (str(shards), str(model), full, UserMistake, "holds other files"),
    ]
    for source, name_, target, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            train(source, name_, target, FAST)
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
    with pytest.raises(ModelUnavailable, match="does not load"):
        train(str(tmp_path / "shards"), str(broken), tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("lacks", "packages"), [("torch", "torch transformers accelerate"), ("transformers", "transformers accelerate")])
def test_without_torch_or_transformers_the_command_that_mends_it_is_named(lacks: str, packages: str) -> None:
    code = (
        f"import sys\nsys.modules['{lacks}'] = None\n"
        "try: import synthgen.train\nexcept Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("UserMistake")
    assert told.endswith(f"get them with: pip install {packages}\n")
