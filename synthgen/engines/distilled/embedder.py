"""Frozen embeddings of images and texts by an open_clip model."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from synthgen.config.languages import UNSPACED_RANGES
from synthgen.errors import ModelUnavailable, one_line

Floats = npt.NDArray[np.float32]
WINDOW = 40  # words of a text that are embedded at once; the text towers of CLIPs read 64 to 77 tokens
AT_ONCE = 256  # windows
WORD = re.compile(rf"[{UNSPACED_RANGES}]|[^\s{UNSPACED_RANGES}]+")


class Embedder:
    """An open_clip model that embeds images and texts."""

    def __init__(self, model: str, pretrained: str | None) -> None:
        """Load the model: an open_clip name with the name of its weights, or a folder.

        Raises:
            ModelUnavailable: open_clip does not load it.
        """
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import open_clip
        import torch

        name = f"local-dir:{model}" if Path(model).is_dir() else model
        try:
            loaded, _, self._transform = open_clip.create_model_and_transforms(
                name, pretrained=None if name != model else pretrained, require_pretrained=True
            )
            self._tokenizer: Any = open_clip.get_tokenizer(name)
        except Exception as error:
            raise ModelUnavailable(f"open_clip does not load the embedder {model}: {one_line(error, 500)}") from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = loaded.eval().to(self._device)

    def images(self, images: Sequence[Image]) -> Floats:
        """Return (images, width) float32 of unit length, rounded as the tag stage stores them."""
        with self._torch.inference_mode():
            batch = self._torch.stack([self._transform(image) for image in images]).to(self._device)
            embedded: Floats = self._model.encode_image(batch, normalize=True).half().float().cpu().numpy()
            return embedded

    def texts(self, texts: Sequence[str]) -> Floats:
        """Return (texts, width) float32: of each text the mean over its windows."""
        return mean_over_windows(texts, self._windows)

    def _windows(self, windows: Sequence[str]) -> Floats:
        parts = []
        with self._torch.inference_mode():
            for start in range(0, len(windows), AT_ONCE):
                tokens = self._tokenizer(list(windows[start : start + AT_ONCE])).to(self._device)
                parts.append(self._model.encode_text(tokens, normalize=True).float().cpu().numpy())
        return np.concatenate(parts)


def mean_over_windows(texts: Sequence[str], embed: Callable[[list[str]], Floats], most: int = WINDOW) -> Floats:
    """Return (texts, width) float32: of each text the mean of what `embed` makes of its windows of `most` words."""
    windows = [windows_of(text, most) for text in texts]
    embedded = embed([window for of_text in windows for window in of_text])
    ends = np.cumsum([len(of_text) for of_text in windows])
    return np.stack([part.mean(axis=0) for part in np.split(embedded, ends[:-1])]).astype(np.float32)


def windows_of(text: str, most: int = WINDOW) -> list[str]:
    """Return a text in pieces of so many words (without spaces: characters) at most; an empty one is one piece."""
    text = " ".join(text.split())
    words = [word.span() for word in WORD.finditer(text)]
    parts = [words[start : start + most] for start in range(0, len(words), most)]
    return [text[part[0][0] : part[-1][1]] for part in parts] or [""]
