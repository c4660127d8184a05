"""The shipped instruction types: enough examples, worded as users ask, in forms that fit, without personal data."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from synthgen.config import families
from synthgen.config.families import InstructionType
from synthgen.errors import Mistakes
from tests.fixtures.workspace import ROOT

# `drawn` speaks the fixed phrases of its own small world, and nothing is asked by `imported`.
SHIPPED = {path.stem for path in (ROOT / "prompts" / "families").glob("*.yaml")}
FAMILIES = sorted(SHIPPED - {"drawn", "imported"})
TYPES = {
    path: kind
    for family in FAMILIES
    for path, kind in families.instruction_types(families.load(family)).items()
    if kind.name != "object presence"  # two types with a planned truth stand in for it
}
LANGUAGES = (
    *("English", "Chinese", "Spanish", "French", "German", "Portuguese"),
    *("Russian", "Arabic", "Hindi", "Japanese", "Korean"),
    *("Italian", "Dutch", "Polish", "Turkish", "Ukrainian", "Vietnamese", "Thai"),
)
SCRIPTS = {  # a letter of the language's own script; the languages of Latin script are told apart below
    "Chinese": r"[\u4e00-\u9fff]",
    "Russian": r"[\u0400-\u04ff]",
    "Arabic": r"[\u0600-\u06ff]",
    "Hindi": r"[\u0900-\u097f]",
    "Japanese": r"[\u3040-\u30ff]",
    "Korean": r"[\uac00-\ud7af]",
    "Ukrainian": r"[\u0400-\u04ff]",
    "Thai": r"[\u0e00-\u0e7f]",
}
YES_OR_NO = re.compile(
    r"(?i)(is|are|am|was|were|do|does|did|has|have|had|will|would|can|could|should|may|might|must)\b"
)
ASKED_AS_YES_OR_NO = ("coarse_perception/quality/fitness_for_use", "single_instance/presence/")
WORKED_OUT = (
    *("count kinds", "estimate number", "combined count"),
    *("gauge reading", "scale reading", "clock reading", "mechanical link", "balance and support"),
)
PERSONAL = re.compile(
    r"(?i)\b(number|licen[cs]e|registration) plates?\b|\bplate of the\b|\bdate of birth\b|\bbirthdate\b|\biban\b"
    r"|\b(passport|card|account|phone|telephone|social security|id) number\b|\bsurname\b|\bhome address\b|\bsigned by\b"
)
# What asks for more than a phrase or one of four options has room for. `How would you describe` may get a phrase.
OPEN_REQUEST = re.compile(
    r"(?i)(?<!how would you )\b(describe|explain|write (a|an|the|down all)|transcribe (all|the (whole|page))"
    r"|put .* into words|walk (me|us)|talk (me|us|them)|go through|compare the|review this|rewrite"
    r"|reconstruct|show me how|guide me|help me|eli5)\b"
    r"|描述|解释|^(Describe|Explica|Explique|Décris|Beschreib|Erklär|Descreva|Опиши|Объясни|صف|اشرح)|वर्णन|説明し|묘사|설명해"
)
LIST_OR_COPY = re.compile(r"(?i)(^|[.,] )(list|copy|rank|transcribe|type out|read me|name (all|every))\b|\bin order\b")
QUESTION_MARKS = r"[?\uff1f\u061f]"  # also those of full width and of Arabic
MARKS = '.?!)"\uff1f\u061f\uff01\u3002\u0964'  # and the full stops of Chinese, Japanese and Hindi


def of_every_type(rule: Callable[[InstructionType], None]) -> Callable[[], None]:
    """Make one test of a rule: it holds for every type, and those that break it are named."""

    def test() -> None:
        assert len(TYPES) > 200
        broken = {}
        for path, kind in TYPES.items():
            try:
                rule(kind)
            except AssertionError as fault:
                broken[path] = str(fault)
        assert not broken

    test.__name__ = rule.__name__
    return test


def texts_of(kind: InstructionType) -> tuple[str, ...]:
    """Return the English texts that stand for a type: its whole requests, or else its examples."""
    return kind.requests["English"] if kind.requests else kind.examples


def is_closed(text: str) -> bool:
    """Return whether a text can be answered by yes or no."""
    return bool(YES_OR_NO.match(text)) and " or " not in text


def is_more_than_a_question(text: str) -> bool:
    """Return whether a text is a request, is typed carelessly, or says something of who asks."""
    return (
        not text.endswith("?") or text[0].islower() or ". " in text or bool(re.search(r"\b(I|I'm|[Mm]y|[Ww]e)\b", text))
    )


def is_finished(text: str) -> bool:
    """Return whether a text ends in a mark, is of Thai, which has none, or is typed carelessly, in lower case."""
    first = re.sub(r"^\d+ ", "", text)[0]
    return text[-1] in MARKS or bool(re.search(SCRIPTS["Thai"], text)) or (first.islower() and first.isascii())


@of_every_type
def test_a_type_has_eight_to_twelve_examples_or_as_many_requests(kind: InstructionType) -> None:
    if kind.requests:
        assert len(kind.requests["English"]) >= 8 and len(kind.examples) >= 2
    else:
        assert 8 <= len(kind.examples) <= 12


@of_every_type
def test_the_texts_of_a_type_differ_in_how_they_begin(kind: InstructionType) -> None:
    texts = texts_of(kind)
    begin = Counter(re.match(r"\W*(\S+)", text).group(1).lower() for text in texts)  # type: ignore[union-attr]
    assert sum(count for word, count in begin.items() if re.fullmatch(r"what('?s)?|which", word)) <= len(texts) / 3
    assert len({text.lower() for text in texts}) == len(texts)


@of_every_type
def test_one_text_in_six_is_more_than_a_question(kind: InstructionType) -> None:
    texts = texts_of(kind)
    assert sum(map(is_more_than_a_question, texts)) >= len(texts) / 6


@of_every_type
def test_no_text_can_be_answered_by_yes_or_no_unless_the_type_is_of_that_kind(kind: InstructionType) -> None:
    if kind.truth or kind.path.startswith(ASKED_AS_YES_OR_NO):
        return
    closed = [text for text in (*kind.examples, *kind.requests.get("English", ())) if is_closed(text)]
    assert not [text for text in closed if not re.match(r"(?i)(can|could|would) you\b", text)]


@of_every_type
def test_every_text_asks_one_thing_and_ends(kind: InstructionType) -> None:
    for text in (*kind.examples, *(text for texts in kind.requests.values() for text in texts)):
        assert is_finished(text), text
        assert len(re.findall(QUESTION_MARKS, text)) <= 1, text
        assert text == text.strip() and "  " not in text, text


def test_no_two_types_share_a_text() -> None:
    owners: dict[str, set[str]] = {}
    for path, kind in TYPES.items():
        for text in (*kind.examples, *(text for texts in kind.requests.values() for text in texts)):
            owners.setdefault(text.lower(), set()).add(path)
    twins = {"single_instance/presence/object_present", "single_instance/presence/object_absent"}
    assert not {text: paths for text, paths in owners.items() if len(paths) > 1 and paths != twins}


def test_the_wording_does_not_tell_whether_a_named_thing_is_there() -> None:
    asked = {kind.truth: kind.requests for kind in TYPES.values() if kind.thing}
    assert asked["yes"] == asked["no"] and len(asked["yes"]["English"]) >= 12


@of_every_type
def test_requests_are_given_in_every_language_and_in_its_script(kind: InstructionType) -> None:
    if not kind.requests or kind.thing:  # the names of things are English
        return
    assert tuple(kind.requests) == LANGUAGES
    for language, texts in kind.requests.items():
        assert len(texts) >= 4 and len(set(texts)) == len(texts)
        if script := SCRIPTS.get(language):
            assert all(re.search(script, text) for text in texts)
        else:
            assert not any(re.search(other, text) for other in SCRIPTS.values() for text in texts)


@of_every_type
def test_no_text_asks_for_more_than_the_forms_of_its_type_have_room_for(kind: InstructionType) -> None:
    texts = [*kind.examples, *(text for texts in kind.requests.values() for text in texts)]
    if {"short", "choice"} & set(kind.forms):
        assert not [text for text in texts if OPEN_REQUEST.search(text)]
    if "choice" in kind.forms:
        assert not [text for text in texts if LIST_OR_COPY.search(text)]


@of_every_type
def test_the_forms_of_a_type_fit_what_is_asked(kind: InstructionType) -> None:
    forms = set(kind.forms)
    assert len(forms) == len(kind.forms)
    if kind.name in WORKED_OUT:
        assert kind.reasons or not forms & {"short", "choice"}
    if kind.reasons:
        assert forms <= {"short", "brief", "detailed", "choice"}
    if kind.requests or kind.open:
        assert "choice" not in forms  # a call that writes options has to write the question too
    if kind.truth:
        assert forms <= {"short", "brief", "detailed"}
    if "points" in forms:  # "How many dogs are there?" wants a number; a text for points says that it wants them
        assert forms == {"points"} and kind.path.startswith("description/grounding/")


@of_every_type
def test_personal_data_is_asked_only_by_types_that_say_so(kind: InstructionType) -> None:
    texts = (kind.about, kind.needs, *kind.examples, *kind.requests.get("English", ()))
    if not kind.sensitive:
        assert not [text for text in texts if PERSONAL.search(text)]


@of_every_type
def test_the_task_of_a_type_is_one_sentence_that_begins_with_ask(kind: InstructionType) -> None:
    assert re.fullmatch(r"Ask [^.?!]+\.", kind.about)
    assert not kind.needs.endswith(".")


COUNTED = re.compile(r"(?i)\bhow many\b|\bwhether\b|\bnumber of\b|\bcount\b")


def test_types_that_have_an_answer_whatever_an_image_shows_are_not_swapped() -> None:
    swapped = [path for path, kind in TYPES.items() if kind.swap]
    assert len(swapped) > 60
    counting = [path for path in swapped if "/counting/" in path or "/presence/" in path or "/limits/" in path]
    assert not counting and not [path for path in swapped if COUNTED.search(TYPES[path].about)]


@pytest.mark.parametrize("trait", ["open: true", 'truth: "no"', "follows: true", "thing: absent", "forms: [choice]"])
def test_a_type_whose_questions_always_have_an_answer_cannot_be_swapped(tmp_path: Path, trait: str) -> None:
    forms = "" if trait.startswith("forms") else "forms: [short], "
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"about: x\ntypes: {{a: {{about: x, types: {{b: {{about: x, needs: y, {forms}{trait}, "
        "examples: ['A?', 'B?'], swap: true}}}}\n"
    )
    with pytest.raises(Mistakes, match="swap: such a type has"):
        families.load(str(file))


def test_no_family_can_take_the_place_of_negatives(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    leaf = "{about: x, needs: y, forms: [short], examples: ['A?', 'B?']}"
    file.write_text(f"about: x\ntypes: {{unanswerable: {{about: x, types: {{b: {leaf}}}}}}}\n")
    with pytest.raises(Mistakes, match="'unanswerable' is the group of negatives"):
        families.load(str(file))
