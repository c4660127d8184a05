"""A vision-language model as a tagger: it walks down the taxonomy and chooses among the names of each level.

One call asks for the roots, the next one for the children of all chosen roots, and so on. A branch that was not chosen
costs nothing; where no child is chosen, the parent stands for it. A schema holds replies to the names. A call without a
valid choice fails the image, because half a walk would look like a whole answer.

With `only`, it refines the tags of the taggers before it: it walks down from the groups that they found and `only`
names, and costs nothing where there is none.
"""

import asyncio
import hashlib
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar

from PIL.Image import Image
from pydantic import Field

from synthgen.config.engine import EngineConfig
from synthgen.config.generation import GenerateConfig
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Taxonomy, Tree, matching
from synthgen.engines import choice_prompt, open_engine
from synthgen.engines.kinds import gpus_of, kind_of, reply_options
from synthgen.errors import Failure
from synthgen.taggers.protocol import Tagged, tagging_failure
from synthgen.taggers.spec import Resources, TaggerFile, TaggerSpec

Result = TypeVar("Result")
IN_FLIGHT = 64  # images at once, unless the file says otherwise


class VlmTaggerFile(TaggerFile):
    """taggers/NAME.yaml with `engine: vlm`."""

    engine: Literal["vlm"]
    model: str  # a hub name or a folder; for an endpoint, its name for the model
    revision: str | None = None
    serve: EngineConfig = EngineConfig()  # as generate.engine of a pipeline
    head: str = "What an image may show:"
    question: str = "Which of these does the image clearly show? Name those alone, the surest first."
    a_level: int = Field(default=4, gt=0)  # most tags chosen on each level of the tree
    most: int = Field(default=16, gt=0)  # tags per image
    only: tuple[str, ...] = ()  # patterns of tags that an earlier tagger must have found; the walk starts below them

    def open(self, spec: TaggerSpec) -> "VlmTagger":
        """Start the engine."""
        return VlmTagger(spec, self)

    def settings(self) -> dict[str, Any]:
        """Return the settings without where and how fast the model is served."""
        unused = set() if self.only else {"only"}  # so that folders made before there was this key keep their tags
        dumped = self.model_dump(mode="json", exclude={"about", "serve", *unused})
        return {**dumped, "serve": reply_options(self.serve)}

    def refines(self) -> tuple[str, ...]:
        """Return the patterns of `only`."""
        return self.only

    @classmethod
    def unknown_tags(cls, document: Document, tree: Tree) -> list[tuple[KeyPath, str]]:
        """Return the patterns in `only` that match no group of tags."""
        patterns = document.at(("only",))
        groups = [node.path for node in tree if node.children]
        return [
            (("only", number), pattern)
            for number, pattern in enumerate(patterns if isinstance(patterns, list) else [])
            if isinstance(pattern, str) and not matching([pattern], groups)
        ]

    def read_taxonomy(self, taxonomy: Taxonomy) -> Any:
        """Return the paths and meanings, in the order in which they are listed to the model."""
        return [[node.path, node.means] for node in taxonomy.tree]

    def resources(self) -> Resources:
        """Return what the engine needs."""
        return Resources(self.serve.cpus, gpus_of(self.serve))

    def packages(self) -> tuple[str, ...]:
        """Return what the engine needs."""
        return kind_of(self.serve).needs

    def served_model(self) -> GenerateConfig:
        """Return the model and its engine."""
        return GenerateConfig(model=self.model, revision=self.revision, prompts="", engine=self.serve)


class VlmTagger:
    """An engine, and a thread with the event loop that the engine needs: workers call taggers from plain threads."""

    def __init__(self, spec: TaggerSpec, file: VlmTaggerFile) -> None:
        assert spec.model, "resolve_model has not been called"
        self._spec, self._file, self._tree = spec, file, spec.taxonomy.tree
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vlm-tagger", daemon=True)
        self._thread.start()
        self._engine = self._wait_for(open_engine(spec.model, file.serve))
        self._slots = asyncio.Semaphore(file.serve.in_flight or IN_FLIGHT)

    def prepare(self, image: Image, source_meta: str | None) -> tuple[Image, str]:
        """Return the image, and a key that identifies its pixels in the engine's caches."""
        return image, hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:32]

    def tag(self, inputs: Sequence[tuple[Image, str]]) -> list[Tagged | Failure]:
        """Return the tags of a batch, all images in flight at once.

        Raises:
            EngineDied: If the engine can serve no further call.
        """
        return self._walk_all(inputs, [self._tree.roots] * len(inputs))

    def tag_below(self, inputs: Sequence[tuple[Image, str]], starts: Sequence[Sequence[str]]) -> list[Tagged | Failure]:
        """Return the tags of a batch below the given groups of each image, without a call where there are none.

        Raises:
            EngineDied: If the engine can serve no further call.
        """
        return self._walk_all(inputs, [self._below(groups) for groups in starts])

    def _below(self, groups: Sequence[str]) -> list[str]:
        return [child for path in groups for child in self._tree.nodes[path].children]

    def _walk_all(self, inputs: Sequence[tuple[Image, str]], levels: Sequence[Sequence[str]]) -> list[Tagged | Failure]:
        """Return the tags of each image, given the tags of its first level."""

        async def walk_all() -> list[Tagged | Failure]:
            walks = (self._walk(image, key, level) for (image, key), level in zip(inputs, levels, strict=True))
            return list(await asyncio.gather(*walks))

        return self._wait_for(walk_all())

    def close(self) -> None:
        """Stop the engine and the thread."""
        self._wait_for(self._engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _walk(self, image: Image, key: str, level: Sequence[str]) -> Tagged | Failure:
        """Return the tags of one image, level by level, from the tags of the first one down."""
        paths: list[str] = []
        async with self._slots:
            while level:
                nodes = [self._tree.nodes[path] for path in level]
                request = choice_prompt.ChoiceRequest(
                    self._file.head, self._file.question, self._file.a_level, image, key
                )
                chosen = await choice_prompt.choose_nodes(self._engine, nodes, request)
                if isinstance(chosen, Failure):
                    return tagging_failure(str(chosen))
                paths += chosen
                level = self._below(chosen)
        # The model only chooses, so every tag has score 1.
        return Tagged([{"path": path, "score": 1.0, "tagger": self._spec.name} for path in paths[: self._file.most]])

    def _wait_for(self, task: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result()
