"""What a tagger file (taggers/NAME.yaml) may say, and a tagger ready to be sent to workers.

Comes in: a name. Goes out: a TaggerSpec, its file and taxonomy checked against each other without loading any model. `engine` says
what finds the tags: `open_clip` a model over the taxonomy's texts, `vlm` a vision-language model that chooses, `sidecar` the
tags that the source carries along, and `module:Class` the user's own code, which is imported only where it runs.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from synthgen.config import library, taxonomy
from synthgen.config.library import Section
from synthgen.config.pipeline import EngineConfig, GenerateConfig
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Taxonomy, Tree, matches
from synthgen.engines import ModelName
from synthgen.engines.revision import folder_digest, resolve
from synthgen.errors import Mistakes, attempted, nearest

Limit = Annotated[float, Field(gt=0, le=1)]  # a probability


class ClipTaggerFile(Section):
    """taggers/NAME.yaml with engine: open_clip"""

    about: str
    engine: Literal["open_clip"]
    taxonomy: str
    model: str  # an open_clip name, or a folder with open_clip_config.json
    pretrained: str | None = None  # open_clip's name for the weights; none for a folder
    threshold: Limit = 0.5
    thresholds: dict[str, Limit] = Field(default_factory=dict)  # tag pattern -> threshold; the last that matches counts
    most: int = Field(default=16, gt=0)  # of one image, the surest


class SidecarTaggerFile(Section):
    """taggers/NAME.yaml with engine: sidecar"""

    about: str
    engine: Literal["sidecar"]
    taxonomy: str
    key: str = "tags"  # of source_meta: a list of tag paths or names
    names: dict[str, str] = Field(default_factory=dict)  # the source's word -> tag path, where they differ


class VlmTaggerFile(Section):
    """taggers/NAME.yaml with engine: vlm"""

    about: str
    engine: Literal["vlm"]
    taxonomy: str
    model: str  # a hub name or a folder; what an endpoint calls its model
    revision: str | None = None
    serve: EngineConfig = EngineConfig()  # as generate.engine of a pipeline
    head: str = "What an image may show:"
    question: str = "Which of these does the image clearly show? Name those alone, the surest first."
    a_level: int = Field(default=4, gt=0)  # tags chosen at most on each level of the tree
    most: int = Field(default=16, gt=0)  # of one image


class CustomTaggerFile(Section):
    """taggers/NAME.yaml with engine: module:Class"""

    about: str
    engine: Annotated[str, StringConstraints(pattern=r"^[\w.]+:[\w.]+$")]
    taxonomy: str
    version: str = ""  # to be changed with the code, which nobody else can see: then `run --update` tags anew
    options: Mapping[str, Any] = Field(default_factory=dict)  # handed to the class


TaggerFile = ClipTaggerFile | SidecarTaggerFile | VlmTaggerFile | CustomTaggerFile


@dataclass(frozen=True)
class TaggerSpec:
    """A tagger file with its taxonomy, ready to be sent to workers."""

    name: str
    file: TaggerFile
    taxonomy: Taxonomy
    folder: str | None = None  # of an open_clip model, where it is local
    model: ModelName | None = None  # of a VLM, once `resolved` has found out which it is

    @property
    def fingerprint(self) -> str:
        """Changes whenever the tags could: with the settings, what is read of the taxonomy, or the model's files."""
        digest = self.model.revision if self.model else self.weights
        # Words about a tagger, and where a model is served and how fast, say nothing of what it finds.
        settings = self.file.model_dump(mode="json", exclude={"about", "serve"})
        if isinstance(self.file, VlmTaggerFile):
            settings["serve"] = self.file.serve.shaping
        order = list(settings.get("thresholds", ()))  # decides where several match; below keys are sorted
        whole = json.dumps([settings, order, self._texts, digest], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    @property
    def _texts(self) -> Any:
        """What of the taxonomy a tagger of this kind reads; the user's code may read all."""
        tree = self.taxonomy.tree
        if isinstance(self.file, SidecarTaggerFile):
            return sorted(tree.nodes)
        if isinstance(self.file, VlmTaggerFile):
            return [[node.path, node.means] for node in tree]  # listed in this order
        return {path: list(texts) for path, texts in self.taxonomy.phrasings.items()}

    @property
    def weights(self) -> str:
        """The digest of an open_clip model's files where they are local, a folder or a `pretrained` file; else empty."""
        if self.folder:
            return folder_digest(Path(self.folder))
        local = isinstance(self.file, ClipTaggerFile) and self.file.pretrained and Path(self.file.pretrained)
        return folder_digest(local.resolve()) if local and local.is_file() else ""

    @property
    def embedding(self) -> list[str]:
        """What makes the embeddings; empty if nothing does. A local model is its files, so that new weights are another."""
        if not isinstance(self.file, ClipTaggerFile):
            return []
        return (
            [self.weights]
            if self.folder
            else [self.file.model, self.file.pretrained or "", *filter(None, [self.weights])]
        )


def embedding_of(specs: Sequence[TaggerSpec]) -> list[str]:
    """What makes the one embedding that is stored with an image: the first of its taggers that makes any."""
    return next((one.embedding for one in specs if one.embedding), [])


def load(name: str) -> TaggerSpec:
    """The tagger of that name, or all that is wrong with it."""
    document = library.load("tagger", name)
    faults: list[str] = []
    file = attempted(faults, lambda: _checked(document))
    tags = attempted(faults, lambda: _taxonomy(document))
    faults += _unknown_tags(document, tags) if tags else []
    folder = None
    if isinstance(file, ClipTaggerFile):
        folder = next(
            (path.resolve() for path in (Path(file.model), library.shipped_folder() / file.model) if path.is_dir()),
            None,
        )
        if fault := _model_fault(file, folder):
            faults.append(f"{document.where(('model',))}: model {file.model}: {fault}")
    if faults:
        raise Mistakes(faults)
    assert file and tags
    return TaggerSpec(name, file, tags, str(folder) if folder else None)


def tree_of(name: str) -> Tree | None:
    """The tags of a tagger's taxonomy, whatever else is wrong with the tagger; None if it names none."""
    tags = _taxonomy(library.load("tagger", name))
    return tags.tree if tags else None


def _taxonomy(document: Document) -> Taxonomy | None:
    faults: list[str] = []
    names = library.known_names("taxonomy", document, ("taxonomy",), faults)
    if faults:
        raise Mistakes(faults)
    return taxonomy.load(names[0]) if names else None


def load_all(names: Sequence[str]) -> tuple[TaggerSpec, ...]:
    """The taggers of a pipeline, or all that is wrong with them; mappings speak of one taxonomy, so they must share it."""
    faults: list[str] = []
    specs = [spec for name in names if (spec := attempted(faults, partial(load, name)))]
    faults += [
        f"tag.tagger: '{one.name}' tags with taxonomy '{one.taxonomy.name}' and '{specs[0].name}' with '{specs[0].taxonomy.name}'; "
        "the taggers of a pipeline share one"
        for one in specs[1:]
        if one.taxonomy.name != specs[0].taxonomy.name
    ]
    if faults:
        raise Mistakes(
            list(dict.fromkeys(faults))
        )  # several taggers tell of the mistakes of the taxonomy that they share
    return tuple(specs)


def resolved(spec: TaggerSpec, find: Callable[[GenerateConfig, str], ModelName] = resolve) -> TaggerSpec:
    """The same, with the exact model of a VLM tagger found out, which may ask the hub."""
    if not isinstance(spec.file, VlmTaggerFile):
        return spec
    file = spec.file
    settings = GenerateConfig(model=file.model, revision=file.revision, prompts="", engine=file.serve)
    return replace(spec, model=find(settings, f"tagger '{spec.name}': model"))


def threshold(file: ClipTaggerFile, path: str) -> float:
    """The threshold of a node."""
    found = [value for pattern, value in file.thresholds.items() if matches(pattern, path)]
    return found[-1] if found else file.threshold


def _checked(document: Document) -> TaggerFile:
    """The file as the kind that its `engine` names, so that its mistakes are told as mistakes of that kind."""
    engine = document.values.get("engine") if isinstance(document.values, dict) else None
    if engine == "sidecar":
        return library.check(document, SidecarTaggerFile)
    if engine == "vlm":
        return library.check(document, VlmTaggerFile)
    if isinstance(engine, str) and ":" in engine:
        return library.check(document, CustomTaggerFile)
    if isinstance(engine, str) and engine != "open_clip":
        raise Mistakes([f"{document.where(('engine',))}: no engine is called '{engine}': {nearest(engine, ENGINES)}"])
    return library.check(document, ClipTaggerFile)


ENGINES = ("open_clip", "vlm", "sidecar", "module:Class")
CLIP_WEIGHTS = (".safetensors", ".bin", ".pth")  # that open_clip finds in a folder


def _unknown_tags(document: Document, tags: Taxonomy) -> list[str]:
    """Names that the taxonomy does not have, and patterns that match nothing in it."""
    known = tags.tree.nodes
    wrong = []
    if document.at(("engine",)) == "sidecar":
        places: list[KeyPath] = list(document.names_at(("names",)))
        wrong = [(place, path) for place in places if isinstance(path := document.at(place), str) and path not in known]
    if document.at(("engine",)) == "open_clip":
        thresholds = document.names_at(("thresholds",)).items()
        wrong = [(place, one) for place, one in thresholds if not any(matches(one, path) for path in known)]
    return [
        f"{document.where(place)}: no tag of '{tags.name}' is '{name}': {nearest(name, known)}" for place, name in wrong
    ]


def _model_fault(file: ClipTaggerFile, folder: Path | None) -> str | None:
    """Why the model cannot be one, as far as names and files tell without loading it."""
    if folder:
        if not (folder / "open_clip_config.json").is_file():
            return "is a folder without open_clip_config.json"
        return (
            None
            if any(path.suffix in CLIP_WEIGHTS for path in folder.iterdir())
            else f"holds no weights (*{', *'.join(CLIP_WEIGHTS)})"
        )
    if file.model.startswith("hf-hub:"):
        return None
    if "/" in file.model:
        return "no such folder"
    return None if file.pretrained else "pretrained is missing; without weights the tags would be drawn by lot"
