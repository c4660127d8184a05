"""An audit through its page: who may see it, what is stored, and what the labels of an oracle then measure."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from synthgen import tables as schemas
from synthgen.commands.audit import command, labels, results
from synthgen.commands.audit.labels import Label, add_label, new_label, read_labels
from synthgen.commands.audit.server import Desk, app_of
from synthgen.errors import Damaged, UserMistake
from synthgen.stages.pack.card_notes import place_of
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import GENERATE, PLAN, SELECT
from tests.fixtures.reports import write_run

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return a run of six kept pairs."""
    return write_run(Folder(str(tmp_path / "out")), tmp_path / "photos")


def desk_of(folder: RunFolder, who: str = "ada", count: int = 200) -> Desk:
    examples, pictures = command.sample_of(folder, count)
    return Desk(examples, pictures, who, {}, lambda label: add_label(folder, label))


class Person:
    """Somebody who labels through the page."""

    def __init__(self, desk: Desk) -> None:
        self.client = TestClient(app_of(desk), base_url=LOCAL)
        self.token = desk.token

    def get(self, path: str) -> Any:
        reply = self.client.get(f"/{self.token}/{path}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def label(self, number: int, label: str, why: str | None = None) -> int:
        reply = self.client.post(f"/{self.token}/pairs/{number}", json={"label": label, "why": why})
        return int(reply.status_code)


def test_the_page_shows_a_pair_with_its_picture_and_without_its_scores(folder: RunFolder) -> None:
    person = Person(desk_of(folder))
    page = person.client.get(f"/{person.token}/")
    assert "<h1>Audit</h1>" in page.text and "unsafe" not in page.headers["content-security-policy"]
    assert "/*" not in page.text.partition("<script>")[2]
    pair = person.get("pairs/0")
    assert pair["question"] == "What is number 0?" and pair["answer"] == "It is 0."
    assert pair["picture"].startswith("data:image/webp;base64,") and "scores" not in json.dumps(pair)
    assert person.get("sample") == {"who": "ada", "labels": [None] * 6, "whys": list(labels.WHYS)}


def test_only_this_machine_and_only_who_has_the_address_sees_anything(folder: RunFolder) -> None:
    desk = desk_of(folder)
    client = TestClient(app_of(desk), base_url=LOCAL)
    assert [client.get(path).status_code for path in ("/", "/sample", "/guess/", "/guess/pairs/0")] == [404] * 4
    foreign = TestClient(app_of(desk), base_url="http://evil.example")
    assert foreign.get(f"/{desk.token}/sample").status_code == 400
    assert len(desk.token) > 20 and desk.token != desk_of(folder).token


def test_labels_are_stored_with_who_and_when_and_the_last_one_counts(folder: RunFolder) -> None:
    desk = desk_of(folder)
    ada, bob = Person(desk), Person(desk_of(folder, "bob"))
    assert [
        ada.label(0, "right"),
        ada.label(1, "wrong", labels.WHYS[0]),
        ada.label(1, "unsure"),
        bob.label(1, "wrong"),
    ] == [200] * 4
    found = {(label.who, label.pair_id): (label.label, label.why) for label in read_labels(folder)}
    first, second = desk.examples[0].id, desk.examples[1].id
    assert found == {
        ("ada", first): ("right", None),
        ("ada", second): ("unsure", None),
        ("bob", second): ("wrong", None),
    }
    assert all(label.at.endswith("+00:00") for label in read_labels(folder))
    assert ada.get("sample")["labels"] == ["right", "unsure", None, None, None, None]


def test_what_is_no_label_is_refused_and_not_stored(folder: RunFolder) -> None:
    person = Person(desk_of(folder))
    for body in (b"", b"[]", b"{}", b'{"label": "yes"}', b'{"label": ["right"]}', b'{"label": "wrong", "why": "mine"}'):
        assert person.client.post(f"/{person.token}/pairs/0", content=body).status_code == 400, body
    assert person.label(99, "right") == 400 and person.client.get(f"/{person.token}/pairs/99").status_code == 404
    assert not read_labels(folder)


def test_a_damaged_label_is_told_with_its_file(folder: RunFolder) -> None:
    add_label(folder, new_label("p", "right", None, "ada"))
    folder.out.child("audit").write("000001.json", b'{"pair_id": "p", "label": "perhaps"}')
    with pytest.raises(Damaged, match=r"audit/000001\.json: its 'label' is not what belongs there.*delete it"):
        read_labels(folder)


@pytest.mark.parametrize(
    ("sizes", "count", "allotted"),
    [
        ({"a": 90, "b": 9, "c": 1}, 20, {"a": 17, "b": 2, "c": 1}),
        ({"a": 5, "b": 5}, 100, {"a": 5, "b": 5}),
        ({"a": 50, "b": 40, "c": 30}, 2, {"a": 1, "b": 1}),
    ],
)
def test_types_are_drawn_in_proportion_and_rare_ones_are_not_left_out(
    sizes: dict[str, int], count: int, allotted: dict[str, int]
) -> None:
    assert command.allot(sizes, count) == allotted


def test_everybody_gets_the_same_sample(folder: RunFolder) -> None:
    first, second = (desk_of(folder, who, 4) for who in ("ada", "bob"))
    assert [example.id for example in first.examples] == [example.id for example in second.examples]
    assert len(first.examples) == 4


def test_a_nameless_person_and_a_run_without_kept_pairs_are_mistakes(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(UserMistake, match="--by"):
        command.audit(folder, command.AuditRequest(10, " "))
    none = write_run(Folder(str(tmp_path / "none")), tmp_path / "photos")
    with Lease.take(none.out) as lease:
        for partition in none.log(SELECT).partitions:
            none.empty(SELECT, partition, lease)
    with pytest.raises(UserMistake, match="no pair is kept"):
        command.sample_of(none, 10)


def test_without_a_label_the_results_say_so(folder: RunFolder) -> None:
    assert command.results_text(folder, 0.95) == "no kept pair is labelled yet"


def write_world(out: Folder, count: int) -> dict[str, bool]:
    """Write kept pairs of two types with a score that tells something of their truth; return the truth of each."""
    random.seed(11)
    truth: dict[str, bool] = {}
    rows: list[dict[str, Any]] = []
    for number in range(count):
        pair_id = schemas.make_id("pair", str(number))
        kind = "often/right" if number % 4 else "often/wrong"
        truth[pair_id] = random.random() < (0.95 if number % 4 else 0.7)
        value = random.betavariate(6, 2) if truth[pair_id] else random.betavariate(2, 4)
        rows.append({"pair_id": pair_id, "assignment_id": pair_id, "image_id": "i", "type": kind, "value": value})
    ids = ("pair_id", "assignment_id", "image_id")
    pairs = [
        {**{key: row[key] for key in (*ids, "type")}, "outcome": "pair", "question": row["pair_id"]} for row in rows
    ]
    decisions = [{**{key: row[key] for key in ids}, "kept": True, "reason": "kept"} for row in rows]
    scores = [{key: row[key] for key in ("pair_id", "value")} for row in rows]
    with Lease.take(out) as lease:
        for spec, tables in (
            (PLAN, {"images": schemas.table([], schemas.PLANNED_IMAGES)}),
            (
                GENERATE,
                {"pairs": schemas.table(pairs, schemas.PAIRS), "scores/truth": schemas.table(scores, schemas.SCORES)},
            ),
            (SELECT, {"decisions": schemas.table(decisions, schemas.DECISIONS)}),
        ):
            stage = StageFolder(out, spec)
            parts = {name: TablePart((stage.write(name, "e001-00000", 1, rows),), "f") for name, rows in tables.items()}
            stage.commit(Receipt("e001-00000", 1, parts, {}), lease)
    return truth


def oracle_labels(folder: RunFolder, truth: dict[str, bool], count: int) -> Sequence[str]:
    """Label a sample through the page as somebody who knows the truth would; return its pairs."""
    desk = desk_of(folder, "oracle", count)
    person = Person(desk)
    for number, example in enumerate(desk.examples):
        assert person.label(number, "right" if truth[person.get(f"pairs/{number}")["question"]] else "wrong") == 200
        assert example.id == example.question
    return [example.id for example in desk.examples]


def test_an_oracle_measures_the_truth_and_its_threshold_holds_on_the_rest(tmp_path: Path) -> None:
    made = write_run(Folder(str(tmp_path / "made")), tmp_path / "photos")
    out = Folder(str(tmp_path / "world"))
    out.write("run.json", b'{"format": 1}')
    RunFolder(out).write_record(dict(made.record or {}))
    truth = write_world(out, 4_000)
    labelled = oracle_labels(RunFolder(out), truth, 200)
    assert len(set(labelled)) == 200

    found = results.audited(RunFolder(out), read_labels(RunFolder(out)))
    share = results.precision(found)
    assert share is not None and share.count > 150
    low, high = share.interval
    assert low <= sum(truth.values()) / len(truth) <= high and high - low < 0.12
    assert {pair.type for pair in found.pairs} == {"often/right", "often/wrong"}

    text = command.results_text(RunFolder(out), 0.97)
    (line,) = (line for line in text.splitlines() if line.startswith("truth: "))
    least = float(line.partition("min: ")[2].rstrip("}"))
    scores = RunFolder(out).scores("e001-00000", "truth", ["pair_id", "value"]).to_pylist()
    rest = [truth[row["pair_id"]] for row in scores if row["value"] >= least and row["pair_id"] not in labelled]
    assert len(rest) > 2_000 and sum(rest) / len(rest) >= 0.96
    assert "200 kept pairs labelled by oracle" in text and "ROC area" in text


def test_results_name_types_people_agreement_and_reasons(folder: RunFolder) -> None:
    ids = [example.id for example in command.sample_of(folder, 6)[0]]
    given = [("ada", "right"), ("bob", "right"), ("ada", "wrong"), ("bob", "right"), ("ada", "wrong"), ("bob", "wrong")]
    for number, (who, label) in enumerate(given):
        add_label(folder, new_label(ids[number // 2], label, labels.WHYS[0] if label == "wrong" else None, who))
    add_label(folder, new_label("gone", "right", None, "ada"))
    lines = command.results_text(folder, 0.95).splitlines()
    assert lines[:2] == ["3 kept pairs labelled by ada, bob", "1 labelled pair not kept any more, and left out here"]
    assert (
        "coarse/scene                                         6      1      1       1      50.0%  9.5% to 90.5%"
        in lines
    )
    assert "agreement of 2 people on 3 pairs: Krippendorff's alpha 0.44" in lines
    assert f"wrong because: {labels.WHYS[0]} (3)" in lines
    faults = place_of(folder).read_json("faults.json", "")
    assert (faults["people"], faults["labelled"], faults["share"][0]) == (2, 2, 0.5)
    (of_type,) = faults["types"]
    assert (of_type["type"], of_type["right"], of_type["whys"]) == ("coarse/scene", 1, {labels.WHYS[0]: 2})


def test_a_pair_on_which_people_are_divided_is_unsure() -> None:
    def given(*words: str) -> list[Label]:
        return [new_label("p", word, None, str(number)) for number, word in enumerate(words)]

    assert results.verdict_of(given("right", "wrong")) == "unsure"
    assert results.verdict_of(given("right", "wrong", "right")) == "right"
    assert results.verdict_of(given("unsure")) == "unsure"
