"""Conditions on where an image comes from and on which terms: its source by name, and its licence."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.config.library import Section


class Where(Section):
    """Images by licence and source; each that is given must fit, and null stands for an image that has none."""

    license: tuple[str | None, ...] = ()  # patterns such as CC-BY-*, in any case
    source: tuple[str | None, ...] = ()  # patterns of names

    def fits(self, license: str | None, source: str | None) -> bool:
        """Return whether an image fits."""
        pairs = ((self.license, license), (self.source, source))
        return all(not patterns or fits_one(patterns, value) for patterns, value in pairs)

    def mask(self, rights: pa.ChunkedArray, sources: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Return which of some images fit, (images,) bool; `rights` are of tables.RIGHTS."""
        return _mask(self.license, pc.struct_field(rights, "license")) & _mask(self.source, sources)


def fits_one(patterns: Iterable[str | None], value: str | None) -> bool:
    """Return whether a value fits one of some patterns, in any case; no value fits null alone."""
    if value is None:
        return None in tuple(patterns)
    return any(pattern is not None and fnmatchcase(value.lower(), pattern.lower()) for pattern in patterns)


def _mask(patterns: Sequence[str | None], values: pa.ChunkedArray) -> NDArray[np.bool_]:
    if not patterns:
        return np.ones(len(values), bool)
    fitting = [value for value in pc.unique(values).to_pylist() if fits_one(patterns, value)]
    return np.asarray(pc.is_in(values, pa.array(fitting, pa.string())))
