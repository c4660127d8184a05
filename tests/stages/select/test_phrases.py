"""No more than a share of the questions of a type have a phrase in common, and the best of them stay."""

from collections import Counter
from pathlib import Path

import pytest

from synthgen.config.deduplication import PhrasesConfig
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.stages import select
from synthgen.stages.select import phrases
from synthgen.stages.select.trial import tallies
from synthgen.store import Folder, Lease
from tests.fixtures.selecting import Output, Row, decide, generate, pair, selection_of

PHRASE = "duplicate:phrase"
CAPPED = SelectConfig(survivor="answer", phrases=PhrasesConfig(most=0.25))
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(number: int) -> str:
    return LETTERS[number % 26] * 3 + LETTERS[number // 26 % 26] * 2


def asking(text: str, count: int, kind: str = "fine/use", answer: str = "It is red.") -> list[Row]:
    """Return pairs with a word of their own each in the slot of a question."""
    return [
        pair(f"{text}{kind}{number}", text.format(word(number)), type=kind, answer=answer) for number in range(count)
    ]


def others(count: int, kind: str = "fine/use") -> list[Row]:
    return [
        pair(f"other{kind}{number}", f"{word(number)} {word(number * 7 + 1)} {word(number * 3)}?", type=kind)
        for number in range(count)
    ]


def reasons(out: Output, rows: list[Row], config: SelectConfig = CAPPED) -> list[str]:
    decided = decide(out, config)
    return [decided[row["pair_id"]] for row in rows]


def falling(rows: list[Row]) -> dict[str, list[float]]:
    return {"answer": [1 - number / 1000 for number in range(len(rows))]}


@pytest.mark.parametrize(
    "text",
    ["What is the main use of {}?", "{}: what is the main use?", "Of this {} what is the main use — so to say?"],
)
def test_the_best_of_the_questions_of_a_template_stay(out: Output, text: str) -> None:
    rows = [*asking(text, 40), *others(80)]
    generate(out, "e001-00000", rows[::-1], {"answer": falling(rows)["answer"][::-1]})
    assert reasons(out, rows) == ["kept"] * 30 + [PHRASE] * 10 + ["kept"] * 80
    assert PHRASE not in reasons(out, rows, SelectConfig())


def test_each_type_has_its_own_share_and_a_few_stay_in_a_small_one(out: Output) -> None:
    small, large = asking("What is the main {}?", 25, "fine/small"), asking("What is the main {}?", 30, "fine/large")
    rows = [*small, *large, *others(90, "fine/large")]
    generate(out, "e001-00000", rows, falling(rows))
    found = reasons(out, rows)
    assert Counter(found[:25]) == {"kept": phrases.FEW, PHRASE: 25 - phrases.FEW}
    assert set(found[25:]) == {"kept"}


def test_a_question_with_two_phrases_needs_room_in_both_and_takes_none_if_it_is_dropped(
    out: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phrases, "FEW", 12)
    one, two = "what is the main {}", "in terms of its use"
    first = asking(f"{one} there?", 12)
    both = asking(f"{one} here {two}?", 6)
    second = asking(f"{{}} {two}, then?", 14)
    rows = [*first, *both, *second]
    generate(out, "e001-00000", rows, falling(rows))
    assert reasons(out, rows) == ["kept"] * 12 + [PHRASE] * 6 + ["kept"] * 12 + [PHRASE] * 2


def test_pairs_that_are_dropped_already_and_options_do_not_count(out: Output) -> None:
    bad = asking("What is the main {}?", 30, answer="")
    good = asking("What is the main {} now?", 20)
    options = ["to carry people and their luggage", "to sleep"]
    choice = [
        pair(f"c{number}", f"{word(number)}?", type="fine/use", form="choice", options=options, answer="A")
        for number in range(30)
    ]
    rows = [*bad, *good, *choice]
    generate(out, "e001-00000", rows, falling(rows))
    config = CAPPED.model_copy(update={"min_question_characters": 0})
    assert Counter(reasons(out, rows, config)) == {"rule:empty_answer": 30, "kept": 50}


def test_phrases_are_learned_from_a_sample_that_partitions_do_not_change(
    out: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phrases, "LEARNED", 60)
    rows = [*asking("What is the main use of {}?", 60), *others(60)]
    generate(out, "e001-00000", rows, falling(rows))
    whole = reasons(out, rows)
    assert Counter(whole) == {"kept": 90, PHRASE: 30}
    assert "'what is the main use of' in 60 of fine/use" in capsys.readouterr().err
    scores, again = falling(rows)["answer"], Folder(str(tmp_path / "again"))
    with Lease.take(again) as lease:
        for number, part in enumerate((slice(None, None, -2), slice(-2, None, -2))):
            generate((again, lease), f"e001-0000{number}", rows[part], {"answer": scores[part]})
        assert reasons((again, lease), rows) == whole


def test_a_trial_counts_and_tells_what_a_run_would_keep(out: Output) -> None:
    rows = [*asking("What is the main use of {}?", 40), *others(40)]
    generate(out, "e001-00000", rows, falling(rows))
    strict = CAPPED.model_copy(update={"keep": {"answer": KeepRule(min=0.95)}})
    plain, few = tallies([selection_of(out, CAPPED), selection_of(out, strict)])
    assert plain.kept == {"fine/use": 60} and few.kept == {"fine/use": 31}
    assert any("'what is the main use of' in 40 of fine/use" in note for note in plain.notes)
    assert PHRASE in select.REPEATS
