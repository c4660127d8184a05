"""The model hub and its local cache: what is there, and in a few words why something cannot be had."""

import os
from dataclasses import dataclass
from pathlib import Path

from synthgen.errors import one_line

HUB_SECONDS = 10.0  # for the hub to answer


@dataclass(frozen=True)
class Download:
    """Weights that a library downloads on first use.

    Attributes:
        name: A model of the hub, or a URL.
        files: Of the model on the hub; one of them is enough.
    """

    name: str
    files: tuple[str, ...] = ()

    @property
    def is_cached(self) -> bool:
        """Whether they are on this machine already."""
        from huggingface_hub import try_to_load_from_cache

        if "://" in self.name:
            return (Path.home() / ".cache" / "clip" / os.path.basename(self.name)).is_file()  # noqa: PTH119 - of a URL
        return any(isinstance(try_to_load_from_cache(self.name, file), str) for file in self.files)

    def fault(self) -> str | None:
        """Return why they cannot be downloaded; None if they can, are here already, or nobody can tell."""
        return None if "://" in self.name or self.is_cached else hub_fault(self.name)


def hub_fault(model: str, revision: str | None = None) -> str | None:
    """Return why the hub does not give a model, or None if it does."""
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(model, revision=revision, timeout=HUB_SECONDS)
    except Exception as error:  # the hub's own errors, those of its HTTP library, a name that it refuses
        return hub_reason(error)
    return None


def hub_reason(error: Exception) -> str:
    """Return an error of the hub's library in a few words."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return one_line(error, 120)
