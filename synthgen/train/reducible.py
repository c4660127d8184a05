"""What a student still has to learn of each instruction type, as factors on the weights of the types.

The teacher that wrote an answer has a loss on it too, below which a student that learns from it hardly gets. What the
student's loss is above that can still be learned: the reducible loss by which RHO-LOSS chooses samples (Mindermann et
al., arXiv 2206.07137) and DoReMi weighs domains (excess loss; Xie et al., arXiv 2305.10429). Factors are bounded, since
a model reacts badly to a mixture that changes much at once (Aquila2, arXiv 2408.07410), and a type of which few answers
are known stays near the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

BOUND = 2.0
PRIOR_ANSWERS = 8  # the mean of all types weighs as much as so many answers of a type


@dataclass(frozen=True)
class TypeLosses:
    """The answers of an instruction type.

    Attributes:
        answers: How many they are.
        student: The student's mean loss of a token, in nats.
        teacher: That of the model which wrote them, of the same tokens.
    """

    answers: int
    student: float
    teacher: float

    @property
    def reducible(self) -> float:
        """What can still be learned, in nats a token; 0 where the student is as sure as its teacher."""
        return max(0.0, self.student - self.teacher)


def factors(types: Mapping[str, TypeLosses], bound: float = BOUND) -> dict[str, float]:
    """Return for each type its reducible loss over the mean of all answers, from 1 / bound to bound."""
    answers = sum(losses.answers for losses in types.values())
    mean = sum(losses.answers * losses.reducible for losses in types.values()) / max(1, answers)
    if mean == 0:
        return dict.fromkeys(types, 1.0)
    return {path: min(bound, max(1 / bound, _drawn_to(mean, losses) / mean)) for path, losses in types.items()}


def _drawn_to(mean: float, losses: TypeLosses) -> float:
    """Return the reducible loss of a type, drawn towards the mean of all."""
    return (losses.answers * losses.reducible + PRIOR_ANSWERS * mean) / (losses.answers + PRIOR_ANSWERS)
