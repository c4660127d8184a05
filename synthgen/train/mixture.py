"""Weights of instruction types in the loss that move while a model trains, with what is still to be learned of each.

Off unless `train.mixture` is given. The step is that of DoReMi (Xie et al., arXiv 2305.10429), within bounds: the loss
of a type counts more where the model's loss is far above that of the model which wrote the answers. The rows and their
order stay as they are, so that a training continues as without it. Each move is a line of `mixture.jsonl`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from synthgen.config.training_methods import MixtureConfig
from synthgen.errors import UserMistake
from synthgen.train.forms import Row
from synthgen.train.reducible import TypeLosses, factors
from synthgen.train.turns import TEACHER_COLUMN, TurnLoss

FILE = "mixture.jsonl"
Sums = list[float]  # answers, tokens, and the losses of the student and of the teacher on them


@dataclass(frozen=True)
class Mixture:
    """The weights, and what was seen since they last moved; a checkpoint has both.

    Attributes:
        weights: Type → how much the loss of its answers counts.
        seen: Type → sums over its answers.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, Sums] = field(default_factory=dict)

    def with_turns(self, turns: Sequence[TurnLoss]) -> "Mixture":
        """Return the mixture with the answers of a step; those count whose type and teacher's loss are known."""
        seen = {path: list(sums) for path, sums in self.seen.items()}
        for turn in turns:
            if turn.turn.type and turn.turn.teacher_loss is not None:
                own = [1.0, turn.answer_tokens, turn.loss, turn.turn.teacher_loss * turn.answer_tokens]
                before = seen.get(turn.turn.type, [0.0] * len(own))
                seen[turn.turn.type] = [total + value for total, value in zip(before, own, strict=True)]
        return Mixture(self.weights, seen)

    def moved(self, bound: float) -> "Mixture":
        """Return the mixture with the weights that follow from what was seen, and nothing seen since."""
        return Mixture({**self.weights, **_weights(self.seen, bound)})


def advance(
    mixture: Mixture, step: int, turns: Sequence[TurnLoss], settings: MixtureConfig | None, out: Path | None
) -> Mixture:
    """Return the mixture after a step, and log a move.

    Args:
        mixture: That of the step.
        step: Its number.
        turns: The losses of its answers, in all processes.
        settings: How often the weights move, and how far; None if they do not.
        out: The output folder, in the process that writes.
    """
    if settings is None:
        return mixture
    grown = mixture.with_turns(turns)
    if step % settings.every or not grown.seen:
        return grown
    moved = grown.moved(settings.bound)
    if out:
        losses = {path: asdict(of) for path, of in type_losses(grown.seen).items()}
        with (out / FILE).open("a") as file:
            file.write(json.dumps({"step": step, "weights": moved.weights, "losses": losses}) + "\n")
    return moved


def _weights(seen: Mapping[str, Sums], bound: float) -> dict[str, float]:
    """Return the factors of the types, over their mean on the tokens that were seen: the step keeps its length."""
    found = factors(type_losses(seen), bound)
    tokens = {path: sums[1] for path, sums in seen.items()}
    mean = sum(found[path] * tokens[path] for path in found) / sum(tokens.values())
    return {path: factor / mean for path, factor in found.items()}


def type_losses(seen: Mapping[str, Sums]) -> dict[str, TypeLosses]:
    """Return the mean losses of each type."""
    return {
        path: TypeLosses(int(answers), student / tokens, teacher / tokens)
        for path, (answers, tokens, student, teacher) in seen.items()
    }


def check_rows(rows: Sequence[Row]) -> None:
    """Raise UserMistake if the first rows of the shards do not say what the mixture needs of each answer."""
    for column, what in (("types", "the instruction type"), (TEACHER_COLUMN, "the likelihood of its teacher")):
        if rows and not any(row.get(column) for row in rows):
            raise UserMistake(
                f"train.mixture: the shards do not say {what} of each answer (column {column}); train on the shards "
                "of a run that measures `likelihood`, or leave train.mixture out"
            )
