"""Prompt packs: templates that render for every type before a run starts, and the recipes of pairs."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from jinja2.exceptions import SecurityError

from synthgen.config import library, prompt_pack
from synthgen.config.prompt_file import AskPrompt
from synthgen.config.prompt_pack import Prompts, recipe_texts
from synthgen.config.templates import render
from synthgen.config.turns import turn_text
from synthgen.errors import Mistakes
from tests.fixtures.workspace import DEFINITION_FILES, write

PACKS = sorted(path.stem for path in (library.shipped_folder() / "prompts").glob("*.yaml"))


@cache
def shipped(name: str) -> Prompts:
    return prompt_pack.load(name)


def load(folder: Path, **changes: str) -> Prompts:
    """Load the workspace's small pack with parts of its text replaced, each written as `old => new`."""
    text = DEFINITION_FILES["prompts/small.yaml"]
    for change in changes.values():
        old, new = change.split(" => ")
        assert old in text
        text = text.replace(old, new)
    write(folder / "prompts/small.yaml", text)
    return prompt_pack.load("small")


# --- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKS)
def test_every_shipped_pack_asks_every_type_in_different_words(name: str) -> None:
    prompts = shipped(name)
    for form in ("short", "choice"):
        ask = prompts.ask(form)
        for n in (1, 3):
            texts = {
                path: render(ask.text, **{**prompt_pack._asked(kind, n), "language": "French"})
                for path, kind in prompts.types.items()
            }
            assert len(set(texts.values())) == len(texts)
            assert all(text == text.strip() and text for text in texts.values())


@pytest.mark.parametrize("name", PACKS)
def test_every_shipped_pack_answers_in_every_form_of_its_types(name: str) -> None:
    prompts = shipped(name)
    forms = {form for kind in prompts.types.values() for form in kind.forms}
    assert forms
    for form in forms:
        options = ["red", "blue", "green", "white"] if form == "choice" else []
        shown = {"question": "What colour?", "options": options, "language": "English", "previous": None}
        text = render(prompts.pack.answer[form].text, **shown)
        assert "What colour?" in text and all(option in text for option in options)


def test_the_everyday_pack_wants_more_than_yes_or_no_unless_the_type_is_of_that_kind() -> None:
    prompts = shipped("everyday")
    texts = {path: render(prompts.pack.ask.text, **prompt_pack._asked(kind, 1)) for path, kind in prompts.types.items()}
    wanted = {path for path, text in texts.items() if "more than a bare yes or no" in text}
    closed = {path for path, kind in prompts.types.items() if kind.truth or kind.open or "whether" in kind.about}
    assert "single_instance/attribute/colour" in wanted and len(wanted) > 200
    assert not wanted & closed


def test_a_missing_variable_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("about {{ topic }}")


@pytest.mark.parametrize(
    "escape",
    [
        "{{ question.__class__ }}",
        "{{ question.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.join.__globals__ }}",
        "{{ type.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ options.append('x') }}",
        "{{ '%s'|format(question.__dict__) }}",
        "{{ '{0.__class__}'.format(question) }}",
    ],
)
def test_a_template_cannot_reach_python_or_change_its_variables(escape: str) -> None:
    kind = shipped("drawn").types[
        "counting" if "counting" in shipped("drawn").types else next(iter(shipped("drawn").types))
    ]
    options = ["a"]
    try:
        text = render(escape, question="q", options=options, type=kind)
    except (SecurityError, UndefinedError):
        text = ""
    assert "class" not in text and "os" not in text and options == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "{{ question }} Short. => {{ qestion }}",
            "answer.short.text: unknown variable 'qestion': did you mean 'question'?",
        ),
        (
            "Ask {{ n }} about => {% if n > 1 %}{{ topic }}{% endif %}",
            "ask.text: unknown variable 'topic': did you mean 'voice'?",
        ),
        (
            "Ask {{ n }} about {{ type.name }} => {{ n }} {{ type.nmae }}",
            "ask.text: the template fails: nothing is called 'nmae' there: did you mean 'name'?",
        ),
        (
            "Ask {{ n }} about => {{ 1 // (n - 1) }}",
            "ask.text: the template fails: integer division or modulo by zero",
        ),
        ("{{ question }} Short. => {% if", "answer.short.text: the template fails: "),
        ("{{ question }} Brief. => {{ options[0] }}", "answer.brief.text: the template fails: "),
        (
            "Rate {{ question }} {{ answer }} => {{ question.__class__ }}",
            "judge.answer.text: the template fails: access to",
        ),
        ("Say otherwise: {{ question }} => {{ options }}", "paraphrase.text: unknown variable 'options'"),
        ("{{ question }} Blind. => {{ answer }}", "blind.text: unknown variable 'answer'"),
    ],
)
def test_a_template_that_would_fail_in_a_run_is_refused_on_loading(workspace: Path, change: str, message: str) -> None:
    with pytest.raises(Mistakes) as caught:
        load(workspace, change=change)
    assert len(caught.value.lines) == 1
    assert message in caught.value.lines[0] and "small.yaml:" in caught.value.lines[0]


def test_all_mistakes_in_a_pack_are_reported_at_once(workspace: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        load(
            workspace,
            choice="  choice: {text: => # ",
            short="{{ question }} Short. => {{ qestion }}",
            blind="{{ question }} Blind. => {{ answer }}",
        )
    assert [line.partition(" ")[2] for line in caught.value.lines] == [
        "no answer prompt for the form 'choice'",
        "answer.short.text: unknown variable 'qestion': did you mean 'question'?",
        "blind.text: unknown variable 'answer': known: language, question",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{text: "Rate {{ answer }}", lables: [a, b]}', "unknown key 'lables' in judge.other: did you mean 'labels'?"),
        ('{text: "Rate {{ answer }}", max_tokens: 0}', "judge.other.max_tokens: must be greater than 0, not 0"),
        ('{text: "Rate {{ answer }}"}', "judge.other.labels is missing"),
        ('{text: "Rate {{ anwser }}", max_tokens: 9}', "judge.other.text: unknown variable 'anwser': did you mean"),
    ],
)
def test_a_prompt_below_judge_has_any_name_and_either_labels_or_max_tokens(
    workspace: Path, entry: str, message: str
) -> None:
    with pytest.raises(Mistakes) as caught:
        load(workspace, change=f"judge: => judge:\n  other: {entry}")
    (line,) = caught.value.lines
    assert message in line and "small.yaml:12: " in line
    valid = "{text: 'Rate {{ answer }}, {{ type.name }} in {{ language }}', max_tokens: 9}"
    assert "other" in load(workspace, change=f"judge: => judge:\n  other: {valid}").pack.judge


def test_two_families_of_a_pack_may_not_share_a_type(workspace: Path) -> None:
    write(workspace / "prompts/families/other.yaml", DEFINITION_FILES["prompts/families/small.yaml"])
    with pytest.raises(Mistakes, match="also in another family of pack 'small'"):
        load(workspace, families="families: [small] => families: [small, other]")


def test_a_group_without_types_is_refused(workspace: Path) -> None:
    write(workspace / "prompts/families/small.yaml", "about: x\ntypes:\n  coarse: {about: x, types: {}}\n")
    with pytest.raises(Mistakes, match=r"types\.coarse\.types: needs at least 1 entry, not 0"):
        prompt_pack.load("small")


def test_whether_one_call_can_ask_for_several_questions_is_read_from_the_template() -> None:
    def asks_many(text: str) -> bool:
        return prompt_pack.asks_many(AskPrompt(text=text, parse="lines"))

    assert asks_many("Ask {{ n }} questions") and asks_many("{% if n > 1 %}some{% endif %}")
    assert not asks_many("Ask 1 question about {{ type.name }}") and not asks_many("{% set n = 2 %}{{ n }}")


# --- the recipe of a pair --------------------------------------------------------------------------------------------

SHAPING = {
    "system": "Be good. => Be very good.",
    "ask": 'ask: {text: "Ask {{ n }} about => ask: {text: "Ask for {{ n }} about',
    "max": 'Short.", max_tokens: 20 => Short.", max_tokens: 21',
    "answer": "{{ question }} Short. => {{ question }} In short.",
}
IDLE = {
    "about": "about: a small pack => about: another",
    "judge": 'Rate {{ question }}" => Judge {{ question }}"',
    "blind": "{{ question }} Blind. => {{ question }} Unseen.",
    "other form": "{{ question }} Brief. => {{ question }} In brief.",
    "other ask": "Ask {{ n }} choice => Ask {{ n }} multiple choice",
    "turn": 'Short.", max_tokens: 20 => Short.", turn: "{{ question }}!", max_tokens: 20',
}


@pytest.mark.parametrize("change", SHAPING.values(), ids=SHAPING)
def test_an_edit_that_shapes_a_pair_changes_its_recipe(workspace: Path, change: str) -> None:
    before = recipe_texts(prompt_pack.load("small"), "coarse/counting", "short")
    assert recipe_texts(load(workspace, change=change), "coarse/counting", "short") != before


@pytest.mark.parametrize("change", IDLE.values(), ids=IDLE)
def test_an_edit_that_does_not_shape_a_pair_leaves_its_recipe(workspace: Path, change: str) -> None:
    before = recipe_texts(prompt_pack.load("small"), "coarse/counting", "short")
    assert recipe_texts(load(workspace, change=change), "coarse/counting", "short") == before


@pytest.mark.parametrize("field", ["about", "needs", "ask_as", "examples"])
def test_an_edit_of_a_type_changes_the_recipes_of_that_type_only(workspace: Path, field: str) -> None:
    prompts = prompt_pack.load("small")
    edited: Any = ("other", "ones") if field == "examples" else "other"
    kind = replace(prompts.types["coarse/counting"], **{field: edited})
    after = replace(prompts, types={**prompts.types, "coarse/counting": kind})
    assert recipe_texts(after, "coarse/counting", "short") != recipe_texts(prompts, "coarse/counting", "short")
    assert recipe_texts(after, "coarse/scene", "short") == recipe_texts(prompts, "coarse/scene", "short")


def test_the_choice_form_has_a_separate_asking_prompt(workspace: Path) -> None:
    prompts = prompt_pack.load("small")
    before = recipe_texts(prompts, "coarse/counting", "choice")
    assert recipe_texts(load(workspace, change=IDLE["other ask"]), "coarse/counting", "choice") != before


# --- the user's words in a sample ------------------------------------------------------------------------------------


def test_a_turn_is_the_question_and_its_options_unless_the_pack_says_otherwise(workspace: Path) -> None:
    prompts = prompt_pack.load("small")
    assert turn_text(prompts, "short", "Where?", [], "English", "p") == "Where?"
    assert (
        turn_text(prompts, "choice", "Where?", ["a", "b", "c", "d"], "English", "p") == "Where?\nA. a\nB. b\nC. c\nD. d"
    )
    other = load(workspace, change=IDLE["turn"])
    assert turn_text(other, "short", "Where?", [], "English", "p") == "Where?!"


@given(st.text(min_size=1, max_size=40))
def test_text_that_a_model_wrote_is_never_run_as_a_template(text: str) -> None:
    assume(text.strip() == text)
    assert render("{{ question }}", question=text) == text
    assert render("{{ question }}", question="{{ 1 + 1 }}{% raw %}") == "{{ 1 + 1 }}{% raw %}"
