"""Measures the cost of a question by type and form, with the real engine on a few images, for `synth plan --profile`.

The conversations are those of a run, with the same worker, engine and scores; nothing is written. The first image warms
the engine up and is not counted. The tokens of a pair's own calls are known. Those of its scoring calls are divided
among the pairs: prompt tokens evenly, output tokens by the length of the answers. Elapsed time is divided by the time
that the calls of each question took. Questions that failed for a reason that a retry can remove take their share and
are then left out, because they do not show the cost of an answered one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.engines import open_engine
from synthgen.engines.recorder import Recorder
from synthgen.errors import JobFailing
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.todo import Pending, PendingImage, assignment_of
from synthgen.stages.generate.worker import GenerateWorker
from synthgen.tables import RETRIED_REASONS

Row = Mapping[str, Any]
COUNTED = ("prompt_tokens", "cached_tokens", "output_tokens")


@dataclass(frozen=True)
class ProfileSample:
    """An image to be asked about: its columns of Inputs.objects, and its rows of ASSIGNMENTS."""

    image: Row
    assignments: Sequence[Row]


@dataclass(frozen=True)
class QuestionCost:
    """The cost of one question with its scores.

    Seconds are those of the whole engine, which serves other calls at the same time.
    """

    type: str
    form: str
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    seconds: float


@dataclass(frozen=True)
class Profile:
    """The costs of some questions, and how the engine served them."""

    images: int
    calls: int
    room: int  # conversations that the engine has room for at once
    start_seconds: float  # until the engine answered
    seconds: float  # of all questions together
    questions: tuple[QuestionCost, ...]
    failed_calls: int = 0
    left_out: int = 0  # questions that failed for a reason that a retry can remove


async def measure(given: tuple[GenerateContext, Sequence[ProfileSample]]) -> Profile:
    """Ask about the samples in the actor; the first only warms the engine up, unless there is no other.

    Raises:
        JobFailing: Every question failed for a reason that a retry can remove.
    """
    context, samples = given
    began = time.perf_counter()
    engine = Recorder(await open_engine(context.model, context.engine))
    worker = GenerateWorker(context, engine)
    await worker.ask(_pending(context, samples[:1]))
    started = time.perf_counter()
    counted = samples[1:] or samples
    engine.calls.clear()
    rows = [row for outcome in await worker.ask(_pending(context, counted)) for row in outcome.pairs]
    seconds = time.perf_counter() - started
    await engine.close()
    replies = [reply for _, reply in engine.calls]
    totals = {name: float(sum(getattr(reply, name) for reply in replies)) for name in COUNTED}
    shares = zip(rows, shared_out(rows, totals, seconds), strict=True)
    questions = tuple(share for row, share in shares if row["reason"] not in RETRIED_REASONS)
    if not questions:
        message = (
            f"--profile: each of {len(rows)} questions failed, the first as {rows[0]['reason']}: {rows[0]['detail']}"
        )
        raise JobFailing(f"{message}; nothing was measured; remove the cause and profile again")
    failed, left_out = sum(reply.failure is not None for reply in replies), len(rows) - len(questions)
    return Profile(len(counted), len(replies), worker.room, started - began, seconds, questions, failed, left_out)


def shared_out(rows: Sequence[Row], totals: Mapping[str, float], seconds: float) -> list[QuestionCost]:
    """Return the cost of each question; together they add up to the totals and the seconds."""
    pairs = [row["outcome"] == "pair" for row in rows]
    evenly = [is_pair / max(sum(pairs), 1) for is_pair in pairs]
    by_length, by_time = (_parts([row[name] for row in rows]) for name in ("output_tokens", "seconds"))
    over = {name: max(0.0, totals[name] - sum(row[name] for row in rows)) for name in COUNTED}
    return [
        QuestionCost(
            row["type"],
            row["form"],
            row["prompt_tokens"] + over["prompt_tokens"] * even,
            row["cached_tokens"] + over["cached_tokens"] * even,
            row["output_tokens"] + over["output_tokens"] * long,
            seconds * slow,
        )
        for row, even, long, slow in zip(rows, evenly, by_length, by_time, strict=True)
    ]


def _parts(values: Sequence[float]) -> list[float]:
    total = sum(values)
    return [value / total if total > 0 else 1 / len(values) for value in values]


def _pending(context: GenerateContext, samples: Sequence[ProfileSample]) -> Pending:
    recipes = context.recipes()
    images = [
        PendingImage(
            dict(sample.image), [assignment_of(row, recipes[row["type"], row["form"]]) for row in sample.assignments]
        )
        for sample in samples
    ]
    return Pending({image.row["object_id"]: image for image in images}, 0)
