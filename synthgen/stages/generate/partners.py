"""The questions of negatives, which are written for another image of the partition, the partner.

All of them are written before any conversation of the task, about one partner after the other. So no conversation waits
for another, and an image that is talked about stays in the engine's caches. A partner is loaded and prefilled once more
for it.
"""

from collections.abc import Sequence
from functools import partial

from synthgen.engines import Engine
from synthgen.errors import Failure
from synthgen.ingest.images import Decoded
from synthgen.stages.generate import conversation
from synthgen.stages.generate.asking import AskedQuestion, Assignment
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.in_flight import ImagesInFlight, or_failed
from synthgen.stages.generate.todo import Pending, PendingImage, prepare

Negatives = list[tuple[PendingImage, Assignment]]  # with the image that each is put to


async def ask_partners(pending: Pending, context: GenerateContext, engine: Engine, in_flight: ImagesInFlight) -> bool:
    """Have the questions of negatives written, and add each to those of its image.

    Returns:
        Whether no partner was given back.

    Raises:
        EngineDied: The engine can serve no further call.
    """
    wanted = _by_partner(pending)
    rows = {row["object_id"]: row for image_id, row in pending.partners.items() if image_id in wanted}
    for image_id in wanted.keys() - pending.partners.keys():
        _fail(wanted[image_id], Failure("image_unreadable", "the image that it was to be written for is gone"))

    async def ask(object_id: str, loaded: Decoded) -> None:
        partner = PendingImage(rows[object_id])
        negatives = wanted[partner.row["image_id"]]
        assignments = [assignment for _, assignment in negatives]
        subject = prepare(partner, loaded, context.images)
        asking = conversation.ask_for_others(subject, assignments, engine, context.conversations())
        _keep(negatives, await or_failed(asking, partial(_failed, assignments)))

    def fail(object_id: str, failure: Failure) -> None:
        detail = f"the image that it was to be written for: {failure.detail}"
        _fail(wanted[rows[object_id]["image_id"]], Failure(failure.reason, detail))

    return await in_flight.converse(rows, ask, fail) if rows else True


def _by_partner(pending: Pending) -> dict[str, Negatives]:
    found: dict[str, Negatives] = {}
    for image in pending.images.values():
        for assignment in image.unasked_negatives:
            found.setdefault(assignment.partner or "", []).append((image, assignment))
    return found


def _keep(negatives: Negatives, asked: Sequence[AskedQuestion]) -> None:
    found = {question.assignment.assignment_id: question for question in asked}
    for image, assignment in negatives:
        image.questions[assignment.assignment_id] = found[assignment.assignment_id]


def _fail(negatives: Negatives, failure: Failure) -> None:
    _keep(negatives, _failed([assignment for _, assignment in negatives], failure))


def _failed(assignments: Sequence[Assignment], failure: Failure) -> list[AskedQuestion]:
    return [AskedQuestion(assignment, None, failure=failure) for assignment in assignments]
