"""How the tokenizer of an open_clip model cleans a text before it reads it, told from the model's configuration.

Found as `open_clip.get_tokenizer` finds it, but without importing open_clip, which takes seconds, and without network.
"""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from synthgen.config.phrasings import canonical
from synthgen.taggers.clip import ClipTaggerFile
from synthgen.taggers.spec import TaggerSpec

Cleaning = Literal["canonicalize", "lower", "whitespace"]


def cleaning_of(spec: TaggerSpec) -> Cleaning | None:
    """Return how a tagger's model cleans texts; None if it has none, or its configuration is not on this machine."""
    if not isinstance(spec.file, ClipTaggerFile) or (config := _model_config(spec)) is None:
        return None
    text = config.get("text_cfg") or {}
    clean: Any = (text.get("tokenizer_kwargs") or {}).get("clean")
    if text.get("hf_tokenizer_name"):
        clean = clean or "whitespace"
    elif not spec.folder and "siglip" in spec.file.model.lower():
        clean = "canonicalize"
    else:
        clean = clean or "lower"
    return clean if clean in ("canonicalize", "lower", "whitespace") else None


def clean(text: str, how: Cleaning) -> str:
    """Return a text as a tokenizer with this cleaning reads it."""
    if how == "canonicalize":
        return canonical(text)
    spaced = " ".join(text.split())
    return spaced.lower() if how == "lower" else spaced


def _model_config(spec: TaggerSpec) -> Mapping[str, Any] | None:
    """Return the model's configuration, from its folder or from the list that open_clip ships."""
    assert isinstance(spec.file, ClipTaggerFile)
    if spec.folder:
        return _read(Path(spec.folder) / "open_clip_config.json", "model_cfg")
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        return None
    return _read(Path(package.origin).parent / "model_configs" / f"{spec.file.model.replace('/', '-')}.json")


def _read(path: Path, key: str | None = None) -> Mapping[str, Any] | None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    config = config.get(key) if key and isinstance(config, dict) else config
    return config if isinstance(config, dict) else None
