"""The prompts that a page shows are those that were sent, and the plan's reasons are those by which it asks."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from synthgen.commands.browse.conversation import ASKED_AGAIN, EXACT, OF_OLDER_FILES, Call, conversation_of
from synthgen.commands.browse.files import Files, FilesOfRun
from synthgen.commands.browse.pair import find_pair
from synthgen.commands.browse.reasons import Reasons, reasons_of
from synthgen.commands.browse.server import Desk
from synthgen.commands.browse.snapshot import Snapshot, open_snapshot
from synthgen.job.job import open_job
from synthgen.store import Folder
from synthgen.tables import GENERATE
from tests.commands.browse.test_browse import Reader, texts
from tests.fixtures.held_runs import PARTITION, Held, go_on, hold_run
from tests.fixtures.workspace import DEFINITION_FILES, write, write_definition_files

TAGS = [["animal/cat"], ["document/invoice"], ["animal/red_panda", "document/letter"]] * 2
FOLLOWING = "      more: {about: on, needs: x, forms: [short], examples: ['And?', 'So?'], follows: true}\n"
FAMILY = "prompts/families/small.yaml"
Row = dict[str, Any]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with small definition files, a type among them that goes on from a pair."""
    folder = write_definition_files(tmp_path / "work")
    write(folder / FAMILY, DEFINITION_FILES[FAMILY].replace("  fine:\n", f"{FOLLOWING}  fine:\n"))
    monkeypatch.chdir(folder)
    return folder


@dataclass
class Seen:
    """A run that is looked at."""

    held: Held
    snapshot: Snapshot
    files: Files

    @staticmethod
    def of(held: Held) -> "Seen":
        snapshot = open_snapshot(held.folder.out)
        files = FilesOfRun(snapshot.folder).get()
        assert isinstance(files, Files), files
        return Seen(held, snapshot, files)

    @property
    def rows(self) -> list[Row]:
        return list(self.snapshot.folder.table(GENERATE, PARTITION, "pairs").to_pylist())

    def calls(self, row: Row) -> list[Call]:
        return conversation_of(self.snapshot, self.files, PARTITION, row)

    def reasons(self, row: Row) -> Reasons:
        found = find_pair(self.snapshot, PARTITION, row["assignment_id"])
        assert found is not None
        return reasons_of(self.snapshot, self.files, PARTITION, found.image, row["type"])


def everything_is_as_sent(seen: Seen) -> int:
    """Assert that each prompt was sent, by the model that is named, with the reply that is shown; return the calls."""
    sent = {(request.system or "", request.text) for _, request, _ in seen.held.calls}
    replies = {(model, request.text, reply.text) for model, request, reply in seen.held.calls}
    count = 0
    for row in seen.rows:
        for call in seen.calls(row):
            assert call.doubt == EXACT and (call.system, call.prompt) in sent, call
            if call.reply is not None and not row["reasoning"]:
                assert (call.model, call.prompt, call.reply) in replies
            count += 1
    return count


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("generate.ask={model: other}",),
        ("plan.negatives=0.3", "generate.engine.options={worst: 0.7, decline: 0.2, junk: 0.1}"),
    ],
    ids=["one model", "two models", "negatives"],
)
def test_prompts_and_replies_are_those_of_the_calls(work: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small", "plan.per_image=4", *settings)
    seen = Seen.of(held)
    assert everything_is_as_sent(seen) > 2 * len(seen.rows) > 30
    types = {row["type"] for row in seen.rows}
    assert "coarse/more" in types and ("unanswerable/fine/reading" in types) == bool("plan" in "".join(settings))
    asked = [call for row in seen.rows for call in seen.calls(row) if call.title == "ask"]
    assert any(call.questions > 1 for call in asked)
    titles = {call.title for row in seen.rows for call in seen.calls(row)}
    assert titles >= {"ask", "answer", "score answer"}


def test_prompts_of_the_shipped_pack_are_those_of_the_calls(work: Path, tmp_path: Path) -> None:
    shown = [["animal/dog", "place/beach"]]
    settings = ("tag.tagger=everyday-sidecar", "generate.model=none", "generate.engine={kind: scripted}")
    held = hold_run(
        Folder(str(tmp_path / "out")), tmp_path / "photos", shown, "everyday", *settings, "plan.per_image=5"
    )
    assert everything_is_as_sent(Seen.of(held)) > 30


def test_after_an_edit_the_prompts_of_before_are_said_to_be_doubtful(work: Path, tmp_path: Path) -> None:
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small")
    pack = DEFINITION_FILES["prompts/small.yaml"]
    write(work / "prompts/small.yaml", pack.replace("{{ question }} Short.", "{{ question }} Very short."))
    seen = Seen.of(held)
    for row in seen.rows:
        doubts = {call.title: call.doubt for call in seen.calls(row)}
        assert doubts.get("answer", EXACT) == (OF_OLDER_FILES if row["form"] == "short" and row["answer"] else EXACT)


def test_a_type_that_is_gone_leaves_the_replies(work: Path, tmp_path: Path) -> None:
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small")
    write(work / FAMILY, DEFINITION_FILES[FAMILY].replace("      counting:", "      tallying:"))
    seen = Seen.of(held)
    gone = [row for row in seen.rows if row["type"] == "coarse/counting"]
    for row in gone:
        calls = seen.calls(row)
        assert [call.reply for call in calls] == [row["raw_question"], row["raw_answer"]]
        assert all("not known" in call.doubt and not call.prompt for call in calls)
    assert gone


def test_where_others_of_a_call_were_asked_again_the_number_in_its_prompt_is_doubtful(
    work: Path, tmp_path: Path
) -> None:
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small", "plan.per_image=4")
    seen = Seen.of(held)
    row = next(row for row in seen.rows if any(call.questions > 1 for call in seen.calls(row)))
    kind = ("image_id", "type", "language", "raw_question")
    other = next(each for each in seen.rows if each is not row and all(each[key] == row[key] for key in kind)
                 and each["assignment_id"] != row["assignment_id"])  # fmt: skip
    rows = [
        {**each, "attempt": 1, "raw_question": "again"} if each["assignment_id"] == other["assignment_id"] else each
        for each in seen.rows
    ]
    table = seen.snapshot.folder.table(GENERATE, PARTITION, "pairs")
    again = type(table).from_pylist(rows, schema=table.schema)
    seen.snapshot.folder._tables[GENERATE.folder, PARTITION, "pairs", None] = again  # type: ignore[attr-defined]
    assert next(call for call in seen.calls(row) if call.title == "ask").doubt == ASKED_AGAIN


def test_the_reasons_are_the_rules_and_the_draw_of_the_plan(work: Path, tmp_path: Path) -> None:
    held = hold_run(
        Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small", "plan.balance={types: 0.5}", "plan.seed=3"
    )
    seen = Seen.of(held)
    for row in seen.rows:
        reasons = seen.reasons(row)
        assert row["assignment_id"] in reasons.drawn and reasons.seed == 3
        assert reasons.rules[0].asks and reasons.share is not None and 0 < reasons.share <= 1
        assert sum(share for _, share in reasons.likeliest) == pytest.approx(1)
    reading = next(row for row in seen.rows if row["type"] == "fine/reading")
    asking = [rule for rule in seen.reasons(reading).rules if rule.asks]
    assert [(rule.patterns, rule.effects) for rule in asking] == [("document/**", ("ask 4: fine/**",))]
    assert asking[0].where.endswith("small.yaml:5")


def test_questions_that_the_rules_of_now_do_not_draw_are_told_apart(work: Path, tmp_path: Path) -> None:
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small")
    mapping = "pipelines/mappings/small.yaml"
    write(work / mapping, DEFINITION_FILES[mapping].replace("fine/**: 4", "coarse/scene: 4"))
    seen = Seen.of(held)
    reading = next(row for row in seen.rows if row["type"] == "fine/reading")
    reasons = seen.reasons(reading)
    assert reading["assignment_id"] not in reasons.drawn and reasons.share is None
    assert not any(rule.asks for rule in reasons.rules)


@pytest.fixture
def reader(work: Path, tmp_path: Path) -> Iterator[Reader]:
    """Return a reader of a run with negatives, whose source tags imply others."""
    settings = ("plan.negatives=0.3", "generate.engine.options={worst: 0.7}", "plan.per_image=4")
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS, "small", *settings)
    desk = Desk(held.folder.out)
    yield Reader(desk)
    desk.close()


def test_the_page_shows_the_conversation_and_the_reasons(reader: Reader) -> None:
    text = texts(reader, reader.links("pairs?type=fine/reading")[0])
    reasons = ("Because of the tags document", "asks this type", "ask 4: fine/**", "small.yaml:5", "draw it too")
    talk = ("image, then prompt", "Be good.", "about reading in English", "reply, as it came", "score answer")
    for words in (*reasons, *talk, "of the weight of all types", "What it came to is in the detail of the score above"):
        assert words in text, words
    negative = texts(reader, reader.links("pairs?type=unanswerable")[0])
    assert "It is a negative: its question was written for another image" in negative
    image = texts(reader, reader.links("images?tag=document")[0])
    assert "ask 4: fine/**" in image and "types suit the image" in image


def test_a_run_that_went_on_after_an_edit_is_exact_again(work: Path, tmp_path: Path) -> None:
    held = hold_run(Folder(str(tmp_path / "out")), tmp_path / "photos", TAGS[:3], "small")
    pack = DEFINITION_FILES["prompts/small.yaml"]
    write(work / "prompts/small.yaml", pack.replace("{{ question }} Short.", "{{ question }} Very short."))
    edited = replace(held, job=open_job(held.folder.out, held.job.pipeline, home=Path(os.curdir)))
    go_on(edited, is_update=True)
    held.folder.write_record({**(held.folder.record or {}), "shape": dict(edited.job.shape)})
    seen = Seen.of(edited)
    assert {call.doubt for row in seen.rows for call in seen.calls(row) if call.title == "answer"} == {EXACT}
    assert any(row["attempt"] for row in seen.rows)
