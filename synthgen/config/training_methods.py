"""Methods of papers that a training can take up; each is off unless the pipeline names it."""

from pydantic import Field

from synthgen.config.library import Section


class MixtureConfig(Section):
    """Weights of instruction types in the loss, which move with what is still to be learned of each."""

    every: int = Field(default=50, gt=0)  # steps between two moves
    bound: float = Field(default=2.0, gt=1, le=10)  # a type counts at most so many times as much, or as little
