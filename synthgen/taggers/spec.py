"""Tagger files (taggers/NAME.yaml) and tagger specs, which are sent to workers.

A kind of tagger is a subclass of TaggerFile: its fields are the keys of the file, and its methods answer everything
that the rest of the package asks about a tagger before one is loaded. kinds.py lists the kinds.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from synthgen.config.generation import GenerateConfig
from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Taxonomy, Tree, matching, with_ancestors
from synthgen.engines import ModelName
from synthgen.engines.hub import Download
from synthgen.engines.kinds import resolve_model as resolve_served_model
from synthgen.taggers.protocol import Tagger

WorksFrom = Literal["pixels", "embedding", "source_meta"]


@dataclass(frozen=True)
class Resources:
    """The CPUs and GPUs that a worker needs for one tagger; `gpus=None` is an equal share of all GPUs."""

    cpus: float = 1.0
    gpus: float | None = 0.0


@dataclass(frozen=True)
class SourceTags:
    """The key of source_meta that holds tags, and the words there that stand for a tag path."""

    key: str
    names: Mapping[str, str] = field(default_factory=dict)


class TaggerFile(Section):
    """The keys that every tagger file has, and the questions that each kind of tagger answers.

    Only `open` must be overridden. The defaults describe a tagger that looks at pixels, on a CPU, without a model.
    """

    about: str
    engine: str
    taxonomy: str

    # What the tagger needs of an image that was tagged before. From "embedding" it must be an EmbeddingTagger, from
    # "source_meta" a SourceMetaTagger; after an edit its tags are then found without reading the image again.
    works_from: ClassVar[WorksFrom] = "pixels"

    @abstractmethod
    def open(self, spec: "TaggerSpec") -> Tagger:
        """Load the tagger."""

    def settings(self) -> dict[str, Any]:
        """Return the settings that can change the tags; they are part of the fingerprint."""
        return self.model_dump(mode="json", exclude={"about"})

    def key_order(self) -> list[str]:
        """Return the keys whose order can change the tags; the fingerprint sorts all others."""
        return []

    def read_taxonomy(self, taxonomy: Taxonomy) -> Any:
        """Return the parts of the taxonomy that the tagger reads, as JSON values; they are part of the fingerprint."""
        return {path: list(phrasings) for path, phrasings in taxonomy.phrasings.items()}

    def model_digest(self, spec: "TaggerSpec") -> str:
        """Return the revision or digest of the model's files; empty if there is no model or its revision is unknown."""
        return spec.model.revision if spec.model else ""

    def embedding_model(self, spec: "TaggerSpec") -> list[str]:
        """Return the identity of the model that makes the embeddings; empty if the tagger makes none."""
        return []

    def resources(self) -> Resources:
        """Return what a worker needs."""
        return Resources()

    def packages(self) -> tuple[str, ...]:
        """Return the importable packages that the tagger needs beside synthgen's own dependencies."""
        return ()

    def served_model(self) -> GenerateConfig | None:
        """Return the model and its engine, if the tagger asks a generating model."""
        return None

    def local_model(self, home: Path) -> Path | None:
        """Return the folder of the tagger's model, if that is a local one; a relative name starts from `home`."""
        return None

    def local_weights(self, home: Path) -> Path | None:
        """Return the file of the tagger's weights, if it names a local one; a relative name starts from `home`."""
        return None

    def download(self) -> Download | None:
        """Return the weights that are downloaded where neither `local_model` nor `local_weights` has them."""
        return None

    def model_fault(self, folder: Path | None) -> str | None:
        """Return why the model cannot work, as far as its name and files show; `folder` is its `local_model`."""
        return None

    @classmethod
    def unknown_tags(cls, document: Document, tree: Tree) -> list[tuple[KeyPath, str]]:
        """Return the place and name of each tag or pattern in the file that matches nothing in `tree`."""
        return []

    def refines(self) -> tuple[str, ...]:
        """Return patterns of tags: below those that an earlier tagger of the pipeline found, this one looks closer.

        It must be a RefiningTagger then. Without patterns it looks at every image.
        """
        return ()

    def threshold_of(self, path: str) -> float | None:
        """Return the lowest score at which the node `path` becomes a tag, if the tagger has thresholds."""
        return None

    def source_tags(self) -> SourceTags | None:
        """Return where source_meta holds the tags, if the tagger reads them there."""
        return None


@dataclass(frozen=True)
class TaggerSpec:
    """A tagger file with its taxonomy, ready to be sent to workers, which may be in any folder."""

    name: str
    file: TaggerFile
    taxonomy: Taxonomy
    folder: str | None = None  # `file.local_model(home)`, from the root
    weights: str | None = None  # `file.local_weights(home)`, from the root
    model: ModelName | None = None  # `file.served_model()` once `resolve_model` has found its revision
    after: tuple[str, ...] = ()  # fingerprints of the taggers before it, if it refines their tags; see `in_order`

    # Cached: they are asked for in each partition, and take milliseconds, or the reading of the model's files.

    @cached_property
    def fingerprint(self) -> str:
        """A hash that changes whenever the tags could: with the settings, the parts of the taxonomy, or the model."""
        parts = [
            self.file.settings(),
            self.file.key_order(),
            self.file.read_taxonomy(self.taxonomy),
            self.model_digest,
            *([list(self.after)] if self.after else []),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @cached_property
    def model_digest(self) -> str:
        """The revision or digest of the model's files, or empty."""
        return self.file.model_digest(self)

    @cached_property
    def embedding_model(self) -> list[str]:
        """The identity of the model that makes the embeddings; empty if the tagger makes none."""
        return self.file.embedding_model(self)


def stored_embedding_model(specs: Sequence[TaggerSpec]) -> list[str]:
    """Return the identity of the model whose embedding is stored with each image: the first that makes one."""
    return next((model for spec in specs if (model := spec.embedding_model)), [])


def in_order(specs: Sequence[TaggerSpec]) -> tuple[TaggerSpec, ...]:
    """Return the taggers of a pipeline, in which one that refines others knows the fingerprints of those before it."""
    ordered: list[TaggerSpec] = []
    for spec in specs:
        before = tuple(other.fingerprint for other in ordered)
        ordered.append(replace(spec, after=before) if spec.file.refines() else spec)
    return tuple(ordered)


def starts_below(spec: TaggerSpec, found: Iterable[str]) -> list[str]:
    """Return the groups below which a refining tagger looks closer: the topmost that its patterns name, of those found.

    Args:
        spec: The tagger.
        found: Paths of the tags that the taggers before it found.
    """
    nodes, patterns = spec.taxonomy.tree.nodes, spec.file.refines()
    named = [path for path in matching(patterns, with_ancestors(list(found))) if nodes[path].children]
    return [path for path in named if not any(path.startswith(f"{other}/") for other in named)]


def resolve_model(
    spec: TaggerSpec, find: Callable[[GenerateConfig, str], ModelName] = resolve_served_model
) -> TaggerSpec:
    """Return the spec with the exact revision of the model that it asks, if it asks one; this may query the hub."""
    settings = spec.file.served_model()
    return replace(spec, model=find(settings, f"tagger '{spec.name}': model")) if settings else spec
