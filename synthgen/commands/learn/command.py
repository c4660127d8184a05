"""The steps of `synth learn`, from a seed to a mapping file and a report.

Every row of the seed is counted or left out with a reason. Nothing is written before the new mapping has been loaded
the way a run will load it, and a file that exists is never overwritten.
"""

from collections import Counter
from pathlib import Path

from synthgen.commands.learn import held_out, summary, tfidf, twins
from synthgen.commands.learn.records import Row
from synthgen.commands.learn.request import LearnPlan, LearnRequest, prepare
from synthgen.commands.learn.row_tags import with_tags
from synthgen.commands.learn.row_types import type_finder, with_types
from synthgen.commands.learn.similarity import TypeVectors
from synthgen.commands.learn.summary import Origin
from synthgen.commands.learn.tfidf import Example
from synthgen.commands.usable import UseCounts
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
    counts = tfidf.count(examples)
    pairs = twins.find(counts, request.tfidf, TypeVectors(plan.prompts.types))
    if request.pipeline.learn.merge_twins and pairs:
        examples = twins.merge(examples, pairs)
        counts = tfidf.count(examples)
    weights = tfidf.learn(examples, counts, request.tfidf)
    present = {path for _, types in examples for path in types}
    merged = {pair.other for pair in pairs} if request.pipeline.learn.merge_twins else set[str]()
    origin = Origin(
        plan,
        rows,
        held_out=held_out.measure(examples, request.tfidf),
        rare=tfidf.rare_types(counts, request.tfidf),
        absent=[path for path in plan.prompts.types if path not in present | merged],
        twins=pairs,
    )
    if not weights:
        raise UserMistake(f"nothing could be learned: {summary.nothing_learned(origin)}")
    text = summary.mapping_yaml(weights, origin)
    tree, types = plan.taggers[0].taxonomy.tree, list(plan.prompts.types)
    library.check_loads(text, lambda path: mapping.load(path, tree, types))
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


def _count_rows(plan: LearnPlan) -> tuple[Counter[Example], UseCounts]:
    counts, examples = UseCounts(), Counter[Example]()
    rows = plan.read_rows(texts=not plan.has_types, images=plan.fields.tags is None)
    typed = with_types(rows, type_finder(plan, counts.unknown_words("types")))
    for row in with_tags(plan, typed, counts.unknown_words("tags")):
        if isinstance(row, Row):
            counts.used += 1
            examples[tfidf.example(row.tags or (), row.types or ())] += 1
        else:
            counts.leave_out(row.failure.reason, f"{row.where}: {row.failure.detail}")
    return examples, counts
