"""A short profile of the engine of a pass: the tokens and seconds that the scores of a pair take.

Some pairs are scored by the worker and the engine of a run, but nothing is written. The first image warms the engine up
and is not counted. What the calls took is shared evenly among the pairs.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.engines import open_engine
from synthgen.engines.recorder import Recorder
from synthgen.errors import JobFailing
from synthgen.stages.generate.profiling import Profile, QuestionCost, totals_of, uncounted
from synthgen.stages.generate.todo import PendingImage
from synthgen.stages.score.context import PassContext
from synthgen.stages.score.worker import Rows, ScoreWorker
from synthgen.tables import RETRIED_REASONS, score_failure

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PassSample:
    """An image, as a row of PLANNED_IMAGES or of `Inputs.objects`, and the rows of PAIRS about it."""

    image: Row
    pairs: Sequence[Row]


@dataclass(frozen=True)
class PassProfileTask:
    """A measurement of a pass; the first sample warms the engine up, unless it is the only one."""

    context: PassContext
    samples: Sequence[PassSample]


async def measure_pass(task: PassProfileTask) -> Profile:
    """Score the pairs of the samples, in an actor, and return what it took.

    Raises:
        JobFailing: Every score failed for a reason that another attempt may avoid.
    """
    created = time.perf_counter()
    engine = Recorder(await open_engine(task.context.model, task.context.engine))
    worker, scores = ScoreWorker(task.context, engine), Rows()
    await worker.score(_pending(task, task.samples[:1]), {})
    started, counted = time.perf_counter(), task.samples[1:] or task.samples
    engine.calls.clear()
    await worker.score(_pending(task, counted), scores)
    seconds = time.perf_counter() - started
    await engine.close()
    replies = [reply for _, reply in engine.calls]
    reasons = [row["reason"] for rows in scores.values() for row in rows]
    failed = [reason for reason in reasons if score_failure(reason) in RETRIED_REASONS]
    if len(failed) == len(reasons):
        raise JobFailing(
            f"--profile: pass '{task.context.name}': each of {len(reasons)} scores failed, the first as {failed[0]}; "
            "nothing was measured; remove the cause and profile again"
        )
    pairs = [pair for sample in counted for pair in sample.pairs]
    shares = {name: tokens / len(pairs) for name, tokens in totals_of(replies).items()}
    costs = (QuestionCost(pair["type"], pair["form"], **shares, seconds=seconds / len(pairs)) for pair in pairs)
    return Profile(
        images=len(counted),
        calls=len(replies),
        room=worker.room,
        start_seconds=started - created,
        seconds=seconds,
        questions=tuple(costs),
        failed_calls=sum(reply.failure is not None for reply in replies),
        uncounted=uncounted(replies),
        values={name: [row["value"] for row in rows] for name, rows in scores.items()},
    )


def _pending(task: PassProfileTask, samples: Sequence[PassSample]) -> dict[str, PendingImage]:
    """Return the images of samples with all scores of the pass to be measured for all of their pairs."""
    names = list(task.context.judge.settings.scores)
    return {
        sample.image["object_id"]: PendingImage(
            dict(sample.image),
            unscored=[(dict(pair), names) for pair in sample.pairs],
            earlier=[dict(pair) for pair in sample.pairs],
        )
        for sample in samples
    }
