"""Infinity-MM's way in small: two sets with planted faults become runs, and every fault is found by its name."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthgen.commands.importing import NO_PAIR, NOT_KEPT
from synthgen.errors import SettingsChanged
from synthgen.job.funnel import funnels
from synthgen.stages.listing import not_listed
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, LIST, PACK, PLAN, SELECT, TAG
from tests.fixtures.exporting import turns_of
from tests.fixtures.images import drawn, encoded
from tests.fixtures.importing import Imported
from tests.fixtures.instructions import llava, write_images, write_json
from tests.fixtures.rows import rows_of
from tests.fixtures.stage_runs import act_after

Row = dict[str, Any]
LEAKED = 90  # the picture of a benchmark


def question(number: int) -> tuple[tuple[str, str], ...]:
    return ((f"What is picture {number} about?", f"It is about number {number}."), ("And then?", f"Then {number + 1}."))


def picture(number: int, quality: int = 95) -> bytes:
    """Return a smooth picture unlike those of other numbers."""
    grid = Image.frombytes("RGB", (6, 6), random.Random(number).randbytes(108))
    return encoded(grid.resize((160, 120), Image.Resampling.BICUBIC), "JPEG", quality=quality)


def sharegpt(number: int, **more: Any) -> Row:
    """Return a row of ShareGPT's form on a picture of its number."""
    said = llava("", question(number), license="CC-BY-4.0")
    return {"id": f"s{number}", "images": [f"{number}.jpg"], **{**said, "id": f"s{number}", **more}, "image": None}


def rows_with_faults(folder: Path) -> list[Row]:
    """Write a set in LLaVA's form with planted faults, and return its rows."""
    folder.mkdir()
    for number in (*range(12), LEAKED):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    (folder / "small.jpg").write_bytes(picture(3, quality=60))  # the picture 3 in another compression
    (folder / "copy.jpg").write_bytes((folder / "4.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "drawn.png").write_bytes(encoded(drawn(), "PNG"))
    rows = [llava(f"{number}.jpg", question(number), id=number, license="CC0") for number in range(10)]
    return [
        *rows,
        rows[2],  # the very same row
        llava("small.jpg", question(3), id="near", license="CC0"),
        llava("copy.jpg", question(4), id="copy", license="CC0"),
        llava("copy.jpg", (("Another question about it?", "Another answer."),), id="other", license="CC0"),
        llava("broken.jpg", question(30), id="broken", license="CC0"),
        llava("10.jpg", (("", "An answer."), ("A question?", " ")), id="empty", license="CC0"),
        llava("10.jpg", (("A question?", ""), ("A second question?", "Its answer.")), id="half", license="CC0"),
        llava("11.jpg", question(11), id="closed", license="all rights reserved"),
        llava("11.jpg", question(12), id="unstated"),
        llava(f"{LEAKED}.jpg", question(LEAKED), id="leaked", license="CC0"),
        llava("../0.jpg", question(13), id="outside"),
        {"id": "text", "conversations": llava()["conversations"]},
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a set and with a benchmark that one of its pictures is of."""
    folder = tmp_path_factory.mktemp("sets")
    write_json(folder / "llava.json", rows_with_faults(folder / "photos"))
    (folder / "bench").mkdir()
    (folder / "bench" / "a.jpg").write_bytes(picture(LEAKED))
    return folder


def imported(folder: Path, out: str, *more: str) -> Imported:
    licenses = "select.where={license: [CC0*, CC-BY*]}"
    return Imported(folder / "llava.json", folder / out, licenses, *more, root=str(folder / "photos"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Imported:
    """Return the set imported without what is in the benchmark."""
    run = imported(folder, "whole", f"select.decontaminate={{sets: ['{folder / 'bench'}']}}")
    run.run()
    return run


@pytest.fixture(scope="module")
def plain(folder: Path) -> Imported:
    """Return the set imported without a look at benchmarks, which takes seconds."""
    run = imported(folder, "plain")
    run.run()
    return run


def reasons(run: Imported) -> dict[str, set[str]]:
    """Return the original id of each row → what became of it and of its turns, but for what was kept."""
    metas = {row["object_id"]: json.loads(row["source_meta"] or "{}") for row in rows_of(run.out, LIST, "objects")}
    ids = {key: str(meta.get("id", "refused")) for key, meta in metas.items()}
    found: dict[str, set[str]] = {}
    for row in rows_of(run.out, TAG, "images"):
        if row["reason"]:
            found.setdefault(ids[row["object_id"]], set()).add(row["reason"])
    pairs = rows_of(run.out, GENERATE, "pairs")
    decided = {row["pair_id"]: row["reason"] for row in rows_of(run.out, SELECT, "decisions")}
    for row in pairs:
        why = row["reason"] or decided[row["pair_id"]]
        if why != "kept":
            found.setdefault(ids[row["object_id"]], set()).add(why)
    return found


def test_every_planted_fault_is_found_and_nothing_else_is_dropped(whole: Imported) -> None:
    found = reasons(whole)
    doubled = {name for name, why in found.items() if "duplicate:same_pair" in why}
    assert len(doubled & {"3", "near"}) == 1 and len(doubled & {"4", "copy"}) == 1 and len(doubled) == 2
    for name in doubled:
        assert found.pop(name) <= {"duplicate:same_pair", "rule:previous_dropped"}
    assert found == {
        "broken": {"not_an_image"},
        "empty": {"empty_question", "empty_answer"},
        "half": {"empty_answer"},
        "closed": {"where"},
        "unstated": {"where"},
        "leaked": {"contaminated:image"},
        "refused": {"path_refused", "no_image"},
    }
    assert not_listed(RunFolder(whole.out)) == {"row that stands there twice": 1}


def test_every_row_is_accounted_for(whole: Imported) -> None:
    report = whole.run()  # a second time there is nothing to do
    assert (report.rows, report.repeated, report.pending) == (22 - 1, 1, 0)
    dropped = {"quarantined.no_image": 1, "quarantined.not_an_image": 1, "quarantined.path_refused": 1}
    assert report.dropped == {**dropped, NO_PAIR: 1, NOT_KEPT: 5}
    assert report.kept == len(rows_of(whole.out, PACK, "index")) == 12
    for funnel in funnels(RunFolder(whole.out)):
        assert funnel.is_settled, funnel


def test_the_lineage_of_a_pair_leads_to_the_words_of_its_row(whole: Imported) -> None:
    pairs = {row["question"]: row for row in rows_of(whole.out, GENERATE, "pairs")}
    first = pairs["What is picture 7 about?"]
    assert first["raw_question"] == "<image>\nWhat is picture 7 about?" and first["follows"] is None
    later = next(row for row in rows_of(whole.out, GENERATE, "pairs") if row["answer"] == "Then 8.")
    assert later["follows"] == first["pair_id"] and later["raw_question"] == later["question"] == "And then?"
    (image,) = (row for row in rows_of(whole.out, PLAN, "images") if row["object_id"] == first["object_id"])
    assert json.loads(image["source_meta"]) == {"set": "llava", "id": 7, "license": "CC0"}
    said = [first[name] for name in ("type", "form", "language", "model")]
    assert said == ["imported/turn", "short", "English", None]


def test_the_turns_of_a_row_are_one_sample_in_their_order(whole: Imported, folder: Path) -> None:
    files = (folder / "whole/5-shards/data").glob("*.parquet")
    samples = [row for file in files for row in pq.read_table(file).to_pylist()]
    told = {json.loads(row["source_meta"])["id"]: turns_of(row["messages"]) for row in samples}
    assert told[5] == question(5) and told["other"] == (("Another question about it?", "Another answer."),)
    assert told["half"] == (("A second question?", "Its answer."),)
    assert Counter(row["license"] for row in samples) == {"CC0-1.0": 12}


def test_the_card_names_the_set_and_its_licences(whole: Imported, folder: Path) -> None:
    card = (folder / "whole/5-shards/README.md").read_text()
    assert "| Set | llava |" in card and "| Form | llava |" in card and "| CC0-1.0 | 11 | 100.0% |" in card
    assert "came with the instruction set" in card and "synthetic" not in card and "| Model |" not in card


def test_another_licence_list_is_tried_without_reading_a_row_again(folder: Path) -> None:
    run = imported(folder, "rights")
    run.run()
    again = imported(folder, "rights", "select.where=null")
    before = RunFolder(run.out).log(GENERATE)
    again.run(SELECT, PACK)
    assert "where" not in {reason for why in reasons(again).values() for reason in why}
    assert RunFolder(run.out).log(GENERATE).partitions == before.partitions


@pytest.mark.parametrize("stage", [LIST, TAG, PLAN, GENERATE, SELECT, PACK], ids=lambda spec: spec.name)
def test_an_import_killed_in_any_stage_loses_nothing_and_does_nothing_twice(
    stage: Any, plain: Imported, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes in place of a commit: what the stage wrote is there, and nothing names it."""
    run = imported(folder, f"killed-{stage.name}")
    order = [LIST, TAG, PLAN, GENERATE, SELECT, PACK]
    run.run(*order[: order.index(stage)]) if order.index(stage) else None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        act_after(patch, 0, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        run.run(stage)
    again = imported(folder, f"killed-{stage.name}")
    report = again.run()
    assert report == plain.run()
    for spec, table in ((LIST, "objects"), (PLAN, "assignments"), (PACK, "index")):
        key = spec.table(table).key
        ids = [row[key] for row in rows_of(again.out, spec, table)]
        assert sorted(ids) == sorted(row[key] for row in rows_of(plain.out, spec, table)) and len(ids) == len(set(ids))


def test_a_set_that_grew_adds_its_new_rows_alone(folder: Path, tmp_path: Path) -> None:
    files = write_images(tmp_path / "photos", 4)
    assert len(files) == 4
    rows = [llava(f"{number}.jpg", question(number), id=number) for number in range(3)]
    place = write_json(tmp_path / "set.json", rows)
    run = Imported(place, tmp_path / "out", root=str(tmp_path / "photos"))
    assert run.run().kept == 3
    pairs = {row["pair_id"] for row in rows_of(run.out, GENERATE, "pairs")}
    (tmp_path / "photos" / "0.jpg").touch()  # another version of the same bytes
    more = [llava("3.jpg", question(3), id=3), llava("0.jpg", (("What else?", "More of it."),), id=4)]
    write_json(place, [*rows, *more])
    report = Imported(place, tmp_path / "out", root=str(tmp_path / "photos")).run()
    assert (report.rows, report.kept, report.pending) == (5, 5, 0)
    assert pairs < {row["pair_id"] for row in rows_of(run.out, GENERATE, "pairs")}


def test_rows_that_are_listed_are_not_read_otherwise(folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    place = write_json(tmp_path / "set.json", [llava()])
    Imported(place, tmp_path / "out").run(LIST)
    with pytest.raises(SettingsChanged, match="the rows already listed were read otherwise; use another --out"):
        Imported(place, tmp_path / "out", license="CC0")


def test_turns_that_are_not_linked_stand_alone(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    place = write_json(tmp_path / "set.json", [llava()])
    run = Imported(place, tmp_path / "out", "source.rows.linked=false")
    run.run()
    assert [row["follows"] for row in rows_of(run.out, GENERATE, "pairs")] == [None, None]
    assert len(rows_of(run.out, PACK, "index")) == 2
