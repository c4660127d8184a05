"""What the files beside a model's weights say of it: its configuration and the settings of its processor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthgen.engines.protocol import ModelName

CONFIG, IMAGE_PROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
LENGTHS = ("max_position_embeddings", "max_seq_len", "seq_length")  # names of the longest context


@dataclass(frozen=True)
class ModelFiles:
    """The settings of a model and of its processor.

    Attributes:
        config: Of the model.
        image: Of the processor's images.
        processor: Of the processor as a whole.
    """

    config: Mapping[str, Any]
    image: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The family of the model, as transformers names it; "" if the configuration names none."""
        return str(self.config.get("model_type") or "")

    @property
    def vision(self) -> Mapping[str, Any]:
        """The configuration of the vision tower."""
        return self.config.get("vision_config") or {}

    @property
    def context(self) -> int | None:
        """The longest context in tokens that the configuration gives; None if it gives none."""
        parts = (self.config.get("text_config"), self.config.get("llm_config"), self.config)
        found = (part.get(name) for part in parts if isinstance(part, Mapping) for name in LENGTHS)
        return next((length for length in found if isinstance(length, int) and length > 0), None)


def read_model_files(name: ModelName, *, may_download: bool = False) -> ModelFiles | None:
    """Return the files of a model in a folder or of the hub; None if there is no configuration that can be read.

    Args:
        name: The model at its revision.
        may_download: Whether the hub is asked for files that its local cache lacks.
    """
    config = _read(name, CONFIG, may_download)
    if config is None:
        return None
    whole = _read(name, PROCESSOR, may_download) or {}
    image = whole.get("image_processor") or _read(name, IMAGE_PROCESSOR, may_download) or {}
    return ModelFiles(config, image, whole)


def _read(name: ModelName, file: str, may_download: bool) -> dict[str, Any] | None:
    path = Path(name.model) / file
    if not Path(name.model).is_dir():
        found = _of_hub(name, file, may_download)
        if found is None:
            return None
        path = Path(found)
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _of_hub(name: ModelName, file: str, may_download: bool) -> str | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        if may_download:
            return str(hf_hub_download(name.model, file, revision=name.revision))
        cached = try_to_load_from_cache(name.model, file, revision=name.revision)
    except Exception:  # the hub's own errors, those of its HTTP library, a name or a file that it does not have
        return None
    return cached if isinstance(cached, str) else None
