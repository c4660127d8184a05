"""Several data sets in whatever form, mixed by weight, with rows of text alone, and sorted by length where asked."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from synthgen.errors import UserMistake
from synthgen.train import train, train_stages
from synthgen.train.encode import IGNORED
from synthgen.train.feed import Feed, open_feed
from synthgen.train.forms import in_one_form
from synthgen.train.loader import batches
from synthgen.train.record import read_log
from synthgen.train.schedule import Schedule, Stage
from synthgen.train.stream import Order, rows
from tests.fixtures.tiny_vlm import COLOURS, FAST, Row, encoder, losses, picture, row, samples, stop_after, write

TEXT: Row = {
    "images": [],
    "messages": [{"role": "user", "content": "Is it light?"}, {"role": "assistant", "content": "It is dark."}],
}


def texts(count: int) -> list[Row]:
    """Return samples of text alone, with the nulls that Arrow fills in."""
    return [{"images": [], "messages": text(number)} for number in range(count)]


def text(number: int) -> list[Row]:
    said = (("user", f"number {number}?"), ("assistant", "It is dark."))
    return [{"role": role, "content": [{"type": "text", "text": words}]} for role, words in said]


def mixed(folder: Path, **weights: float) -> Feed:
    """Return a feed of three data sets: pictures, numbered texts, and pictures of another size."""
    write(folder / "pictures", samples(8))
    write(folder / "texts", texts(12))
    write(folder / "more", [row(("What colour is it?", f"It is {colour}."), colour=colour) for colour in COLOURS])
    sources = {name: str(folder / name) for name in ("pictures", "texts", "more")}
    feed = open_feed(sources, folder / "feed", FAST)
    return Feed(feed.sets, weights, feed.folder)


# --- mixtures ---------------------------------------------------------------------------------------------------------


def test_rows_come_by_weight_and_each_data_set_goes_through_all_of_its_own(tmp_path: Path) -> None:
    feed = mixed(tmp_path, pictures=3.0, texts=1.0)
    taken = list(islice(rows(feed, FAST, 0), 400))
    counts = Counter(each["source"] for each in taken)
    assert counts.keys() == {"pictures", "texts"} and counts["texts"] == pytest.approx(100, abs=30)
    of_texts = [each["sample"] for each in taken if each["source"] == "texts"]
    assert len(set(of_texts[:12])) == len(set(of_texts[12:24])) == 12
    assert of_texts[:12] != of_texts[12:24]


@pytest.mark.parametrize("buckets", [1, 3])
def test_a_mixture_goes_on_from_any_position(tmp_path: Path, buckets: int) -> None:
    feed = mixed(tmp_path, pictures=1.0, texts=1.0, more=2.0)
    settings = FAST.model_copy(update={"bucket_batches": buckets})
    order = [each["sample"] + each["source"] for each in islice(rows(feed, settings, 0), 300)]
    for start in (1, 4, 12, 13, 255, 256, 270):
        found = [each["sample"] + each["source"] for each in islice(rows(feed, settings, start), 20)]
        assert found == order[start : start + 20], start


def test_another_weight_keeps_the_order_within_each_data_set(tmp_path: Path) -> None:
    orders = []
    for weight in (1.0, 5.0):
        taken = islice(rows(mixed(tmp_path, pictures=1.0, texts=weight), FAST, 0), 200)
        orders.append([each["sample"] for each in taken if each["source"] == "pictures"][:16])
    assert orders[0] == orders[1]


def test_with_buckets_a_batch_has_rows_of_about_one_length(tmp_path: Path) -> None:
    long = [row((f"number {number}", "It is red. " * (1 + number % 16))) for number in range(64)]
    feed = open_feed({"shards": str(write(tmp_path / "a", long))}, tmp_path / "feed", FAST)
    spreads = []
    for buckets in (1, 8):
        settings = FAST.model_copy(update={"bucket_batches": buckets})
        lengths = [each["length"] for each in islice(rows(feed, settings, 0), 64)]
        parts = [lengths[start : start + 4] for start in range(0, 64, 4)]
        spreads.append(sum(max(part) - min(part) for part in parts))
        assert sorted(each["sample"] for each in islice(rows(feed, settings, 0), 64)) == sorted(
            f"train-00000.parquet:{number}" for number in range(1, 65)
        ), "every row once in an epoch"
        firsts = [part[0] for part in parts]
    assert spreads[1] < spreads[0] / 3
    assert firsts != sorted(firsts), "short batches do not come first"


def test_a_mixture_is_trained_on_and_told_apart_and_a_killed_one_goes_on_exactly(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = mixed(tmp_path, pictures=1.0)
    sources = {each.name: each.source for each in feed.sets}
    schedule = Schedule((Stage("", FAST, {"pictures": 2.0, "texts": 1.0, "more": 1.0}),), sources)
    train_stages(schedule, str(model), tmp_path / "whole")
    stop_after(4, monkeypatch, lambda: train_stages(schedule, str(model), tmp_path / "killed"))
    train_stages(schedule, str(model), tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    last = read_log(tmp_path / "whole", "monitor.jsonl")[-1]["loss"]
    assert set(last["source"]) == set(sources) and set(last["turn"]) == {"1", "2"}
    data = json.loads((tmp_path / "whole" / "training.json").read_text())["data"]
    assert {each["name"]: each["weight"] for each in data} == {"pictures": 2.0, "texts": 1.0, "more": 1.0}


# --- text alone -------------------------------------------------------------------------------------------------------


def test_rows_of_text_alone_are_learned_beside_those_with_images(model: Path, processor: Any, tmp_path: Path) -> None:
    batch, skipped = encoder(processor).encode([TEXT, {**TEXT, "messages": text(3)}])
    assert batch is not None and not skipped and not batch.has_images
    labelled = batch.labels[0][batch.labels[0] != IGNORED]
    assert processor.tokenizer.decode(labelled) == "It is dark.<|end|>"
    feed = open_feed({"shards": str(write(tmp_path / "a", [*samples(5), *texts(3)]))}, tmp_path / "feed", FAST)
    (one,) = islice(batches(feed, processor, FAST.model_copy(update={"batch": 8}), 0), 1)
    assert [each.has_images for each in one.micro_batches] == [False, True] and not one.skipped
    result = train(str(tmp_path / "a"), str(model), tmp_path / "out", FAST)
    assert not result.skipped and result.last_loss < result.first_loss


def test_packing_joins_text_with_text(processor: Any, tmp_path: Path) -> None:
    feed = open_feed({"shards": str(write(tmp_path / "a", [*samples(5), *texts(3)]))}, tmp_path / "feed", FAST)
    settings = FAST.model_copy(update={"batch": 8, "pack_tokens": 10_000})
    (one,) = islice(batches(feed, processor, settings, 0), 1)
    assert [(each.has_images, len(each.turns)) for each in one.micro_batches] == [(False, 3), (True, 10)]


def test_micro_batches_have_rows_of_about_one_length(processor: Any, tmp_path: Path) -> None:
    uneven = [row(("Q", "It is red. " * (12 if number % 2 else 1))) for number in range(8)]
    feed = open_feed({"shards": str(write(tmp_path / "a", uneven))}, tmp_path / "feed", FAST)
    settings = FAST.model_copy(update={"batch": 8, "micro_batch": 4})
    (one,) = islice(batches(feed, processor, settings, 0), 1)
    short, long = one.micro_batches
    assert short.tokens == torch.numel(short.labels) < torch.numel(long.labels)


# --- forms ------------------------------------------------------------------------------------------------------------


def test_rows_in_the_forms_of_llava_and_finevision_are_those_of_trl() -> None:
    image = {"bytes": b"pixels", "path": None}
    of_llava: Row = {
        "image": image,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat colour is it?"},
            {"from": "gpt", "value": "It is red."},
        ],
    }
    turn = {"user": "What colour is it?", "assistant": "It is red."}
    of_finevision = {"images": [image], "texts": [turn], "source": "x"}
    asked, said = {"type": "text", "text": "What colour is it?"}, {"type": "text", "text": "It is red."}
    assert in_one_form(of_llava) == {
        "images": [image],
        "messages": [
            {"role": "user", "content": [{"type": "image"}, asked]},
            {"role": "assistant", "content": [said]},
        ],
    }
    assert in_one_form(of_finevision) == {
        "source": "x",
        "images": [image],
        "messages": [
            {"role": "user", "content": "What colour is it?"},
            {"role": "assistant", "content": "It is red."},
        ],
    }
    blind = {"image": None, "conversations": of_llava["conversations"][1:]}
    assert in_one_form(blind)["images"] == []


@pytest.mark.parametrize("form", ["llava", "finevision"])
def test_a_hub_set_of_either_form_is_trained_on_as_it_is(model: Path, tmp_path: Path, form: str) -> None:
    records = [of_form(form, {"bytes": picture(colour), "path": None}, f"It is {colour}.") for colour in COLOURS]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "set" / "part.parquet")
    result = train(str(tmp_path / "set"), str(model), tmp_path / "out", FAST)
    assert not result.skipped and result.last_loss < result.first_loss


def of_form(form: str, image: Row, answer: str) -> Row:
    if form == "finevision":
        return {"images": [image], "texts": [{"user": "Colour?", "assistant": answer}]}
    said = [{"from": "human", "value": "<image>\nColour?"}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": said}


def test_a_data_set_without_conversations_is_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"images": [[b"x"]], "caption": ["a cat"]}), tmp_path / "set" / "part.parquet")
    with pytest.raises(UserMistake, match="has no column 'messages'; shards have images and messages, as"):
        train(str(tmp_path / "set"), str(model), tmp_path / "out", FAST)


def test_an_order_counts_the_rows_of_each_data_set(tmp_path: Path) -> None:
    feed = mixed(tmp_path, pictures=1.0, texts=2.0)
    taken = Counter(each["source"] for each in islice(rows(feed, FAST, 0), 123))
    assert Order(feed, FAST).counts(123) == [taken["pictures"], taken["texts"]]
