"""Settings of pipelines about scoring passes: for which pairs a pass is that waits for another score."""

from ctypes import c_float

from pydantic import model_validator

from synthgen.config.library import Section


class AfterConfig(Section):
    """The score that a pass waits for; the pass is for the pairs that this score leaves open."""

    score: str  # of `generate`, or PASS.SCORE
    min: float | None = None  # a value from min to max leaves a pair open; without either every value decides
    max: float | None = None

    @model_validator(mode="after")
    def _check_order(self) -> "AfterConfig":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so no value would leave a pair open")
        return self

    def decides(self, value: float) -> bool:
        """Return whether a stored value decides a pair, so that the pass has nothing to do."""
        if self.min is None and self.max is None:
            return True
        # A bound is taken as values are stored, in 32 bits, so that one at the bound is not beyond it.
        is_below = self.min is not None and value < c_float(self.min).value
        return is_below or (self.max is not None and value > c_float(self.max).value)
