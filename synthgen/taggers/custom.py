"""A tagger written by the user: `engine: module:Class` in a tagger file.

    class MyTagger:
        def __init__(self, taxonomy, options): ...    # synthgen.config.taxonomy.Taxonomy; the file's `options`, a dict
        def tag(self, images, metas): ...             # PIL images; the source_meta of each as a dict, {} without one

`tag` returns a dict of tag path -> score from 0 to 1 for each image, empty if it finds nothing. An unknown path or a
score out of range fails that image. Code that cannot be imported or constructed is a mistake of the user, reported in
one line with its place.
"""

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Annotated, Any

from PIL.Image import Image
from pydantic import Field, StringConstraints

from synthgen.config import library
from synthgen.errors import Failure, UserMistake, nearest, one_line
from synthgen.taggers.protocol import Tagged, tagging_failure
from synthgen.taggers.spec import Resources, TaggerFile, TaggerSpec


class CustomTaggerFile(TaggerFile):
    """taggers/NAME.yaml with `engine: module:Class`."""

    engine: Annotated[str, StringConstraints(pattern=r"^[\w.]+:[\w.]+$")]
    version: str = ""  # to be changed with the code, which the fingerprint cannot see; `run --update` then tags again
    options: Mapping[str, Any] = Field(default_factory=dict)  # passed to the class

    def open(self, spec: TaggerSpec) -> "CustomTagger":
        """Import the module and construct the class."""
        return CustomTagger(spec, self)

    def resources(self) -> Resources:
        """Return one CPU and a share of a GPU."""
        return Resources(gpus=None)


class CustomTagger:
    """An object of the user's class, whose results are checked."""

    def __init__(self, spec: TaggerSpec, file: CustomTaggerFile) -> None:
        self._spec, self._file = spec, file
        user_class = library.import_attribute(file.engine, f"tagger '{spec.name}'")
        try:
            self._user_tagger = user_class(spec.taxonomy, dict(file.options))
        except UserMistake:
            raise
        except (Exception, SystemExit) as error:
            where = library.place_in_module(error, file.engine)
            raise UserMistake(
                f"tagger '{spec.name}': {file.engine} cannot be constructed: {one_line(error)}{where}"
            ) from error
        if not callable(getattr(self._user_tagger, "tag", None)):
            raise UserMistake(f"tagger '{spec.name}': {file.engine} has no method `tag`; see docs/tagging.md")

    def prepare(self, image: Image, source_meta: str | None) -> tuple[Image, dict[str, Any]]:
        """Return the image and its source_meta as a dict."""
        try:
            meta = json.loads(source_meta or "{}")
        except (ValueError, RecursionError):
            meta = {}
        return image, meta if isinstance(meta, dict) else {}

    def tag(self, inputs: Sequence[tuple[Image, dict[str, Any]]]) -> list[Tagged | Failure]:
        """Return the tags that the user's class finds, checked."""
        results = self._user_tagger.tag([image for image, _ in inputs], [meta for _, meta in inputs])
        return [self._check(scores) for scores in results]

    def close(self) -> None:
        """Do nothing: the object ends with its process."""

    def _check(self, scores: Any) -> Tagged | Failure:
        """Return the scores of one image as tags, or a Failure if they are not scores of known tags."""
        engine, taxonomy = self._file.engine, self._spec.taxonomy
        if not isinstance(scores, Mapping):
            return tagging_failure(f"{engine} returned {type(scores).__name__} for an image, not path -> score")
        for path, score in scores.items():
            if path not in taxonomy.tree.nodes:
                known = nearest(str(path), taxonomy.tree.nodes)
                return tagging_failure(f"{engine}: no tag of '{taxonomy.name}' is '{path}': {known}")
            if not isinstance(score, Real) or not 0 <= float(score) <= 1:
                return tagging_failure(f"{engine}: the score of {path} is {score!r}, not a number from 0 to 1")
        surest = sorted(scores, key=lambda path: (-scores[path], path))
        return Tagged([{"path": path, "score": float(scores[path]), "tagger": self._spec.name} for path in surest])
