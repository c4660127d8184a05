"""A vision-language model as a tagger: it walks down the taxonomy and chooses among the names of each level.

Comes in: decoded images. Goes out: the tags that it chose. One call a level: first the roots, then in one call the children of all
roots that were chosen, and so on; a branch that was not chosen costs nothing, and where nothing below a tag is chosen the tag
stands for it. Replies are held to the names by a schema, and a call that brings no choice fails the image: half a walk would
look like an answer. The engine stands behind the same door as all engines and lives in the same actor as its worker.
"""

import asyncio
import hashlib
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from PIL.Image import Image

from synthgen.engines import choice_prompt, open_engine
from synthgen.errors import Failure
from synthgen.taggers.protocol import Tagged
from synthgen.taggers.spec import TaggerSpec, VlmTaggerFile

Result = TypeVar("Result")
IN_FLIGHT = 64  # images, where the file does not say


class VlmTagger:
    """An engine and a thread whose event loop it lives on: workers tag in threads, engines serve coroutines."""

    def __init__(self, spec: TaggerSpec, file: VlmTaggerFile) -> None:
        assert spec.model, "a VLM tagger is resolved before it is opened"
        self._spec, self._file, self._tree = spec, file, spec.taxonomy.tree
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vlm-tagger", daemon=True)
        self._thread.start()
        self._engine = self._finished(open_engine(spec.model, file.serve))
        self._places = asyncio.Semaphore(file.serve.in_flight or IN_FLIGHT)

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The image, and a key that names its pixels for the engine's caches."""
        return image, hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:32]

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """The tags of a batch, all images in flight together; EngineDied if the engine can serve no more."""

        async def all_of_them() -> list[Tagged]:
            return list(await asyncio.gather(*(self._walk(image, key) for image, key in inputs)))

        return self._finished(all_of_them())

    def close(self) -> None:
        """Stops the engine and the thread."""
        self._finished(self._engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _walk(self, image: Image, key: str) -> Tagged:
        """The tags of one image, level by level."""
        async with self._places:
            found: list[str] = []
            paths: Sequence[str] = self._tree.roots
            while paths:
                by_name = {self._tree.nodes[path].name: path for path in paths}
                meanings = {name: self._tree.nodes[path].means for name, path in by_name.items()}
                choice = choice_prompt.ChoiceRequest(
                    self._file.head, meanings, self._file.question, self._file.a_level, image, key
                )
                chosen = await choice_prompt.choose(self._engine, choice)
                if isinstance(chosen, Failure):
                    return Tagged([], failure=str(chosen))
                level = [by_name[name] for name in chosen]
                found += level
                paths = [child for path in level for child in self._tree.nodes[path].children]
        # A model that chooses does not say how sure it is.
        return Tagged([{"path": path, "score": 1.0, "tagger": self._spec.name} for path in found[: self._file.most]])

    def _finished(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
