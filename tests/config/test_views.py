"""Views: named selections of a pipeline, and the checks of what a selection names."""

import json
from pathlib import Path

import pytest

from synthgen.config import library
from synthgen.config import pipeline as pipelines
from synthgen.config.pipeline import Pipeline
from synthgen.config.strict_yaml import Document
from synthgen.errors import Mistakes, UserMistake
from synthgen.job import resolve
from synthgen.job.request import RunRequest, complete
from synthgen.job.selections import language_notes
from tests.fixtures.workspace import DEFINITION_FILES, write

pytestmark = pytest.mark.usefixtures("workspace")
VIEWS = """\
views:
  strict:
    keep: {answer: {min: 2.5, drop: 0.1}}
  short_only:
    quotas: {forms: {brief: {most: 0}}}
    near_questions: 0.5
"""


def load(*overrides: str, views: str = VIEWS) -> Pipeline:
    """Return the small pipeline with some views."""
    write(Path("pipelines/small.yaml"), DEFINITION_FILES["pipelines/small.yaml"] + views)
    return resolve.load(pipelines.read("small", overrides))[0]


def mistakes(*overrides: str, views: str = VIEWS) -> list[str]:
    """Return every mistake in it, without its folder."""
    with pytest.raises(Mistakes) as caught:
        load(*overrides, views=views)
    return [line.replace(f"{Path.cwd()}/", "") for line in caught.value.lines]


def test_a_view_replaces_the_settings_that_it_names_whole_and_has_the_others_of_select() -> None:
    plain, strict = load(), load("view=strict")
    assert plain.view is None and plain.selection == plain.select
    assert strict.selection.keep["answer"].min == 2.5 and strict.selection.near_questions == 0.8
    short = load('view="short_only"').selection
    assert short.keep == plain.select.keep and short.near_questions == 0.5
    assert short.quotas.forms["brief"].most == 0
    assert load("view=select").selection == plain.select


def test_a_view_stays_what_it_is_in_the_record_of_a_run() -> None:
    strict = load("view=strict", "select.near_questions=0.3")
    stored = json.loads(json.dumps(strict.model_dump(mode="json")))
    again = library.check(Document(Path(), stored, {(): "record"}), Pipeline)
    assert again == strict and again.selection == strict.selection
    assert again.selection.near_questions == 0.3
    assert stored["views"]["strict"].keys() == {"keep"}


NO_TYPE = "no instruction type matches 'corse/**': did you mean 'coarse/**'?"
ONE_OF_TWO = "give either most, a number of pairs, or share, a part of the kept pairs"
UNSCORED = "'blind' is not scored; add it to generate.scores (likelihood, answer)"
TWICE = "a:f and b:f would have the same reasons; give one of them another name"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("view=strikt", "view: no view is called 'strikt': did you mean 'strict'?"),
        (
            "views={select: {}}",
            "views.select: 'select' stands for the settings without a view; give the view another name",
        ),
        ("views={'a b': {}}", "views.a b: 'a b' is not the name of a view; use letters, digits, - and _"),
        ("views.strict={kep: {}}", "unknown key 'kep' in views.strict: did you mean 'keep'?"),
        ("views.strict.keep={answr: {}}", "views.strict.keep: 'answr' is not a score: did you mean 'answer'?"),
        ("views.strict.keep={blind: {min: 1}}", f"views.strict.keep: {UNSCORED}"),
        ("views.strict.keep={answer: {types: [corse/**]}}", f"views.strict.keep.answer.types: {NO_TYPE}"),
        ("select.keep.answer.types=[corse/**]", f"select.keep.answer.types: {NO_TYPE}"),
        ("select.keep={answer: {drop: 1}}", "select.keep.answer.drop: must be less than 1, not 1"),
        (
            "select.keep={answer: {within: [tpe]}}",
            "select.keep.answer.within.0: must be 'type', 'form' or 'language', not 'tpe'",
        ),
        ("select.balance={corse/**: {}}", f"select.balance: {NO_TYPE}"),
        ("select.balance={fine/**: {by: blind}}", f"select.balance.fine/**.by: {UNSCORED}"),
        (
            "select.balance={fine/**: {ratio: 0.5}}",
            "select.balance.fine/**.ratio: must be greater than or equal to 1, not 0.5",
        ),
        ("select.quotas={types: {corse/**: {most: 3}}}", f"select.quotas.types: {NO_TYPE}"),
        (
            "select.quotas={tags: {anmal/**: {most: 3}}}",
            "select.quotas.tags: no tag matches 'anmal/**': did you mean 'animal/**'?",
        ),
        (
            "select.quotas={forms: {shrt: {most: 3}}}",
            "select.quotas.forms.shrt: 'shrt' is not an answer form: did you mean 'short'?",
        ),
        ("select.quotas={forms: {short: {}}}", f"select.quotas.forms.short: {ONE_OF_TWO}"),
        ("select.quotas={forms: {short: {most: 3, share: 0.5}}}", f"select.quotas.forms.short: {ONE_OF_TWO}"),
        ("select.quotas={forms: {short: {most: 3, by: blind}}}", f"select.quotas.forms.short.by: {UNSCORED}"),
        (
            "select.phrases={words: 11}",
            "select.phrases.words: must be less than or equal to 10, not 11",
        ),
        ("select.survivor=answr", "select.survivor: 'answr' is not a score: did you mean 'answer'?"),
        ("views.strict.survivor=blind", f"views.strict.survivor: {UNSCORED}"),
        ("select.functions=[mine]", "select.functions: 'mine' is not a function; name it as module:function"),
        ("select.functions=['a:f', 'b:f']", f"select.functions: {TWICE}"),
        ("generate.gate={question: {types: [corse/**]}}", f"generate.gate.question.types: {NO_TYPE}"),
    ],
)
def test_a_mistake_in_a_selection_is_one_line_with_its_place(override: str, message: str) -> None:
    scores = ["generate.scores=[likelihood, answer, question]"] if "gate" in override else []
    assert f"--set {override}: {message}" in mistakes(override, *scores)


def test_more_quotas_of_tags_than_can_be_counted_are_refused() -> None:
    many = ", ".join(f"'animal/**/t{number}': {{most: 1}}" for number in range(65))
    found = mistakes(f"select.quotas.tags={{{many}}}")
    assert any(line.endswith("select.quotas.tags: takes at most 64 entries, not 65") for line in found), found


def test_a_mistake_in_a_view_of_the_file_has_its_line() -> None:
    (line,) = mistakes(views=VIEWS.replace("brief:", "breif:"))
    where = "pipelines/small.yaml:15: views.short_only.quotas.forms.breif"
    assert line == f"{where}: 'breif' is not an answer form: did you mean 'brief'?"


def test_types_that_are_planned_to_one_answer_are_not_balanced_by_themselves() -> None:
    family = DEFINITION_FILES["prompts/families/small.yaml"]
    family = family.replace("swap: true", 'truth: "no"')
    write(Path("prompts/families/small.yaml"), family)
    (line,) = mistakes("select.balance={fine/**: {}}")
    assert line == (
        "--set select.balance={fine/**: {}}: select.balance.fine/**: every answer of fine/reading is planned to be no, "
        "so by itself none of it would be kept; give `within: []`, which balances all types of the pattern together"
    )
    assert load("select.balance={fine/**: {within: []}}").select.balance["fine/**"].within == ()


def test_languages_that_are_not_planned_are_told() -> None:
    pipeline = load("select.languages=[English, Frnch]", "views.strict.quotas={languages: {Englsh: {most: 3}}}")
    assert list(language_notes(pipeline)) == [
        "note: select: no question is planned in 'Frnch': known: English",
        "note: views.strict: no question is planned in 'Frnch': known: English",
        "note: views.strict: no question is planned in 'Englsh': did you mean 'English'?",
        "note: views.short_only: no question is planned in 'Frnch': known: English",
    ]


def test_a_request_keeps_its_view_until_it_names_another_or_none() -> None:
    first = RunRequest.typed("small", "photos", None, None, "strict")
    assert first.command_line() == "photos --pipeline small --view strict"
    later, _ = complete(RunRequest(), first, "out", "")
    assert later.settings == ('source.uri="photos"', 'view="strict"')
    other, _ = complete(RunRequest.typed(None, None, None, None, "select"), first, "out", "")
    assert load(*other.settings).view is None
    with pytest.raises(UserMistake, match="no view is called 'a\"b'"):
        load(*RunRequest.typed("small", None, None, None, 'a"b').settings)
