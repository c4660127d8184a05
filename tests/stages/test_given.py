"""What the turns of an imported set are taken for, and which settings do not go with one."""

from pathlib import Path

import pytest
from hypothesis import given as holds_for
from hypothesis import strategies as st

from synthgen.commands.importing import ImportRequest, run_request
from synthgen.commands.open import open_run
from synthgen.config import prompt_pack
from synthgen.config.turns import with_options
from synthgen.errors import Mistakes, UserMistake
from synthgen.ingest.sources.instructions import Conversation, Turn
from synthgen.job.given import check_is_asked
from synthgen.stages.given.labels import form_of, labels_of, languages_of, split_options
from tests.fixtures.instructions import llava, write_images, write_json

WORDS = st.text(st.sampled_from("ab C.\n?é"), max_size=12)


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("Red.", "short"),
        ("one two three four five", "short"),
        ("one two three four five six", "brief"),
        ("one\ntwo", "brief"),
        (" ".join(["word"] * 51), "long"),
        ("红色", "short"),
        ("这是一辆停在街角等待乘客的红色双层公共汽车旁边有一个拿着雨伞的人正在看手机上的时间表", "short"),
        ("字" * 200, "brief"),
        ("字" * 700, "long"),
    ],
)
def test_the_form_of_an_answer_is_a_matter_of_its_length(answer: str, form: str) -> None:
    assert form_of(Turn("What is it?", answer)) == form


@pytest.mark.parametrize(
    ("question", "answer", "options"),
    [
        ("Which?\nA. a dog\nB. a cat", "B", ["a dog", "a cat"]),
        ("Which?\nA. a dog\nB. a cat", "(b)", ["a dog", "a cat"]),
        ("Which?\nA. a dog\nB. a cat", "C", []),  # no option has the letter
        ("Which?\nA. a dog\nB. a cat", "a cat", []),
        ("Which?\nA. a dog", "A", []),  # one option is no choice
        ("Which?\nB. a cat\nA. a dog", "A", []),  # another order would be written otherwise
        ("Which?\nA. a dog\nB. a cat\nAnswer with a letter.", "A", []),
        ("A. Smith wrote it?", "A", []),
    ],
)
def test_multiple_choice_is_what_both_question_and_answer_spell_so(
    question: str, answer: str, options: list[str]
) -> None:
    turn = Turn(question, answer)
    assert split_options(turn)[1] == options
    assert (form_of(turn) == "choice") == bool(options)


@holds_for(WORDS, st.lists(WORDS, max_size=5), st.sampled_from(["A", "B", "D", "no"]))
def test_options_are_split_off_only_where_joining_restores_the_text(q: str, options: list[str], answer: str) -> None:
    asked = with_options(q, options)
    assert with_options(*split_options(Turn(asked, answer))) == asked


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is on the table?", "English"),
        ("42", "English"),
        ("Was ist auf dem Tisch, und wer hat das Brot gegessen?", "German"),
        ("Qu'est-ce que c'est que la chose sur la table ?", "French"),
        ("图中的公交车是什么颜色", "Chinese"),
        ("テーブルの上には何がありますか", "Japanese"),
        ("Что стоит на столе?", "Russian"),
        ("식탁 위에 무엇이 있습니까?", "Korean"),
        ("What does 图书馆 on the sign above the door mean?", "English"),
    ],
)
def test_the_language_is_that_of_the_script_or_of_the_commonest_words(text: str, language: str) -> None:
    assert languages_of([text]) == languages_of(["x", text])[1:] == [language]


def test_what_the_set_says_of_its_turns_counts_where_the_pack_knows_it() -> None:
    types = prompt_pack.load("everyday", Path()).types
    kind = next(name for name, each in types.items() if "brief" in each.forms and "choice" not in each.forms)
    turns = (Turn("What?", "It."), Turn("And?", "That."), Turn("Which?\nA. x\nB. y", "A"))
    said = {"types": [kind, "no/type", kind], "forms": ["brief", "brief", "brief"], "languages": ["Czech", "", ""]}
    found = labels_of([Conversation(turns, None, said)], types)[0]
    assert [(label.type, label.form) for label in found] == [
        (kind, "brief"),
        ("imported/turn", "short"),
        ("imported/turn", "choice"),
    ]
    assert [label.language for label in found] == ["Czech", "English", "English"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("generate.scores=[answer]", "generate.scores: the pairs come with the set, and nothing is asked that could"),
        ("plan.negatives=0.1", "plan.negatives: nothing is planned for an imported set; write 0"),
        ("generate.prompts=everyday", "generate.prompts: pack 'everyday' lacks the type imported/turn; add the family"),
    ],
)
def test_settings_of_what_is_asked_do_not_go_with_a_set(setting: str, message: str, tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    place = write_json(tmp_path / "set.json", [llava()])
    request = run_request(ImportRequest(str(place), settings=(setting,)), str(tmp_path / "out"))
    with pytest.raises(Mistakes) as raised:
        open_run("import", request, str(tmp_path / "out"), lists=False, needed=())
    assert any(message in line for line in raised.value.lines), raised.value.lines


def test_a_command_that_asks_has_nothing_to_ask_of_a_set() -> None:
    check_is_asked("out", False, "reask")
    with pytest.raises(UserMistake, match="out: its pairs were imported, so synth reask has nothing to ask"):
        check_is_asked("out", True, "reask")
