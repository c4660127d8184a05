"""The rule by which the processor of a model turns an image into tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

PROCESSOR = "mm_processor_kwargs"  # vLLM's argument for a processor's settings
OVERRIDES = "hf_overrides"  # and for those of a model's configuration
MOST_ASPECT = 100  # longer over shorter side of an image, up to which bounds hold

Arguments = Mapping[str, Mapping[str, Any]]  # vLLM's argument → settings


class ImageRule(Protocol):
    """The rule of one model.

    Attributes:
        keys: Names of the settings that bound the tokens, in whatever spelling the family knows.
        around: Tokens that the processor puts around an image.
        most: The most tokens of an image.
    """

    keys: ClassVar[frozenset[str]]

    @property
    def around(self) -> int: ...

    @property
    def most(self) -> int: ...

    def tokens(self, width: int, height: int) -> int:
        """Return the tokens of an image of so many pixels."""

    def within(self, most: int) -> Self:
        """Return the rule with settings under which an image takes so many tokens at most, or as few as there can be.

        The settings of a model that keeps to the number as it is stay as they are.
        """

    @property
    def settings(self) -> Arguments:
        """The settings of this rule as arguments of vLLM."""
