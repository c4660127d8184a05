"""A short profile of an engine: the tokens and seconds that a question of each type and form takes.

Some images are asked about by the worker and the engine of a run, scores included, but nothing is written. The first
image warms the engine up and is not counted.

The tokens of a pair are known. Those of its scoring calls are shared among the pairs: prompt tokens evenly, output
tokens by the length of the answer. The seconds are shared by how long the calls of each question took. A question that
failed for a reason that another attempt may avoid takes its share and is then left out, because it does not show the
cost of an answered one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthgen.engines import Reply, open_engine
from synthgen.engines.recorder import Recorder
from synthgen.errors import JobFailing
from synthgen.stages.generate.asking import Assignment
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.todo import Pending, PendingImage, add_questions, assignment_of
from synthgen.stages.generate.worker import GenerateWorker
from synthgen.tables import ASK, GENERATE, RETRIED_REASONS

Row = Mapping[str, Any]
COUNTED = ("prompt_tokens", "cached_tokens", "output_tokens")


@dataclass(frozen=True)
class ProfileSample:
    """An image to be asked about.

    Attributes:
        image: Its row of `Inputs.objects`.
        assignments: Its rows of ASSIGNMENTS.
        partners: The rows of the images that its negatives are written for, by image_id.
    """

    image: Row
    assignments: Sequence[Row]
    partners: Mapping[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class ProfileTask:
    """A measurement of one pass.

    Attributes:
        context: Of the pass.
        samples: The first one warms the engine up, unless it is the only one.
        questions: Rows of QUESTIONS about the samples, for the second of two passes.
    """

    context: GenerateContext
    samples: Sequence[ProfileSample]
    questions: Sequence[Row] = ()


@dataclass(frozen=True)
class QuestionCost:
    """The cost of one question with its scores; seconds are its share of the engine, which serves several at once."""

    type: str
    form: str
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    seconds: float


@dataclass(frozen=True)
class Profile:
    """The measurement, with the names that it is stored by.

    Attributes:
        room: Conversations that the engine has room for at once.
        start_seconds: Until the engine first replied.
        seconds: Of all questions together.
        left_out: Questions that failed for a reason that another attempt may avoid.
        uncounted: COUNTED → calls of which the engine gave no such number, so that it is 0 in the costs.
        values: Of a scoring pass: score → its values, None for a pair without one.
    """

    images: int
    calls: int
    room: int
    start_seconds: float
    seconds: float
    questions: tuple[QuestionCost, ...]
    failed_calls: int = 0
    left_out: int = 0
    uncounted: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


async def measure(task: ProfileTask) -> tuple[Profile, list[Row]]:
    """Ask about the samples, in an actor; return what it took, and the rows that a second pass would read.

    Raises:
        JobFailing: Every question failed for a reason that another attempt may avoid.
    """
    context, samples = task.context, task.samples
    created = time.perf_counter()
    engine = Recorder(await open_engine(context.model, context.engine))
    worker = GenerateWorker(context, engine)
    first = [row for outcome in await worker.ask(_pending(task, samples[:1])) for row in outcome.pairs]
    started = time.perf_counter()
    counted = samples[1:] or samples
    engine.calls.clear()
    rows = [row for outcome in await worker.ask(_pending(task, counted)) for row in outcome.pairs]
    seconds = time.perf_counter() - started
    await engine.close()
    replies = [reply for _, reply in engine.calls]
    totals = totals_of(replies)
    counted_rows = [row | {name: row[name] or 0 for name in COUNTED} for row in rows]
    costs = share_costs(counted_rows, totals, seconds)
    questions = tuple(cost for row, cost in zip(rows, costs, strict=True) if row["reason"] not in RETRIED_REASONS)
    if not questions:
        raise JobFailing(
            f"--profile: each of {len(rows)} questions failed, the first as {rows[0]['reason']}: {rows[0]['detail']}; "
            "nothing was measured; remove the cause and profile again"
        )
    profile = Profile(
        images=len(counted),
        calls=len(replies),
        room=worker.room,
        start_seconds=started - created,
        seconds=seconds,
        questions=questions,
        failed_calls=sum(reply.failure is not None for reply in replies),
        left_out=len(rows) - len(questions),
        uncounted=uncounted(replies),
    )
    by = {"model": context.model.model, "revision": context.model.revision}
    return profile, [{**row, **by} for row in ([*first, *rows] if samples[1:] else rows)]


def totals_of(replies: Sequence[Reply]) -> dict[str, float]:
    """Return COUNTED → tokens of all calls; 0 where the engine gave no number."""
    return {name: float(sum(getattr(reply, name) or 0 for reply in replies)) for name in COUNTED}


def uncounted(replies: Sequence[Reply]) -> dict[str, int]:
    """Return COUNTED → calls of which the engine gave no such number, if there are any."""
    unknown = {name: sum(getattr(reply, name) is None for reply in replies) for name in COUNTED}
    return {name: calls for name, calls in unknown.items() if calls}


def share_costs(rows: Sequence[Row], totals: Mapping[str, float], seconds: float) -> list[QuestionCost]:
    """Return the cost of each question; together they are the totals and the seconds.

    Args:
        rows: Rows of PAIRS, or of QUESTIONS in the first of two passes.
        totals: COUNTED → tokens of all calls.
        seconds: Of all calls together.
    """
    is_pair = [row["outcome"] in (GENERATE.passes, ASK.passes) for row in rows]
    even_shares = [flag / max(sum(is_pair), 1) for flag in is_pair]
    length_shares, time_shares = (_shares([row[name] for row in rows]) for name in ("output_tokens", "seconds"))
    of_scores = {name: max(0.0, totals[name] - sum(row[name] for row in rows)) for name in COUNTED}
    return [
        QuestionCost(
            row["type"],
            row["form"],
            row["prompt_tokens"] + of_scores["prompt_tokens"] * even,
            row["cached_tokens"] + of_scores["cached_tokens"] * even,
            row["output_tokens"] + of_scores["output_tokens"] * by_length,
            seconds * by_time,
        )
        for row, even, by_length, by_time in zip(rows, even_shares, length_shares, time_shares, strict=True)
    ]


def _shares(values: Sequence[float]) -> list[float]:
    """Return the share of each value in their sum; equal shares if that is 0."""
    total = sum(values)
    return [value / total if total > 0 else 1 / len(values) for value in values]


def _pending(task: ProfileTask, samples: Sequence[ProfileSample]) -> Pending:
    context, recipes = task.context, task.context.recipes()

    def assignment(row: Mapping[str, Any]) -> Assignment:
        return assignment_of(row, recipes[row["type"], row["form"]], context.thing_of(row))

    # What the first pass took is no cost of the second.
    written = {row["assignment_id"]: {**row, **dict.fromkeys((*COUNTED, "seconds"), 0)} for row in task.questions}
    images = [
        PendingImage(
            dict(sample.image),
            [assignment(row) for row in sample.assignments],
        )
        for sample in samples
    ]
    for image in images:
        add_questions(context, image, written)
    partners = {name: dict(row) for sample in samples for name, row in sample.partners.items()}
    return Pending({image.row["object_id"]: image for image in images}, 0, partners=partners)
