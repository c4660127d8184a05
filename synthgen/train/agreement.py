"""What the processes of a group must agree on before a step: the same forward passes, and the tokens of them all.

A process whose rows cannot be used, or which has fewer micro-batches than another, takes part with a spare row, whose
labels are all ignored: a layer that only some of the processes reach is waited for without end (TorchSpec issue 126).
So do those with images and those of text alone, each with those of their kind: the vision tower is such a layer. Those
with images come last, as gradients are exchanged with the last one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synthgen.train.encode import MicroBatch
from synthgen.train.group import Group
from synthgen.train.loader import Batch


@dataclass(frozen=True)
class Spares:
    """Rows whose labels are all ignored, the same in every process, which stand in where one has too few."""

    image: MicroBatch
    text: MicroBatch


@dataclass(frozen=True)
class Step:
    """One optimizer step, as all processes take it.

    Attributes:
        micro_batches: This process's, as many as every other has.
        answer_tokens: With a loss, of all processes.
        tokens: Image tokens included, padding excluded, of all processes.
        skipped: Unusable rows of all processes by reason.
        position: Rows of the stream that were taken, these included.
        weights: Type → how much the loss of its answers counts.
    """

    micro_batches: Sequence[MicroBatch]
    answer_tokens: int
    tokens: int
    skipped: Counter[str]
    position: int
    weights: Mapping[str, float] = field(default_factory=dict)


def agree(batch: Batch, spares: Spares | None, group: Group) -> Step:
    """Return the step of a batch. All processes of the group must call this.

    Args:
        batch: This process's share.
        spares: None for a process that is alone.
        group: The processes.
    """
    own = [[each for each in batch.micro_batches if each.has_images is kind] for kind in (False, True)]
    counts = [(each.answer_tokens, each.tokens) for each in batch.micro_batches]
    shared = group.gather((counts, batch.skipped, [len(each) for each in own]))
    every = [pair for each, _, _ in shared for pair in each]
    if spares:
        most = [max(lengths) for lengths in zip(*(each for _, _, each in shared), strict=True)]
        for micro_batches, number, spare in zip(own, most, (spares.text, spares.image), strict=True):
            micro_batches += [spare] * (number - len(micro_batches))
    return Step(
        [*own[0], *own[1]],
        sum(answers for answers, _ in every),
        sum(tokens for _, tokens in every),
        sum((skipped for _, skipped, _ in shared), Counter[str]()),
        batch.position,
    )
