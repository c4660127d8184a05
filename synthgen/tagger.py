"""What finds the tags of an image: open_clip over a taxonomy, or the tags that came with it.

Comes in: a tagger file (taggers/NAME.yaml) and decoded images. Goes out: the tags of each, and its embedding where there is
one. `engine: sidecar` reads the tags that the source carries along. `engine: open_clip` finds tags zero-shot: every node of
the taxonomy is a bundle of phrasings whose text embeddings are averaged. A model trained with a sigmoid loss (SigLIP, arXiv
2303.15343) gives each node a probability of its own; a contrastive one (CLIP) compares siblings, so a node's probability
is its share among them times its parent's. A node at or above its threshold is a tag and implies its ancestors; where no
leaf is sure enough its parent stands for it, and an image may have no tag at all.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field

from synthgen import shelves, taxonomy
from synthgen.errors import Mistakes, ModelUnavailable, nearest
from synthgen.models.names import folder_digest
from synthgen.shelves import Document, Section
from synthgen.taxonomy import Taxonomy, matches

Floats = NDArray[np.float32]
TEXTS_AT_ONCE = 256


class ClipFile(Section):
    """taggers/NAME.yaml with engine: open_clip"""

    about: str
    engine: Literal["open_clip"]
    taxonomy: str
    model: str  # an open_clip name, or a folder with open_clip_config.json
    pretrained: str | None = None  # open_clip's name for the weights; none for a folder
    threshold: float = Field(default=0.5, gt=0, le=1)
    thresholds: dict[str, float] = Field(default_factory=dict)  # tag pattern -> threshold; the last that matches counts
    most: int = Field(default=16, gt=0)  # of one image, the surest


class SidecarFile(Section):
    """taggers/NAME.yaml with engine: sidecar"""

    about: str
    engine: Literal["sidecar"]
    taxonomy: str
    key: str = "tags"  # of source_meta: a list of tag paths or names
    names: dict[str, str] = Field(default_factory=dict)  # the source's word -> tag path, where they differ


@dataclass(frozen=True)
class TaggerSpec:
    """A tagger file with its taxonomy, ready to be sent to workers."""

    name: str
    file: ClipFile | SidecarFile
    taxonomy: Taxonomy
    folder: str | None  # of the model, where it is local

    @property
    def fingerprint(self) -> str:
        """Changes whenever the tags could: with the settings, the taxonomy's texts, or the model's files."""
        digest = folder_digest(Path(self.folder)) if self.folder else ""
        phrasings = {path: list(texts) for path, texts in self.taxonomy.phrasings.items()}
        whole = json.dumps([self.file.model_dump(mode="json"), phrasings, digest], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    @property
    def embedding(self) -> list[str]:
        """What makes the embeddings."""
        return [self.file.model, self.file.pretrained or ""] if isinstance(self.file, ClipFile) else []


@dataclass(frozen=True)
class Tagged:
    """What a tagger says of one image; tags surest first."""

    tags: list[dict[str, Any]]
    embedding: Floats | None = None


class Tagger(Protocol):
    """What a worker tags with."""

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The tagger's input for one image, small enough to be kept for a batch."""

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """The tags of a batch of prepared images."""


def load(name: str) -> TaggerSpec:
    """The tagger of that name, or all that is wrong with it."""
    document = shelves.load("tagger", name)
    engine = document.values.get("engine") if isinstance(document.values, dict) else None
    file = shelves.check(document, SidecarFile) if engine == "sidecar" else shelves.check(document, ClipFile)
    tags = taxonomy.load(file.taxonomy)
    faults = _unknown_tags(document, file, tags)
    folder = None
    if isinstance(file, ClipFile):
        folder = next((path.resolve() for path in (Path(file.model), shelves.shipped() / file.model) if path.is_dir()), None)
        if fault := _model_fault(file, folder):
            faults.append(f"{document.where(('model',))}: model {file.model}: {fault}")
    if faults:
        raise Mistakes(faults)
    return TaggerSpec(name, file, tags, str(folder) if folder else None)


def _unknown_tags(document: Document, file: ClipFile | SidecarFile, tags: Taxonomy) -> list[str]:
    """Names that the taxonomy does not have, and patterns that match nothing in it."""
    known = tags.tree.nodes
    if isinstance(file, SidecarFile):
        wrong = [(("names", word), path) for word, path in file.names.items() if path not in known]
    else:
        wrong = [(("thresholds", one), one) for one in file.thresholds if not any(matches(one, path) for path in known)]
    return [f"{document.where(place)}: no tag of '{tags.name}' is '{name}': {nearest(name, known)}" for place, name in wrong]


def _model_fault(file: ClipFile, folder: Path | None) -> str | None:
    """Why the model cannot be one, as far as names and files tell without loading it."""
    if folder:
        if not (folder / "open_clip_config.json").is_file():
            return "is a folder without open_clip_config.json"
        return None if any(path.suffix in (".safetensors", ".bin", ".pt") for path in folder.iterdir()) else "holds no weights"
    if file.model.startswith("hf-hub:"):
        return None
    if "/" in file.model:
        return "no such folder"
    return None if file.pretrained else "pretrained is missing; without weights the tags would be drawn by lot"


def open_tagger(spec: TaggerSpec) -> Tagger:
    """The tagger, loaded; ModelUnavailable if its model does not load."""
    return SidecarTagger(spec, spec.file) if isinstance(spec.file, SidecarFile) else ClipTagger(spec, spec.file)


class SidecarTagger:
    """Reads the tags that came with an image; a word that the taxonomy does not know is no tag."""

    def __init__(self, spec: TaggerSpec, file: SidecarFile) -> None:
        self._file, self._spec = file, spec
        self._paths = {node.name: node.path for node in spec.taxonomy.tree} | {path: path for path in spec.taxonomy.tree.nodes}

    def prepare(self, image: Image, source_meta: str | None) -> Any:
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

    def _known(self, words: Sequence[Any]) -> list[str]:
        named = (str(word).strip() for word in words)
        found = (self._paths.get(self._file.names.get(word, "_".join(word.lower().split()))) for word in named)
        return list(dict.fromkeys(path for path in found if path))


class ClipTagger:
    """An open_clip model with the taxonomy's text embeddings; lives in a worker."""

    def __init__(self, spec: TaggerSpec, file: ClipFile) -> None:
        import torch

        self._spec, self._file = spec, file
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model, self._transform, tokenizer = _open_model(spec, file)
        self._model.eval().to(self._device)
        self._paths = list(spec.taxonomy.tree.nodes)
        self._texts = torch.from_numpy(self._text_embeddings(tokenizer)).to(self._device)
        self._thresholds = np.array([threshold(file, path) for path in self._paths], dtype=np.float32)

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The model's input for one image: a (3, height, width) tensor."""
        return self._transform(image)

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """Embeddings and tags of a batch."""
        embeddings = self.embed(inputs)
        return [Tagged(self._chosen(row), embedding) for row, embedding in zip(self.probabilities(embeddings), embeddings, strict=True)]

    def embed(self, inputs: Sequence[Any]) -> Floats:
        """Unit-length embeddings of prepared images: (images, width)."""
        with self._torch.inference_mode():
            batch = self._torch.stack(list(inputs)).to(self._device)
            found: Floats = self._model.encode_image(batch, normalize=True).float().cpu().numpy()
            return found

    def probabilities(self, embeddings: Floats) -> Floats:
        """The probability of every node of the taxonomy: (images, nodes)."""
        with self._torch.inference_mode():
            logits = self._model.logit_scale.exp() * (self._torch.from_numpy(embeddings).to(self._device) @ self._texts.T)
            bias = getattr(self._model, "logit_bias", None)
            if bias is not None:
                found: Floats = self._torch.sigmoid(logits + bias).cpu().numpy()
                return found
        return _among_siblings(logits.cpu().numpy(), self._spec.taxonomy)

    def _chosen(self, row: Floats) -> list[dict[str, Any]]:
        sure = {self._paths[index]: float(row[index]) for index in np.flatnonzero(row >= self._thresholds)}
        surest = sorted(sure, key=lambda path: (-sure[path], path))[: self._file.most]
        return [{"path": path, "score": sure[path], "tagger": self._spec.name} for path in surest]

    def _text_embeddings(self, tokenizer: Any) -> Floats:
        """(nodes, width): the mean of each node's phrasings, unit length; kept on disk by what they are made of."""
        phrasings = [self._spec.taxonomy.phrasings[path] for path in self._paths]
        key = hashlib.sha256(json.dumps([self._file.model, self._file.pretrained, phrasings]).encode())
        if self._spec.folder:
            key.update(folder_digest(Path(self._spec.folder)).encode())
        cached = _cache_folder() / f"{key.hexdigest()[:32]}.npy"
        with suppress(OSError, ValueError, EOFError):  # none yet, or one that a full disk cut short
            kept: Floats = np.load(cached, allow_pickle=False)
            return kept
        flat = [text for texts in phrasings for text in texts]
        parts = []
        with self._torch.inference_mode():
            for start in range(0, len(flat), TEXTS_AT_ONCE):
                tokens = tokenizer(flat[start : start + TEXTS_AT_ONCE]).to(self._device)
                parts.append(self._model.encode_text(tokens, normalize=True).float().cpu().numpy())
        owner = np.repeat(np.arange(len(phrasings)), [len(texts) for texts in phrasings])
        means = np.zeros((len(phrasings), parts[0].shape[1]), dtype=np.float32)
        np.add.at(means, owner, np.concatenate(parts))
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        _keep(cached, means)
        return means


def threshold(file: ClipFile, path: str) -> float:
    """The threshold of a node."""
    found = [value for pattern, value in file.thresholds.items() if matches(pattern, path)]
    return found[-1] if found else file.threshold


def _among_siblings(logits: Floats, taxonomy_: Taxonomy) -> Floats:
    """Softmax among siblings, times the parent's probability, from the roots down."""
    place = {path: index for index, path in enumerate(taxonomy_.tree.nodes)}
    found = np.ones_like(logits)
    groups: dict[str, list[int]] = {}
    for node in taxonomy_.tree:
        groups.setdefault(node.parent, []).append(place[node.path])
    for parent, members in groups.items():
        shares = np.exp(logits[:, members] - logits[:, members].max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        found[:, members] = shares * (found[:, [place[parent]]] if parent else 1.0)
    return found


def _open_model(spec: TaggerSpec, file: ClipFile) -> tuple[Any, Any, Any]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import open_clip

    name = f"local-dir:{spec.folder}" if spec.folder else file.model
    try:
        # Without `require_pretrained` open_clip takes random weights for those that it does not find.
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=file.pretrained, require_pretrained=True)
        return model, transform, open_clip.get_tokenizer(name)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelUnavailable(f"tagger '{spec.name}': open_clip does not load {file.model}: {reason}") from error


def _cache_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "synthgen" / "text-embeddings"


def _keep(path: Path, values: Floats) -> None:
    """For the next worker; in a container without a home that can be written to, each works them out."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, values)
        temporary.replace(path)
