"""open_clip over a taxonomy: tags found zero-shot, and an embedding of each image.

Comes in: decoded images. Goes out: tags with probabilities, surest first, and unit-length embeddings. Every node of the taxonomy is
a bundle of phrasings whose text embeddings are averaged. A model trained with a sigmoid loss (SigLIP, arXiv 2303.15343) gives
each node a probability of its own; a contrastive one (CLIP) compares siblings, so a node's probability is its share among
them times its parent's. A node at or above its threshold is a tag and implies its ancestors; where no leaf is sure enough its
parent stands for it, and an image may have no tag at all. Tags are made of embeddings as they are stored, so that other thresholds or
texts find from a stored one what they would find from the image.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from synthgen.config.taxonomy import Taxonomy
from synthgen.errors import ModelUnavailable
from synthgen.taggers.protocol import Floats, Tagged
from synthgen.taggers.spec import ClipTaggerFile, TaggerSpec, threshold

TEXTS_AT_ONCE = 256


class ClipTagger:
    """An open_clip model with the taxonomy's text embeddings; lives in a worker."""

    def __init__(self, spec: TaggerSpec, file: ClipTaggerFile) -> None:
        import torch

        self._spec, self._file = spec, file
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model, self._transform, tokenizer = _open_model(spec, file)
        self._model.eval().to(self._device)
        self._paths = list(spec.taxonomy.tree.nodes)
        self._texts = self._text_embeddings(tokenizer)
        self._scale = float(self._model.logit_scale.detach().exp())
        bias = getattr(self._model, "logit_bias", None)
        self._bias = None if bias is None else float(bias.detach())
        self._thresholds = np.array([threshold(file, path) for path in self._paths], dtype=np.float32)

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The model's input for one image: a (3, height, width) tensor."""
        return self._transform(image)

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """Embeddings and tags of a batch."""
        return self.tags_of(self.embed(inputs))

    def tags_of(self, embeddings: Floats) -> list[Tagged]:
        """Tags of images by their embeddings alone, new ones or stored ones: (images, width)."""
        return [
            Tagged(self._chosen(row), embedding)
            for row, embedding in zip(self.probabilities(embeddings), embeddings, strict=True)
        ]

    def embed(self, inputs: Sequence[Any]) -> Floats:
        """Unit-length embeddings of prepared images, rounded as they are stored: (images, width)."""
        with self._torch.inference_mode():
            batch = self._torch.stack(list(inputs)).to(self._device)
            found: Floats = self._model.encode_image(batch, normalize=True).half().float().cpu().numpy()
            return found

    def probabilities(self, embeddings: Floats) -> Floats:
        """The probability of every node of the taxonomy: (images, nodes)."""
        # In double precision and here, so that neither the size of a batch nor a device shows in what is rounded in the end.
        logits = self._scale * (embeddings.astype(np.float64) @ self._texts.T.astype(np.float64))
        if self._bias is None:
            return _among_siblings(logits, self._spec.taxonomy).astype(np.float32)
        found: Floats = self._torch.sigmoid(self._torch.from_numpy(logits + self._bias)).float().numpy()
        return found

    def close(self) -> None:
        """Gives the model's memory back to its device, for what the process loads next."""
        self._model = None
        self._torch.cuda.empty_cache()  # without a GPU it does nothing

    def _chosen(self, row: Floats) -> list[dict[str, Any]]:
        sure = {self._paths[index]: float(row[index]) for index in np.flatnonzero(row >= self._thresholds)}
        surest = sorted(sure, key=lambda path: (-sure[path], path))[: self._file.most]
        return [{"path": path, "score": sure[path], "tagger": self._spec.name} for path in surest]

    def _text_embeddings(self, tokenizer: Any) -> Floats:
        """(nodes, width): the mean of each node's phrasings, unit length; kept on disk by what they are made of."""
        phrasings = [self._spec.taxonomy.phrasings[path] for path in self._paths]
        key = hashlib.sha256(json.dumps([self._file.model, self._file.pretrained, phrasings]).encode())
        key.update(self._spec.weights.encode())
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


def _among_siblings(logits: NDArray[np.float64], taxonomy_: Taxonomy) -> NDArray[np.float64]:
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


def _open_model(spec: TaggerSpec, file: ClipTaggerFile) -> tuple[Any, Any, Any]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import open_clip

    name = f"local-dir:{spec.folder}" if spec.folder else file.model
    try:
        # Without `require_pretrained` open_clip takes random weights for those that it does not find.
        model, _, transform = open_clip.create_model_and_transforms(
            name, pretrained=file.pretrained, require_pretrained=True, **_as_trained(name, file.pretrained or "")
        )
        return model, transform, open_clip.get_tokenizer(name)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelUnavailable(f"tagger '{spec.name}': open_clip does not load {file.model}: {reason}") from error


def _as_trained(name: str, pretrained: str) -> dict[str, Any]:
    """What open_clip knows of how weights were trained and does not go by: the activation of weights that it has a name for, and
    how images are prepared for weights in a file, which can be told where it prepares them alike for all that it has of a model."""
    import open_clip

    if named := open_clip.get_pretrained_cfg(name, pretrained):
        return {"force_quick_gelu": named.get("quick_gelu", False)}
    if name not in open_clip.list_models() or not Path(pretrained).is_file():
        return {}
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    looks = [{f"image_{key}": one[key] for key in ("mean", "std", "interpolation", "resize_mode")} for one in known]
    if not looks or any(look != looks[0] for look in looks):
        ways = "in several ways" if looks else "in no way that it knows"
        raise ValueError(
            f"the file {pretrained} does not say how images are prepared, and for this model open_clip does so {ways}; "
            "put it into a folder with an open_clip_config.json, and name the folder as model"
        )
    return looks[0]


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
