"""A tagger of the user's own: `engine: module:Class` in a tagger file.

Comes in: the class that the file names. Goes out: a Tagger that calls it and checks what it says. The documented call:

    class MyTagger:
        def __init__(self, taxonomy, options): ...    # synthgen.config.taxonomy.Taxonomy; the file's `options`, a dict
        def tag(self, images, metas): ...             # PIL images; for each its source_meta as a dict, {} without one

`tag` returns for each image a dict of tag path -> score from 0 to 1, empty if it finds nothing. Where it raises, the images that it was
called with are tried one by one, so that it costs the one that it fails on; a path that the taxonomy does not have, or a score
out of range, costs the image that it was said of, both with the reason on record. Code that cannot be imported or made is no
image's fault: that is the user's to mend, and one line says where.
"""

import importlib
import json
import traceback
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from PIL.Image import Image

from synthgen.config import library
from synthgen.errors import UserMistake, nearest
from synthgen.taggers.protocol import Tagged, in_a_line, told
from synthgen.taggers.spec import CustomTaggerFile, TaggerSpec


class CustomTagger:
    """An object of the user's class."""

    def __init__(self, spec: TaggerSpec, file: CustomTaggerFile) -> None:
        self._spec, self._file = spec, file
        made = _imported(spec, file.engine)
        try:
            self._mine = made(spec.taxonomy, dict(file.options))
        except UserMistake:
            raise
        except (Exception, SystemExit) as error:
            raise UserMistake(
                f"tagger '{spec.name}': {file.engine} cannot be made: {told(error)}{_place(error, file.engine)}"
            ) from error
        if not callable(getattr(self._mine, "tag", None)):
            raise UserMistake(
                f"tagger '{spec.name}': {file.engine} has no method `tag`; docs/tagging.md shows the call"
            )

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The image, and what came with it."""
        try:
            meta = json.loads(source_meta or "{}")
        except (ValueError, RecursionError):
            meta = {}
        return image, meta if isinstance(meta, dict) else {}

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """What the class says, checked."""
        said = self._mine.tag([image for image, _ in inputs], [meta for _, meta in inputs])
        if not isinstance(said, Sequence) or len(said) != len(inputs):
            raise ValueError(f"{self._file.engine}.tag returned no list of {len(inputs)} for {len(inputs)} images")
        return [self._checked(one) for one in said]

    def close(self) -> None:
        """The object goes with its process."""

    def _checked(self, said: Any) -> Tagged:
        if not isinstance(said, Mapping):
            return Tagged(
                [], failure=f"{self._file.engine} returned {type(said).__name__} for an image, not path -> score"
            )
        for path, score in said.items():
            if path not in self._spec.taxonomy.tree.nodes:
                known = nearest(str(path), self._spec.taxonomy.tree.nodes)
                fault = f"{self._file.engine}: no tag of '{self._spec.taxonomy.name}' is '{path}': {known}"
                return Tagged([], failure=in_a_line(fault))
            if not isinstance(score, Real) or not 0 <= float(score) <= 1:
                return Tagged(
                    [], failure=f"{self._file.engine}: the score of {path} is {score!r}, not a number from 0 to 1"
                )
        surest = sorted(said, key=lambda path: (-said[path], path))
        return Tagged([{"path": path, "score": float(said[path]), "tagger": self._spec.name} for path in surest])


def _imported(spec: TaggerSpec, engine: str) -> Any:
    """The class that a file names. Whatever keeps its module from being imported is told with its place in it."""
    module = engine.partition(":")[0]
    try:
        importlib.import_module(module)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        if not (isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")):
            where = _place(error, engine)
            raise UserMistake(
                f"tagger '{spec.name}': cannot import {module}: {told(error)}{where}; mend it there"
            ) from error
    return library.import_attribute(engine)  # where there is no such module or class, this says so


def _place(error: BaseException, engine: str) -> str:
    """The last line of the user's module that an exception went through; a SyntaxError says its own."""
    module = engine.partition(":")[0].replace(".", "/")
    passed = [
        one for one in traceback.extract_tb(error.__traceback__) if module in one.filename and one.filename != __file__
    ]
    return f" ({Path(passed[-1].filename).name}:{passed[-1].lineno})" if passed else ""
