"""A run drops what earlier runs kept, by their folders alone, and names the run in the reason."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from synthgen.config.deduplication import NearAnswersConfig, NearQuestionsConfig
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.errors import Mistakes
from synthgen.stages import select
from synthgen.store import Folder, Lease, RunFolder
from synthgen.tables import SELECT
from tests.fixtures.rows import describe_run
from tests.fixtures.selecting import Output, Row, decide, generate, pair, pending
from tests.stages.select.test_duplicates import BUS, DOGS, LONG, NEAR_BUS, NEAR_LONG, clusters


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[tuple[Output, Output]]:
    """Hold the leases on two output folders, `first` and `second`."""
    with ExitStack() as leases:
        folders = [Folder(str(tmp_path / name)) for name in ("first", "second")]
        for folder in folders:
            describe_run(folder)
        first, second = ((folder, leases.enter_context(Lease.take(folder))) for folder in folders)
        yield first, second


def against(first: Output, **settings: object) -> SelectConfig:
    return SelectConfig.model_validate({"against": [first[0].path], **settings})


def test_what_an_earlier_run_kept_is_dropped_whatever_the_scores(runs: tuple[Output, Output]) -> None:
    first, second = runs
    generate(first, "e001-00000", [pair("i", BUS), pair("j", DOGS)], {"answer": [0.1, 0.1]})
    decide(first)
    rows = [pair("i", NEAR_BUS, number=1), pair("i", DOGS, number=1), pair("j", DOGS, number=1)]
    generate(second, "e001-00000", rows, {"answer": [0.9, 0.9, 0.9]})
    config = against(first, survivor="answer", earlier_first=False)
    decided = decide(second, config)
    run = f"{select.EARLIER_RUN}first"
    assert [decided[row["pair_id"]] for row in rows] == [run, "kept", run]
    assert set(decide(second).values()) == {"kept"}, "without the setting nothing is dropped"


def test_near_texts_of_the_whole_set_are_compared_with_an_earlier_run(runs: tuple[Output, Output]) -> None:
    first, second = runs
    earlier = [pair("i", BUS, LONG), pair("j", NEAR_BUS, "Red.")]
    generate(first, "e001-00000", earlier)
    decide(first)
    rows = [pair("k", NEAR_BUS, "Blue."), pair("l", DOGS, NEAR_LONG), pair("m", "Where is the cat?", "On the mat.")]
    generate(second, "e001-00000", rows)
    near = {"global_questions": NearQuestionsConfig(), "global_answers": NearAnswersConfig()}
    decided = decide(second, against(first, **near))
    run = f"{select.EARLIER_RUN}first"
    assert [decided[row["pair_id"]] for row in rows] == [run, run, "kept"]
    (member,) = clusters(second, "global_question")
    assert member == (rows[0]["pair_id"], earlier[1]["pair_id"], "first", 1.0, False)
    three = [pair(str(number), BUS, str(number)) for number in range(3)]
    generate(second, "e001-00000", three)
    some = against(first, global_questions=NearQuestionsConfig(most=3))
    decided = decide(second, some)
    assert sorted(decided[row["pair_id"]] for row in three).count("kept") <= 1, "those of the earlier run count too"


def test_a_pair_that_an_earlier_run_dropped_stands_in_nobodys_way(runs: tuple[Output, Output]) -> None:
    first, second = runs
    generate(first, "e001-00000", [pair("i", BUS)], {"answer": [0.1]})
    decide(first, SelectConfig(keep={"answer": KeepRule(min=0.5)}))
    generate(second, "e001-00000", [row := pair("i", BUS, number=1)])
    assert decide(second, against(first)) == {row["pair_id"]: "kept"}


def test_an_earlier_run_that_grew_or_was_decided_anew_makes_the_decisions_pending(runs: tuple[Output, Output]) -> None:
    first, second = runs
    generate(first, "e001-00000", [pair("i", BUS)])
    decide(first)
    generate(second, "e001-00000", [row := pair("j", DOGS)])
    decide(second, against(first))
    assert pending(second, against(first)) == []
    generate(first, "e002-00000", [pair("j", DOGS)])
    decide(first)
    assert pending(second, against(first)) == ["e001-00000"]
    assert decide(second, against(first)) == {row["pair_id"]: f"{select.EARLIER_RUN}first"}


def test_relative_folders_start_from_the_working_folder_of_the_run(
    runs: tuple[Output, Output], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = runs
    generate(first, "e001-00000", [pair("i", BUS)])
    decide(first)
    generate(second, "e001-00000", [pair("i", BUS)])
    monkeypatch.chdir("/")
    selection = select.prepare(RunFolder(second[0]), SelectConfig(against=("first",)), tmp_path)
    assert [run.name for run in selection.against] == ["first"]


def test_folders_that_cannot_be_used_are_mistakes_that_are_told_together(
    runs: tuple[Output, Output], tmp_path: Path
) -> None:
    first, second = runs
    other: list[Row] = [pair("i", BUS)]
    generate(first, "e001-00000", other)
    generate(second, "e001-00000", other)
    named = (first[0].path, second[0].path, str(tmp_path / "nowhere"))
    with pytest.raises(Mistakes) as caught:
        select.prepare(RunFolder(second[0]), SelectConfig(against=named))
    assert [line.partition(": ")[2].partition("; ")[0] for line in caught.value.lines] == [
        f"{first[0].path}: has nothing from 'select' yet",
        f"{second[0].path}: is this run itself",
        f"{tmp_path}/nowhere: holds no synth run",
    ]
    decide(first)
    with pytest.raises(Mistakes, match="2 folders are called first"):
        select.prepare(RunFolder(second[0]), SelectConfig(against=(first[0].path,) * 2))
    (tmp_path / "linked").symlink_to(first[0].path)
    again = SelectConfig(against=(first[0].path, str(tmp_path / "linked/")))
    assert [run.name for run in select.prepare(RunFolder(second[0]), again).against] == ["first", "linked"]
    assert RunFolder(second[0]).log(SELECT).partitions == {}
