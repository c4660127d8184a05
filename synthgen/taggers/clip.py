"""Zero-shot tagging with open_clip, which also gives each image its embedding.

The texts of a taxonomy node are embedded and averaged; the likeness of the image to that mean is the score of its
texts. A model trained with a sigmoid loss (SigLIP, arXiv 2303.15343) gives each an independent probability. A
contrastive model (CLIP, arXiv 2103.00020) compares siblings: a node's probability is its softmax share among them,
times its parent's probability. A group is scored from what is below it (tree_scores.py). A node at or above its
threshold is a tag. Where no leaf is sure enough its parent may be, and an image may have no tag at all.

Tags are computed from embeddings rounded as they are stored. So after an edit of thresholds or texts, the stored
embeddings give the same tags as the images would.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from PIL.Image import Image
from pydantic import Field

from synthgen.config import library
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Taxonomy, Tree, matches
from synthgen.engines.hub import Download
from synthgen.engines.kernel_notes import silence_kernel_notes
from synthgen.engines.revision import folder_digest
from synthgen.errors import ModelUnavailable, UserMistake, one_line
from synthgen.taggers.download import download_fault
from synthgen.taggers.protocol import Floats, Tagged
from synthgen.taggers.spec import Resources, TaggerFile, TaggerSpec, WorksFrom
from synthgen.taggers.tree_scores import Limits, TreeScores

TEXT_BATCH = 256
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # weights without a name of their own
SCORING = "best below, gated"  # part of the fingerprint; to be changed with the arithmetic of scores and tags
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")  # that open_clip looks for in a folder

Probability = Annotated[float, Field(gt=0, le=1)]


class ClipTaggerFile(TaggerFile):
    """taggers/NAME.yaml with `engine: open_clip`."""

    engine: Literal["open_clip"]
    model: str  # an open_clip name, hf-hub:organisation/name, or a folder with open_clip_config.json
    pretrained: str | None = None  # open_clip's name for the weights, or a file of them; not with a folder
    threshold: Probability = 0.5
    thresholds: dict[str, Probability] = Field(default_factory=dict)  # tag pattern -> threshold; the last match counts
    most: int = Field(default=16, gt=0)  # tags per image that no other tag implies, the surest
    most_a_parent: int | None = Field(default=None, gt=0)  # leaves of one parent
    least: int = Field(default=0, ge=0)  # leaves per image, of which some may be below their thresholds
    least_share: Probability = 0.1  # of its threshold and of the best leaf, that such a leaf must reach
    gate: float = Field(default=0.001, ge=0, lt=1)  # share of the best root's text below which a root is closed

    works_from: ClassVar[WorksFrom] = "embedding"

    def open(self, spec: TaggerSpec) -> "ClipTagger":
        """Load the model and embed the taxonomy's texts."""
        return ClipTagger(spec, self)

    def settings(self) -> dict[str, Any]:
        """Return the settings, and the version of the arithmetic."""
        return {**super().settings(), "scoring": SCORING}

    def read_taxonomy(self, taxonomy: Taxonomy) -> dict[str, list[str]]:
        """Return the texts of each node; those that are not compared have none."""
        return {
            path: list(taxonomy.phrasings[path]) if path in taxonomy.compared else [] for path in taxonomy.tree.nodes
        }

    @property
    def limits(self) -> Limits:
        """The rules by which scores become tags."""
        return Limits(self.most, self.most_a_parent, self.least, self.least_share)

    def key_order(self) -> list[str]:
        """Return the patterns in the order of the file, because the last one that matches counts."""
        return list(self.thresholds)

    def model_digest(self, spec: TaggerSpec) -> str:
        """Return the digest of the model's folder, or of a `pretrained` file; empty for a model of the hub."""
        local = spec.folder or spec.weights
        return folder_digest(Path(local)) if local else ""

    def embedding_model(self, spec: TaggerSpec) -> list[str]:
        """Return the digest of a local folder; else the names of model and weights, and a weights file's digest."""
        digest = spec.model_digest
        if spec.folder:
            return [digest]
        return [self.model, self.pretrained or "", *([digest] if digest else [])]

    def resources(self) -> Resources:
        """Return one CPU and a share of a GPU."""
        return Resources(gpus=None)

    def local_model(self, home: Path) -> Path | None:
        """Return the model's folder: relative to `home`, or to the shipped library."""
        candidates = (home / self.model, library.shipped_folder() / self.model)
        return next((path.resolve() for path in candidates if path.is_dir()), None)

    def local_weights(self, home: Path) -> Path | None:
        """Return the file of `pretrained`, unless that is open_clip's name for the weights."""
        path = home / self.pretrained if self.pretrained else None
        return path.resolve() if path and path.is_file() else None

    def download(self) -> Download | None:
        """Return what open_clip downloads for the names of model and weights; None if it knows of nothing."""
        silence_kernel_notes()
        import open_clip

        if self.model.startswith("hf-hub:"):
            return Download(self.model.removeprefix("hf-hub:"), HUB_FILES)
        known = open_clip.get_pretrained_cfg(self.model, self.pretrained or "")
        if place := known.get("hf_hub"):
            model, _, file = place.rpartition("/")
            return Download(model, (file, f"{file.rpartition('.')[0]}.safetensors") if file else HUB_FILES)
        return Download(known["url"]) if known.get("url") else None

    def model_fault(self, folder: Path | None) -> str | None:
        """Return why open_clip cannot load the model, as far as its name and files show."""
        if folder:
            if not (folder / "open_clip_config.json").is_file():
                return f"model {self.model}: is a folder without open_clip_config.json"
            if not any(path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir()):
                return f"model {self.model}: holds no weights (*{', *'.join(WEIGHT_SUFFIXES)})"
            return None
        if self.model.startswith("hf-hub:"):
            return None
        if "/" in self.model:
            return f"model {self.model}: no such folder"
        if not self.pretrained:
            return f"model {self.model}: pretrained is missing; without weights the tags would be random"
        return None

    @classmethod
    def unknown_tags(cls, document: Document, tree: Tree) -> list[tuple[KeyPath, str]]:
        """Return the patterns in `thresholds` that match no node."""
        patterns = document.names_at(("thresholds",)).items()
        return [
            (place, pattern) for place, pattern in patterns if not any(matches(pattern, path) for path in tree.nodes)
        ]

    def threshold_of(self, path: str) -> float:
        """Return the threshold of a node."""
        limits = [limit for pattern, limit in self.thresholds.items() if matches(pattern, path)]
        return limits[-1] if limits else self.threshold


class ClipTagger:
    """An open_clip model with the embedded texts of a taxonomy."""

    def __init__(self, spec: TaggerSpec, file: ClipTaggerFile) -> None:
        import torch

        self._spec, self._file = spec, file
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model, self._transform, tokenizer = _open_model(spec, file)
        self._model.eval().to(self._device)
        self._nodes = TreeScores(spec.taxonomy.tree)
        self._paths = self._nodes.paths
        self._has_text = np.array([path in spec.taxonomy.compared for path in self._paths], dtype=bool)
        self._texts = self._text_embeddings(tokenizer)  # (nodes, width) float32
        self._scale = float(self._model.logit_scale.detach().exp())
        bias = getattr(self._model, "logit_bias", None)
        self._bias = None if bias is None else float(bias.detach())  # only models with a sigmoid loss have one
        self._thresholds = np.array([file.threshold_of(path) for path in self._paths], dtype=np.float32)

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """Return the model's input for one image: a (3, height, width) float32 tensor."""
        return self._transform(image)

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """Return the embedding and tags of each prepared image."""
        return self.tag_embeddings(self.embed(inputs))

    def tag_embeddings(self, embeddings: Floats) -> list[Tagged]:
        """Return the tags of images, given their new or stored embeddings: (images, width) float32."""
        rows = zip(self.probabilities(embeddings), embeddings, strict=True)
        return [Tagged(self._select(probabilities), embedding) for probabilities, embedding in rows]

    def embed(self, inputs: Sequence[Any]) -> Floats:
        """Return the embeddings of prepared images: (images, width) float32, unit length, rounded to half precision."""
        with self._torch.inference_mode():
            batch = self._torch.stack(list(inputs)).to(self._device)
            embeddings: Floats = self._model.encode_image(batch, normalize=True).half().float().cpu().numpy()
            return embeddings

    def probabilities(self, embeddings: Floats) -> Floats:
        """Return the probability of every node, given (images, width) float32: (images, nodes) float32."""
        # In double precision on the CPU, so that the result depends neither on the batch size nor on the device.
        logits = self._scale * (embeddings.astype(np.float64) @ self._texts.T.astype(np.float64))
        if self._bias is None:
            return self._nodes.among_siblings(logits, self._has_text, self._file.gate).astype(np.float32)
        return self._nodes.independent(logits + self._bias, self._has_text, self._file.gate).astype(np.float32)

    def close(self) -> None:
        """Free the model's memory on its device for the next model of this process."""
        self._model = None
        self._torch.cuda.empty_cache()  # does nothing without a GPU

    def _select(self, probabilities: Floats) -> list[dict[str, Any]]:
        """Return the tags of one image, surest first, given the (nodes,) float32 of one image."""
        selected = self._nodes.select(probabilities, self._thresholds, self._file.limits)
        return [
            {"path": self._paths[index], "score": float(probabilities[index]), "tagger": self._spec.name}
            for index in selected
        ]

    def _text_embeddings(self, tokenizer: Any) -> Floats:
        """Return the mean embedding of each node's texts: (nodes, width) float32, cached on disk.

        They have unit length; a node without texts has zeros.
        """
        phrasings = list(self._file.read_taxonomy(self._spec.taxonomy).values())
        key = hashlib.sha256(json.dumps([self._file.model, self._file.pretrained, phrasings]).encode())
        key.update(self._spec.model_digest.encode())
        cached = _cache_folder() / f"{key.hexdigest()[:32]}.npy"
        with suppress(OSError, ValueError, EOFError):  # no such file, or one that a full disk cut short
            embeddings: Floats = np.load(cached, allow_pickle=False)
            return embeddings
        means = self._embed_texts(tokenizer, phrasings)
        _write_cache(cached, means)
        return means

    def _embed_texts(self, tokenizer: Any, phrasings: Sequence[Sequence[str]]) -> Floats:
        """Embed all texts and average those of each node: (nodes, width) float32, of unit length or zeros."""
        texts = [text for of_node in phrasings for text in of_node]
        batches = []
        with self._torch.inference_mode():
            for start in range(0, len(texts), TEXT_BATCH):
                tokens = tokenizer(texts[start : start + TEXT_BATCH]).to(self._device)
                batches.append(self._model.encode_text(tokens, normalize=True).float().cpu().numpy())
        node_of_text = np.repeat(np.arange(len(phrasings)), [len(of_node) for of_node in phrasings])
        means = np.zeros((len(phrasings), batches[0].shape[1]), dtype=np.float32)
        np.add.at(means, node_of_text, np.concatenate(batches))
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        means /= np.where(lengths == 0, 1.0, lengths)
        return means


def _open_model(spec: TaggerSpec, file: ClipTaggerFile) -> tuple[Any, Any, Any]:
    """Load the model.

    Returns:
        The model, the transform of an image to a tensor, and the tokenizer.

    Raises:
        ModelUnavailable: If open_clip does not load it.
        UserMistake: If its weights are not here and cannot be downloaded.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    silence_kernel_notes()
    import open_clip

    if fault := download_fault(spec):  # asked first: the hub's client would tell of each of its attempts
        raise UserMistake(fault)
    name = f"local-dir:{spec.folder}" if spec.folder else file.model
    try:
        is_listed = open_clip.get_pretrained_cfg(name, file.pretrained or "")
        weights = file.pretrained if is_listed or not spec.weights else spec.weights
        options = _training_options(name, file.pretrained or "", is_file=spec.weights is not None)
        # Without `require_pretrained` open_clip replaces weights that it does not find by random ones.
        with _quiet_root():
            model, _, transform = open_clip.create_model_and_transforms(
                name, pretrained=weights, require_pretrained=True, **options
            )
        return model, transform, open_clip.get_tokenizer(name)
    except Exception as error:
        reason = one_line(str(error).strip() or error, 500)
        raise ModelUnavailable(f"tagger '{spec.name}': open_clip does not load {file.model}: {reason}") from error


@contextmanager
def _quiet_root() -> Iterator[None]:
    """Keep what open_clip logs without a logger of its own off the terminal: its errors say the same again."""

    def drop(_: logging.LogRecord) -> bool:
        return False

    root = logging.getLogger()
    root.addFilter(drop)
    root.addHandler(nothing := logging.NullHandler())  # without a handler, `logging.error` would add one
    try:
        yield
    finally:
        root.removeHandler(nothing)
        root.removeFilter(drop)


def _training_options(name: str, pretrained: str, is_file: bool) -> dict[str, Any]:
    """Return the `create_model` options that open_clip knows from its list of weights but does not apply itself.

    For a named pretrained tag that is `force_quick_gelu`. For a weights file it is the image mean, standard deviation,
    interpolation and resize mode, if all known tags of the architecture agree on them.

    Raises:
        ValueError: If the known tags of the architecture of a weights file do not agree, or there are none.
    """
    import open_clip

    if listed := open_clip.get_pretrained_cfg(name, pretrained):
        return {"force_quick_gelu": listed.get("quick_gelu", False)}
    if name not in open_clip.list_models() or not is_file:
        return {}
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    keys = ("mean", "std", "interpolation", "resize_mode")
    options = [{f"image_{key}": config[key] for key in keys} for config in known]
    if not options or any(other != options[0] for other in options):
        finding = "prepares them in several ways" if options else "lists no weights that would show it"
        raise ValueError(
            f"the file {pretrained} does not say how images are prepared, and for this model open_clip {finding}; "
            "put the file into a folder with an open_clip_config.json, and name the folder as model"
        )
    return options[0]


def _cache_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "synthgen" / "text-embeddings"


def _write_cache(path: Path, embeddings: Floats) -> None:
    """Write embeddings for the next worker, if the home folder is writable; in some containers it is not."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, embeddings)
        temporary.replace(path)
