"""Methods of papers that a training can take up; each is off unless the pipeline names it."""

from pydantic import Field

from synthgen.config.library import Section


class MixtureConfig(Section):
    """Weights of instruction types in the loss, which move with what is still to be learned of each."""

    every: int = Field(default=50, gt=0)  # steps between two moves
    bound: float = Field(default=2.0, gt=1, le=10)  # a type counts at most so many times as much, or as little


class RetainConfig(Section):
    """An old skill that is kept: of each weight the values that it needs most stay, and the others move little."""

    shards: str  # samples of the old skill: a run's output folder, or a folder of shards
    samples: int = Field(default=64, gt=0)  # the first of them, that are looked at
    frozen: float = Field(default=0.75, ge=0, le=1)  # share of the values that stay
    reach: float = Field(default=0.2, ge=0)  # the others move by at most this share of their size


class LengthsConfig(Section):
    """Pieces of conversations in place of whole ones, short at first and of all lengths later."""

    even_from: float = 1.0  # the epoch at which the temperature of the lengths is 1; the first is 0


class RoutersConfig(Section):
    """Losses that keep the routers of a model of experts at work."""

    balance: float = Field(default=0.001, ge=0)  # of the spread of tokens over the experts
    max_z: float = Field(default=0.01, ge=0)  # of the largest logit
