"""The instruction types of each row: given by the seed or a types file, else found by words or by a model."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from synthgen.commands.learn import classify
from synthgen.commands.learn.classify import Classified
from synthgen.commands.learn.records import BadRow, Row
from synthgen.commands.learn.request import LearnPlan
from synthgen.commands.learn.similarity import TypeVectors
from synthgen.config.vocabulary import Lexicon, read_words
from synthgen.engines.kinds import resolve_model
from synthgen.errors import UserMistake, one_line
from synthgen.workers import leave_ray, run_in_actor

TypeFinder = Callable[[Row], Row | BadRow]


def with_types(rows: Iterable[Row | BadRow], find: TypeFinder) -> Iterator[Row | BadRow]:
    """Yield each row with the paths of its types in place of words, or rejected."""
    for row in rows:
        yield row if isinstance(row, BadRow) else find(row)


def type_finder(plan: LearnPlan, unknown: Counter[str]) -> TypeFinder:
    """Return the function that finds the types of a row; words that mean no type are counted in `unknown`."""
    request, types = plan.request, plan.prompts.types
    if plan.has_types:
        by_id = read_types_file(request.types_file) if request.types_file else None
        return partial(look_up_types, Lexicon(types), by_id, unknown)
    if request.pipeline.learn.find_types == "model":
        return partial(_classify_questions, _classify_by_model(plan).__getitem__)
    return partial(_classify_questions, cache(partial(_classify_by_words, TypeVectors(types))))


def look_up_types(
    lexicon: Lexicon, by_id: Mapping[str, tuple[str, ...]] | None, unknown: Counter[str], row: Row
) -> Row | BadRow:
    """Return a row with the types that its own field or the types file gives it.

    Args:
        lexicon: The types of the pipeline.
        by_id: The words for types by row id; None where the row has them itself.
        unknown: Counts the words that mean no type.
        row: The row as the seed spells it.
    """
    words = row.types if by_id is None else by_id.get(row.id)
    if not words:
        missing = (
            "the row names no instruction type" if by_id is None else f"the types file has no row {row.id[:100]!r}"
        )
        return row.reject("no_types", missing)
    types, strange = lexicon.look_up(words)
    unknown.update(strange)
    if not types:
        return row.reject(
            "unknown_types", f"none of its types is in the pipeline's families: {', '.join(strange)[:200]}"
        )
    return replace(row, types=tuple(types))


def read_types_file(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the words for types by row id, from one JSON object or from JSON Lines with `id` and `types`."""
    if path.is_fifo() or path.is_char_device():
        raise UserMistake(f"{path}: is not a regular file")  # a pipe would wait for its writer for ever
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserMistake(f"{path}: cannot be read: {error}") from error
    where = str(path)
    try:
        if path.suffix in (".jsonl", ".ndjson"):
            # Not splitlines, which also ends a line at characters that a JSON text may hold.
            pairs = []
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    where = f"{path}:{number}"
                    pairs.append(_id_and_types(json.loads(line)))
        else:
            pairs = list(json.loads(text, object_pairs_hook=partial(_distinct, path)).items())
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        forms = '{"row id": ["type"]} nor lines of {"id": …, "types": […]}'
        raise UserMistake(f"{where}: is neither {forms} ({one_line(str(error))})") from error
    return {row_id: read_words(value) or () for row_id, value in _distinct(path, pairs).items()}


def _distinct(path: Path, pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Return pairs as a dict; raise UserMistake if two have the same key, of which one would be lost."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if str(key) in values:
            raise UserMistake(f"{path}: holds {one_line(str(key), 100)!r} twice; keep one of them")
        values[str(key)] = value
    return values


def _id_and_types(record: Any) -> tuple[Any, Any]:
    return record["id"], record["types"]


def _classify_questions(classify_question: Callable[[str], Classified], row: Row) -> Row | BadRow:
    """Return a row with the types of its questions; a question without a type costs nothing beside one with a type."""
    if not row.questions:
        return row.reject("no_question", "the row holds no question that a user asks")
    results = [classify_question(question) for question in row.questions]
    types = tuple(path for result in results for path in result.types)
    failures = [result.failure for result in results if result.failure]
    if not types and failures:
        return row.reject("model_failed", str(failures[0]))
    if not types:
        return row.reject("no_type_fits", f"{row.questions[0][:100]!r}")
    return replace(row, types=types)


def _classify_by_words(vectors: TypeVectors, question: str) -> Classified:
    nearest = vectors.nearest(question)
    return Classified((nearest,) if nearest else ())


def _classify_by_model(plan: LearnPlan) -> dict[str, Classified]:
    """Return the model's choice for every question of the seed; each wording is asked once."""
    rows = plan.read_rows(texts=True, images=False)
    questions = list(dict.fromkeys(question for row in rows if isinstance(row, Row) for question in row.questions))
    generate = plan.request.pipeline.generate
    subjects = tuple(map(classify.ClassifySubject, questions))
    task = classify.ClassifyTask(resolve_model(generate), generate.engine, plan.prompts.tree, subjects)
    try:
        results: list[Classified] = run_in_actor(
            classify.classify_all, task, generate.engine, doing=f"asking the model about {len(questions):,} questions"
        )
    finally:
        leave_ray()
    return dict(zip(questions, results, strict=True))
