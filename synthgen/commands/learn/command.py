"""The steps of `synth learn`, from a seed to a mapping file and a report.

Every row of the seed is counted or left out with a reason. Nothing is written before the new mapping has been loaded
the way a run will load it, and a file that exists is never overwritten.
"""

import tempfile
from collections import Counter
from pathlib import Path

from synthgen.commands.learn import summary, tfidf, twins
from synthgen.commands.learn.records import Row
from synthgen.commands.learn.request import LearnPlan, LearnRequest, prepare
from synthgen.commands.learn.row_tags import with_tags
from synthgen.commands.learn.row_types import type_finder, with_types
from synthgen.commands.learn.similarity import TypeVectors
from synthgen.commands.learn.summary import Origin, RowCounts
from synthgen.commands.learn.tfidf import Example, Weights
from synthgen.config import library, mapping
from synthgen.errors import UserMistake, nearest


def learn(request: LearnRequest) -> tuple[Path, list[str]]:
    """Write the mapping that a seed teaches.

    Returns:
        The file, and the lines of the report.

    Raises:
        UserMistake: The request or the seed has a fault, or nothing can be learned; nothing is written.
    """
    target = _target(request)
    plan = prepare(request)
    examples, rows = _count_rows(plan)
    pairs = twins.find(examples, request.settings, TypeVectors(plan.prompts.types))
    if request.merge_twins:
        examples = twins.merge(examples, pairs)
    weights = tfidf.learn(examples, request.settings)
    origin = _origin(plan, rows, examples, weights, pairs)
    if not weights:
        reasons = "; ".join(line.strip() for line in summary.report(weights, origin)[:6])
        raise UserMistake(f"nothing could be learned: {reasons}")
    text = summary.mapping_yaml(weights, origin)
    _check(text, plan)
    library.write_new(target, text)
    return target, summary.report(weights, origin)


def _target(request: LearnRequest) -> Path:
    """Return the file to be written; checked first, so that no hour of tagging is lost to a name."""
    target = library.new_path("mapping", request.name)
    if request.extends == request.name:
        raise UserMistake(f"--name {request.name}: cannot extend itself; choose another name")
    if request.extends and request.extends not in (known := library.names("mapping")):
        raise UserMistake(f"--extends {request.extends}: no such mapping: {nearest(request.extends, known)}")
    return target


def _count_rows(plan: LearnPlan) -> tuple[Counter[Example], RowCounts]:
    counts, examples = RowCounts(), Counter[Example]()
    rows = plan.read_rows(texts=not plan.has_types, images=plan.fields.tags is None)
    typed = with_types(rows, type_finder(plan, counts.unknown["types"]))
    for row in with_tags(plan, typed, counts.unknown["tags"]):
        counts.add(row)
        if isinstance(row, Row):
            examples[tfidf.example(row.tags or (), row.types or ())] += 1
    return examples, counts


def _origin(
    plan: LearnPlan, rows: RowCounts, examples: Counter[Example], weights: Weights, pairs: list[twins.Twins]
) -> Origin:
    present = {path for _, types in examples for path in types}
    merged = {pair.other for pair in pairs} if plan.request.merge_twins else set[str]()
    return Origin(
        plan,
        rows,
        coverage=tfidf.coverage(examples, weights),
        rare=tfidf.rare_types(examples, plan.request.settings),
        absent=[path for path in plan.prompts.types if path not in present | merged],
        twins=pairs,
    )


def _check(text: str, plan: LearnPlan) -> None:
    """Load the mapping as a run will."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learned.yaml"
        path.write_text(text, encoding="utf-8")
        mapping.load(str(path), plan.taggers[0].taxonomy.tree, list(plan.prompts.types))
