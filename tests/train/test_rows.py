"""Only the answers of a row get labels; an unusable row is skipped and counted, never truncated."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3ImageProcessor, Gemma3Processor, LlavaOnevisionProcessor

from synthgen.errors import Failure, UserMistake
from synthgen.train import pretrained, train
from synthgen.train.conversation import clean_messages
from synthgen.train.encode import IGNORED, Encoder
from tests.fixtures import tiny_vlm
from tests.fixtures.tiny_vlm import CHATML, FAST, PLAIN, SHOUTED, UNEVEN, encoder, part, picture, row, samples, write

# --- labels -----------------------------------------------------------------------------------------------------------


TURNS = (
    ("What colour is it?", "It is red."),
    ("Why?\nSay it.", " Because it is.\n\nIt is  red. "),
    ("assistant It is", "assistant"),
)


@pytest.mark.parametrize("template", [CHATML, PLAIN, UNEVEN], ids=["chatml", "plain", "uneven"])
@pytest.mark.parametrize("turns", [TURNS[:1], TURNS], ids=["one turn", "three turns"])
def test_labels_cover_exactly_the_answers(processor: Any, template: str, turns: Any) -> None:
    part, skipped = encoder(processor, template).encode(
        [row(*turns), row(("Is it light or dark?", "It is light.")), row(*turns[::-1])]
    )
    assert part is not None and not skipped
    tokenizer = processor.tokenizer
    for number, answers in enumerate((turns, [("", "It is light.")], turns[::-1])):
        labels = part.labels[number]
        assert (labels[labels != IGNORED] == part.inputs["input_ids"][number][labels != IGNORED]).all()
        labelled = tokenizer.decode(labels[labels != IGNORED])
        if template == PLAIN:  # a token may include the space before an answer
            assert labelled.replace(" ", "") == "".join(answer.strip() for _, answer in answers).replace(" ", "")
        else:
            assert labelled == "".join(f"{answer}<|end|>" for _, answer in answers)
    image = processor.image_token_id
    assert (part.labels[part.inputs["input_ids"] == image] == IGNORED).all()
    assert (part.labels[part.inputs["attention_mask"] == 0] == IGNORED).all()


@pytest.mark.parametrize("template", [CHATML, PLAIN, UNEVEN], ids=["chatml", "plain", "uneven"])
def test_a_frame_shows_the_answers_where_a_search_finds_them_and_is_rendered_once(
    processor: Any, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = encoder(processor, template)._template
    rendered: list[int] = []
    apply = chat._apply

    def counted(*arguments: Any, **named: Any) -> str:
        rendered.append(1)
        return apply(*arguments, **named)

    monkeypatch.setattr(chat, "_apply", counted)
    repeated = [("", "It is red."), ("It is red.", "It is red."), TURNS[0]]
    for number, turns in enumerate((TURNS, TURNS[::-1], repeated)):
        rendered.clear()
        messages = clean_messages(row(*turns)["messages"], 1)
        text, spans = chat.render(messages)
        assert len(rendered) == 1 or not number
        found = chat._spans_after_prompts(text, messages, [1, 3, 5])
        # A search takes the space before an answer for its own, where a template trims it.
        assert [start for start, _ in spans] == pytest.approx([start for start, _ in found], abs=template == PLAIN)
        assert [text[start:end].strip() for start, end in found] == [answer.strip() for _, answer in turns]


def test_every_token_of_a_word_is_labelled(processor: Any) -> None:
    part, _ = encoder(processor).encode([row(("Q", "Größe: 你好 🙂 naïve"))])
    assert part is not None
    assert processor.tokenizer.decode(part.labels[part.labels != IGNORED]) == "Größe: 你好 🙂 naïve<|end|>"


def test_labels_hold_with_several_images_between_the_turns(processor: Any) -> None:
    sample = row(("first", "It is red."), ("and this", "It is blue."))
    sample["images"] *= 2
    sample["messages"][2]["content"].insert(0, {"type": "image", "text": None})
    part, skipped = encoder(processor).encode([sample])
    assert part is not None and not skipped
    assert processor.tokenizer.decode(part.labels[part.labels != IGNORED]) == "It is red.<|end|>It is blue.<|end|>"


def test_a_template_that_changes_answers_is_refused_in_one_line(model: Path, tmp_path: Path) -> None:
    loud = shutil.copytree(model, tmp_path / "loud")
    (loud / "chat_template.jinja").write_text(SHOUTED)
    with pytest.raises(UserMistake, match="chat template of this model does not fit") as caught:
        train(str(write(tmp_path / "shards", samples(4))), str(loud), tmp_path / "out", FAST)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tokens_that_do_not_align_are_reported_from_the_first_rows(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = LlavaOnevisionProcessor.__call__

    def loud(self: Any, *, text: Any, **more: Any) -> Any:
        return stock(self, text=[prompt.replace("red", "RED") for prompt in text], **more)

    monkeypatch.setattr(LlavaOnevisionProcessor, "__call__", loud)
    with pytest.raises(UserMistake, match=r"does not fit the shards: labels_unclear: its processor makes other tokens"):
        encoder(processor).check([row(("What colour is it?", "It is red."))])


def test_blank_lines_that_a_processor_puts_around_an_image_cost_no_row() -> None:
    """Build a processor as Gemma 3's: the blank lines and the line break of the template become one token."""
    tokenizer: Any = tiny_vlm.tiny_tokenizer()
    for kind, token in (("boi", "<image>"), ("image", "<video>"), ("eoi", "<pad>")):
        setattr(tokenizer, f"{kind}_token", token)
        setattr(tokenizer, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(token))
    tokenizer.add_tokens(["\n\n\n"])
    pictures = Gemma3ImageProcessor(size={"height": 32, "width": 32})
    gemma = Gemma3Processor(pictures, tokenizer, chat_template=CHATML, image_seq_length=4)
    part, skipped = Encoder(gemma, FAST).encode([row(*TURNS[:2])])
    assert part is not None and not skipped
    assert tokenizer.decode(part.labels[part.labels != IGNORED]) == "".join(
        f"{answer}<|end|>" for _, answer in TURNS[:2]
    )


def test_padding_and_the_other_rows_of_a_batch_do_not_change_the_loss(model: Path, processor: Any) -> None:
    from synthgen.train.loss import answer_loss

    loaded = pretrained.load_model(str(model), model).eval()
    batch = [*samples(3), row(("Is it light or dark?", "It is light. " * 5))]
    whole = part(processor, batch)
    with torch.no_grad():
        alone = sum(answer_loss(loaded, part(processor, [sample])) for sample in batch)
        together = answer_loss(loaded, whole)
        stock = loaded(**whole.inputs, labels=whole.labels).loss * whole.answer_tokens
    assert together == pytest.approx(float(alone), rel=1e-4)
    assert together == pytest.approx(float(stock), rel=1e-4)


def test_the_image_limits_of_a_pipeline_do_not_apply_in_training(processor: Any) -> None:
    for size in ((8, 8), (300, 2)):
        assert (
            part(processor, [row(("What colour is it?", "It is red."), image=picture("red", size))]).answer_tokens > 0
        )


# --- rows that cannot be used -----------------------------------------------------------------------------------------


def test_unusable_rows_are_skipped_and_counted_never_truncated(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_image_tokens_count_towards_the_limit(processor: Any) -> None:
    batch = samples(1)
    length = part(processor, batch).tokens
    assert encoder(processor, max_tokens=length).encode(batch)[0] is not None
    micro_batch, skipped = encoder(processor, max_tokens=length - 1).encode(batch * 2)
    assert micro_batch is None
    assert skipped == {"too_long": 2}


def test_an_image_that_the_processor_refuses_costs_only_its_row(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = LlavaOnevisionProcessor.__call__

    def strict(self: Any, *, images: Any, **more: Any) -> Any:
        if any(image.width > 100 for sample in images for image in sample):
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return stock(self, images=images, **more)

    monkeypatch.setattr(LlavaOnevisionProcessor, "__call__", strict)
    wide = row(("What colour is it?", "It is red."), image=picture("red", (120, 20)))
    micro_batch, skipped = encoder(processor).encode([samples(1)[0], wide, samples(1)[0]])
    assert micro_batch is not None and len(micro_batch.labels) == 2
    assert skipped == {"processor_refused": 1}


def test_shards_without_a_usable_row_are_reported_with_each_row_counted_once(model: Path, tmp_path: Path) -> None:
    unusable = [row(("Q", "A"), image=b"?")] * 3 + [row(("Q", " "))] * 2
    shards = write(tmp_path / "shards", unusable)  # batches of 4: the second has 3 rows of the next epoch
    with pytest.raises(UserMistake, match=r"none of the 5 rows can be trained on: 3 unreadable image, 2 no answer$"):
        train(str(shards), str(model), tmp_path / "out", FAST)


def test_no_sample_is_longer_than_the_context_of_the_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is 512 tokens."""
    long = row(("Q", "It is red. " * 200))
    result = train(str(write(tmp_path / "mixed", [*samples(7), long])), str(model), tmp_path / "out", FAST)
    assert result.skipped == {"too_long": 3}
    assert "samples of more than 512 tokens, the context of the model, are skipped" in capsys.readouterr().err
    with pytest.raises(UserMistake, match=r"2 rows can be trained on: 2 too long; bound the images with"):
        train(str(write(tmp_path / "long", [long, long])), str(model), tmp_path / "none", FAST)


def test_other_data_sets_in_trl_format_are_read(processor: Any) -> None:
    """Read content that is a plain string, and images that no message mentions."""
    sample: dict[str, Any] = {
        "images": [{"bytes": picture("red"), "path": None}],
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "It is red."}],
    }
    micro_batch = part(processor, [sample])
    labelled = micro_batch.labels[micro_batch.labels != IGNORED]
    assert processor.tokenizer.decode(labelled) == "It is red.<|end|>"
    mentioned = {**sample, "images": [], "messages": row(("Q", "A"))["messages"]}
    failure = Failure("images_do_not_match", "0 images, the messages mention 1")
    assert encoder(processor).sample(mentioned) == failure


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
