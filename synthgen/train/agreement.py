"""What the processes of a group must agree on before a step: the same forward passes, and the tokens of them all.

A process whose rows cannot be used, or which has fewer micro-batches than another, takes part with the spare row, whose
labels are all ignored: a layer that only some of the processes reach is waited for without end (TorchSpec issue 126).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synthgen.train.encode import MicroBatch
from synthgen.train.group import Group
from synthgen.train.loader import Batch


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


def agree(batch: Batch, spare: MicroBatch | None, group: Group) -> Step:
    """Return the step of a batch. All processes of the group must call this.

    Args:
        batch: This process's share.
        spare: A row with an image whose labels are all ignored, the same in every process; None for one that is alone.
        group: The processes.
    """
    own = batch.micro_batches
    counts = [(each.answer_tokens, each.tokens) for each in own]
    shared = group.gather((counts, batch.skipped))
    most = max(len(each) for each, _ in shared)
    every = [pair for each, _ in shared for pair in each]
    return Step(
        [*own, *[spare] * (most - len(own))] if spare else own,
        sum(answers for answers, _ in every),
        sum(tokens for _, tokens in every),
        sum((skipped for _, skipped in shared), Counter[str]()),
        batch.position,
    )
