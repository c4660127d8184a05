"""Replies as real models write them: each is read as a careful person reads it, and the grammar holds what it must.

A line of replies.jsonl is a reply with its right reading: `style` is the reader, `reads` what it gives (texts, options,
letters, places, or the reason of a failure), `writable` whether a model under the grammar can write it, and `like` the
public project where a reply of that form was reported.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import xgrammar

from synthgen.config.replies import (
    final_answer,
    letter_of,
    parse_places,
    parse_questions,
    places_schema,
    question_schema,
)
from synthgen.errors import Failure

Line = dict[str, Any]
LINES: list[Line] = [
    json.loads(line) for line in (Path(__file__).parent / "replies.jsonl").read_text("utf-8").splitlines()
]
HELD = [line for line in LINES if "writable" in line]


def name_of(line: Line) -> str:
    return f"{line['category']}-{line['style']}-{line['reply'][:30]!r}"


def reading_of(line: Line) -> Any:
    """Read a reply, and return the reading as the file spells it."""
    reply, style = line["reply"], line["style"]
    if style in ("points", "boxes"):
        places = parse_places(reply, style)
        return places.reason if isinstance(places, Failure) else [[*place.at, place.label] for place in places]
    if style in ("letter", "answer"):
        return letter_of(reply) if style == "letter" else final_answer(reply)
    questions = parse_questions(reply, style, "None.", line["choice"])
    if isinstance(questions, Failure):
        assert questions.detail == line.get("evidence", questions.detail)
        return questions.reason
    assert {(question.right, question.evidence) for question in questions} == {
        (line.get("right"), line.get("evidence", ""))
    }
    return [[question.text, *question.options] if line["choice"] else question.text for question in questions]


@pytest.mark.parametrize("line", LINES, ids=name_of)
def test_a_reply_is_read_as_a_careful_person_reads_it(line: Line) -> None:
    assert reading_of(line) == line["reads"]


def test_the_corpus_is_wide() -> None:
    assert len(LINES) >= 300 and sum("like" in line for line in LINES) >= 40
    categories = Counter(line["category"] for line in LINES)
    assert len(categories) >= 30 and min(categories.values()) >= 2
    assert 50 < sum(line["writable"] for line in HELD) < len(HELD) - 50
    assert {line["style"] for line in LINES} == {"json", "lines", "judged", "letter", "answer", "points", "boxes"}


# --- the grammar ------------------------------------------------------------------------------------------------------

# Of single bytes: a tokenizer decides how fast a text is written, not which texts can be.
COMPILER = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)]))


@cache
def grammar(schema: str, compact: bool) -> xgrammar.CompiledGrammar:
    """Compile a schema as vLLM does, with white space or in the compact form that this engine asks for."""
    separators = (",", ":") if compact else None
    return COMPILER.compile_json_schema(schema, any_whitespace=not compact, separators=separators)


def is_writable(reply: str, schema: dict[str, Any], compact: bool = False) -> bool:
    """Return whether a model that is held to a schema can write a reply and end there."""
    matcher = xgrammar.GrammarMatcher(grammar(json.dumps(schema), compact), terminate_without_stop_token=True)
    return matcher.accept_string(reply) and matcher.is_terminated()


def schema_of(line: Line) -> dict[str, Any]:
    if line["style"] in ("points", "boxes"):
        return places_schema(line["style"])
    return question_schema(line["choice"], line["n"], line["style"])


@pytest.mark.parametrize("line", HELD, ids=name_of)
def test_the_grammar_accepts_what_it_should_and_nothing_else(line: Line) -> None:
    assert is_writable(line["reply"], schema_of(line)) == line["writable"]


@pytest.mark.parametrize("line", [line for line in HELD if line["writable"]], ids=name_of)
def test_the_compact_form_can_say_the_same(line: Line) -> None:
    value = json.loads(line["reply"])
    assert is_writable(json.dumps(value, separators=(",", ":")), schema_of(line), compact=True)


@pytest.mark.parametrize("style", ["json", "judged"])
@pytest.mark.parametrize("choice", [False, True])
def test_every_text_of_a_question_can_hold_quotation_marks_and_backslashes(style: Any, choice: bool) -> None:
    text = 'the sign "SALE" and \\frac{1}{2}'
    item: Any = text
    if choice:
        item = {"question": text, "options": [text] * 4}
        if style == "judged":
            item = {"question": text, "right": text, "wrong": [text] * 3}
    value = {"fits": True, "evidence": text, "questions": [item]} if style == "judged" else {"questions": [item]}
    assert is_writable(json.dumps(value), question_schema(choice, 1, style))


def test_a_least_length_would_cut_questions_at_the_first_quotation_mark() -> None:
    """This is why no schema has one; if it fails, xgrammar has learned to write escapes in texts with a length."""
    schema = question_schema(False, 1)
    schema["properties"]["questions"]["items"] = {"type": "string", "minLength": 1}
    assert not is_writable('{"questions": ["What does \\"SALE\\" mean?"]}', schema)
    assert is_writable('{"questions": ["What does the sign "]}', schema)
    assert '"minLength"' not in json.dumps(
        [question_schema(c, 1, s) for c in (False, True) for s in ("json", "judged")]
    )


def test_a_model_judges_before_it_asks() -> None:
    schema = question_schema(False, 1, "judged")
    assert is_writable('{"fits": true, "evidence": "a bus", "questions": ["What is it?"]}', schema)
    assert not is_writable('{"questions": ["What is it?"], "fits": true, "evidence": "a bus"}', schema)
