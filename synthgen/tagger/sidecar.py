"""Tags that came with an image: in a JSON file beside it, or in a column of the Parquet file that holds it.

Comes in: source_meta. Goes out: the words under the file's key as tags. Nothing is looked at, so this tagger is as right as its source.
"""

import json
from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from synthgen.tagger.files import SidecarFile, TaggerSpec
from synthgen.tagger.found import Tagged


class SidecarTagger:
    """Reads the tags that came with an image; a word that the taxonomy does not know is no tag."""

    def __init__(self, spec: TaggerSpec, file: SidecarFile) -> None:
        self._file, self._spec = file, spec
        self._paths = {node.name: node.path for node in spec.taxonomy.tree} | {path: path for path in spec.taxonomy.tree.nodes}

    def prepare(self, image: Image | None, source_meta: str | None) -> Any:
        """The words under the file's key; none where the source carries something else."""
        try:
            meta = json.loads(source_meta or "{}")
        except (ValueError, RecursionError):
            return []
        found = meta.get(self._file.key) if isinstance(meta, dict) else None
        return found.split(",") if isinstance(found, str) else found if isinstance(found, list) else []

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """The words as tags, each with score 1."""
        return [Tagged([{"path": path, "score": 1.0, "tagger": self._spec.name} for path in self._known(words)]) for words in inputs]

    def close(self) -> None:
        """Holds nothing."""

    def _known(self, words: Sequence[Any]) -> list[str]:
        named = (str(word).strip() for word in words)
        found = (self._paths.get(self._file.names.get(word, "_".join(word.lower().split()))) for word in named)
        return list(dict.fromkeys(path for path in found if path))
