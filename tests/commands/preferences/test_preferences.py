"""Preferences are made of answers that further samples rank clearly, and every pair is accounted for."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen import cli
from synthgen import tables as schemas
from synthgen.commands.preferences import make_preferences, ranking
from synthgen.commands.preferences.card import OUTCOMES
from synthgen.commands.preferences.ranking import Preference, prefer
from synthgen.config.packing import PackConfig
from synthgen.config.selection import KeepRule
from synthgen.errors import NothingUsable, UserMistake
from synthgen.store import Folder, RunFolder
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE
from tests.fixtures.packing import Row, World, pair, pictures


def agreement(*samples: str) -> dict[str, str]:
    return {"agreement": json.dumps({"samples": samples})}


def consistency(sizes: list[int], meanings: list[str]) -> dict[str, str]:
    return {"consistency": json.dumps({"sizes": sizes, "meanings": meanings, "entropy": 0.5})}


def other_form(answer: str) -> dict[str, str]:
    return {"other_form": json.dumps({"form": "detailed", "answer": answer})}


OTHER, SAME = other_form("It looks so.\nAnswer: blue"), other_form("It looks so.\nAnswer: red")


@pytest.mark.parametrize(
    ("form", "details", "expected"),
    [
        ("short", {}, "no_samples"),
        ("short", agreement("red", "Red.", "the red"), "unanimous"),
        ("short", agreement("red", "red", "red", "blue"), Preference("blue", "agreement", 0.8, 0.2, 5)),
        ("short", agreement("red", "red", "blue", "green"), "below_margin"),
        ("short", agreement("blue", "blue", "blue", "green"), "not_majority"),
        ("short", agreement("blue"), "not_majority"),
        ("short", agreement("red", "red", "red", " "), "unusable"),
        ("brief", agreement("red", "red", "red", "blue"), "not_clustered"),
        ("brief", consistency([4, 1], ["It is red.", "Blue."]), Preference("Blue.", "consistency", 0.8, 0.2, 5)),
        ("brief", consistency([5], ["It is red."]), "unanimous"),
        ("brief", consistency([1, 4], ["It is red.", "Blue."]), "not_majority"),
        # Of several, the one that fewest say.
        (
            "short",
            consistency([7, 2, 1], ["red", "blue", "green"]),
            Preference("green", "consistency", 0.7, 0.1, 10),
        ),
        # The answer in another form is a vote more, and may be what is rejected.
        ("short", agreement("red", "red") | OTHER, Preference("blue", "other_form", 0.75, 0.25, 4)),
        ("short", OTHER, "no_samples"),
        ("short", agreement("red", "red", "blue") | SAME, Preference("blue", "agreement", 0.8, 0.2, 5)),
        ("choice", agreement("A", "A", "A", "B"), Preference("B", "agreement", 0.8, 0.2, 5)),
        ("choice", agreement("A. red", "(A)", "A", "B. blue"), Preference("B", "agreement", 0.8, 0.2, 5)),
        ("choice", agreement("A", "A", "A", "I am not sure"), "unusable"),
        ("choice", agreement("A", "A", "A", "E. None of them"), "unusable"),
    ],
)
def test_a_preference_needs_a_clear_majority_for_the_kept_answer(
    form: str, details: dict[str, str], expected: Preference | str
) -> None:
    answer = {"short": "red", "brief": "It is red.", "choice": "A"}[form]
    found = prefer({"pair_id": "p", "form": form, "answer": answer}, details, 0.5)
    assert found == expected


@given(
    samples=st.lists(st.sampled_from(["red", "blue", "green", ""]), max_size=9),
    margin=st.sampled_from([0.01, 0.3, 0.5, 0.9]),
)
def test_a_preference_is_ranked_by_its_margin_whatever_the_order_of_the_samples(
    samples: list[str], margin: float
) -> None:
    row = {"pair_id": "p", "form": "short", "answer": "red"}
    found = prefer(row, agreement(*samples), margin)
    assert found == prefer(row, agreement(*reversed(samples)), margin)
    votes = Counter(["red", *samples])
    if isinstance(found, Preference):
        assert found.chosen_share - found.rejected_share >= margin - 1e-9
        assert votes["red"] > max(count for text, count in votes.items() if text != "red")
        assert found.rejected in set(samples) - {"red", ""}
        assert found.votes == len(samples) + 1
    else:
        assert found in OUTCOMES


def add(
    world: World, epoch: int, details: list[dict[str, str]], dropped: int | None = None, goes_on: int | None = None
) -> list[Row]:
    """Add an image with a pair for each of these details, and return the pairs.

    Args:
        world: The run.
        epoch: Of the partition.
        details: Score → JSON, of each pair.
        dropped: The place of a pair that a rule drops.
        goes_on: The place of a pair that goes on from the one before.
    """
    world.add(epoch, pictures(1, start=epoch), turns=0)
    partition = partition_name(epoch, 0)
    (planned,) = RunFolder(world.out).table(schemas.PLAN, partition, "images").to_pylist()
    rows = [pair(planned["image_id"], planned["object_id"], number, answer="red") for number in range(len(details))]
    if dropped is not None:
        rows[dropped]["answer"] = ""
    if goes_on is not None:
        rows[goes_on]["follows"] = rows[goes_on - 1]["pair_id"]
    tables = {"pairs": schemas.table(rows, schemas.PAIRS)}
    likelihood = [{"pair_id": row["pair_id"], "value": row["ordinal"] / 10} for row in rows]
    tables["scores/likelihood"] = schemas.table(likelihood, schemas.SCORES)
    for name in ranking.SOURCES:
        scored = [
            {"pair_id": row["pair_id"], "value": 0.5 if name in given else None, "detail": given.get(name)}
            for row, given in zip(rows, details, strict=True)
        ]
        tables[f"scores/{name}"] = schemas.table(scored, schemas.SCORES)
    world.commit(GENERATE, partition, tables, epoch)
    return rows


def make(world: World, target: Path, **sizes: Any) -> tuple[Any, list[Row]]:
    """Pack, write preferences, and return the counts and the rows."""
    world.pack()
    outcomes = make_preferences(RunFolder(world.out), Folder(str(target)), 0.5, PackConfig(**sizes))
    files = sorted((target / "data").glob("*.parquet"))
    return outcomes, [row for file in files for row in pq.read_table(file).to_pylist()]


CLEAR = agreement("red", "red", "red", "blue")


def test_every_pair_of_a_run_gives_a_preference_or_a_reason(world: World, tmp_path: Path) -> None:
    first = add(world, 1, [CLEAR, agreement("red"), {}, agreement("blue", "blue")], dropped=3)
    second = add(world, 2, [agreement("blue", "blue"), CLEAR], goes_on=1)
    world.select = world.select.model_copy(update={"keep": {"likelihood": KeepRule(max=0.15)}})
    outcomes, rows = make(world, tmp_path / "prefs")
    assert outcomes == {"preference": 2, "unanimous": 1, "not_kept": 2, "not_majority": 1}
    assert sum(outcomes.values()) == len(first) + len(second)
    assert [row["pair_id"] for row in rows] == [first[0]["pair_id"], second[1]["pair_id"]]
    plain, follow_up = rows
    image, question = plain["prompt"][0]["content"]
    assert image == {"type": "image", "text": None} and question["text"] == "What colour is it?"
    assert [plain[name][0]["content"][0]["text"] for name in ("chosen", "rejected")] == ["red", "blue"]
    assert (plain["votes"], plain["source"], plain["form"], plain["score_likelihood"]) == (5, "agreement", "short", 0.0)
    assert plain["margin"] == pytest.approx(0.6) and plain["chosen_share"] == pytest.approx(0.8)
    assert [message["role"] for message in follow_up["prompt"]] == ["user", "assistant", "user"]
    assert len(follow_up["prompt"][0]["content"]) == 2 and len(follow_up["prompt"][2]["content"]) == 1
    assert all(row["images"][0]["bytes"] == world.samples[at]["images"][0]["bytes"] for at, row in enumerate(rows))
    text = (tmp_path / "prefs" / "README.md").read_text()
    assert "# 2 preferences" in text and "| 2 | `select` dropped" in text and "| 6 | all pairs |" in text


def test_preferences_are_the_same_however_they_are_cut_into_files(world: World, tmp_path: Path) -> None:
    for epoch in range(1, 5):
        add(world, epoch, [CLEAR, CLEAR])
    world.pack()
    one = make(world, tmp_path / "one")
    many = make(world, tmp_path / "many", shard_megabytes=1, row_group_megabytes=1)
    assert one == many and one[0] == {"preference": 8}


def test_a_run_without_samples_is_a_mistake_of_one_line(world: World, tmp_path: Path) -> None:
    world.add(1, pictures(1))
    world.pack()
    with pytest.raises(UserMistake, match="no score of this run kept other answers"):
        make_preferences(RunFolder(world.out), Folder(str(tmp_path / "prefs")), 0.5, PackConfig())


def test_without_any_preference_nothing_is_written_and_the_command_fails(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(world, 1, [agreement("red"), {}])
    outcomes, rows = make(world, tmp_path / "prefs")
    assert outcomes == {"unanimous": 1, "no_samples": 1} and not rows and not (tmp_path / "prefs").exists()
    monkeypatch.setattr("synthgen.commands.open.open_run_folder", lambda out: None)
    monkeypatch.setattr("synthgen.commands.preferences.write_preferences", lambda *given: outcomes)
    with pytest.raises(NothingUsable, match="prefs: nothing was written, as no pair gives a preference; give a small"):
        cli.app(["preferences", "out", "prefs"], standalone_mode=False)
    assert "no_samples" in capsys.readouterr().out


def test_datasets_and_trl_read_the_preferences(world: World, tmp_path: Path, processor: Any) -> None:
    datasets, trainer = pytest.importorskip("datasets"), pytest.importorskip("trl.trainer.dpo_trainer")
    for epoch in (1, 2):
        add(world, epoch, [CLEAR, CLEAR], goes_on=1)
    make(world, tmp_path / "prefs")
    files = str(tmp_path / "prefs" / "data" / "*.parquet")
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert data.num_rows == 4 and data[0]["images"][0].size == (48, 48)
    batch = trainer.DataCollatorForVisionPreference(processor)([data[0], data[1]])
    texts = [
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert [text.count("red") for text in texts] == [1, 1, 0, 0]
    assert [text.count("blue") for text in texts] == [0, 0, 1, 1]
    assert batch["pixel_values"].shape[0] == 4  # both answers of both rows


def test_trls_trainer_takes_a_step_on_preferences(world: World, tmp_path: Path, model: Path, processor: Any) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    add(world, 1, [CLEAR, CLEAR], goes_on=1)
    make(world, tmp_path / "prefs")
    files = str(tmp_path / "prefs" / "data" / "*.parquet")
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    network = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(model)
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        max_length=None, bf16=False, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    columns = data.select_columns(["images", "prompt", "chosen", "rejected"])
    trainer = trl.DPOTrainer(network, args=settings, train_dataset=columns, processing_class=processor)
    assert trainer.train().training_loss > 0
