"""A model that embeds texts for the comparison of their meaning: an open_clip model, or one that endpoints serve."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.config.deduplication import SemanticConfig
from synthgen.engines.distilled.embedder import Embedder, mean_over_windows
from synthgen.engines.endpoint_client import is_here
from synthgen.engines.revision import folder_digest
from synthgen.errors import ModelUnavailable, UserMistake, one_line

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
WINDOW = 200  # words that an endpoint embeds at once; sentence encoders read 512 tokens or more
AT_ONCE = 64  # windows in a call
CALLS = 4  # at once on an endpoint
TRIES, SECONDS = 3, 120.0  # of a call that fails; that it may take
LONGEST_DETAIL = 500  # characters

Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]  # texts -> (texts, width) float32


@dataclass(frozen=True)
class TextModel:
    """A model that embeds texts.

    Attributes:
        model: An open_clip name, a folder, or the name that endpoints serve it by.
        pretrained: open_clip's name of the weights, or a file of them.
        digest: Of the files, where they are local; else empty.
        urls: Of endpoints.
        key_env: The environment variable that holds their key.
    """

    model: str
    pretrained: str | None = None
    digest: str = ""
    urls: tuple[str, ...] = ()
    key_env: str = ""

    @property
    def named(self) -> list[str]:
        """What tells its embeddings from those of others: of a folder the digest, else its names."""
        if self.digest and self.pretrained is None:
            return [self.digest]
        return [self.model, self.pretrained or "", self.digest, *(["served"] if self.urls else [])]

    def open(self) -> Embed:
        """Return what embeds texts. Raises ModelUnavailable if open_clip does not load the model."""
        return ServedEmbedder(self).texts if self.urls else Embedder(self.model, self.pretrained).texts


class ServedEmbedder:
    """A model behind endpoints that serve `/embeddings` as OpenAI does (`vllm serve MODEL --runner pooling`)."""

    def __init__(self, model: TextModel) -> None:
        """Open a client for each endpoint; none is called yet."""
        key = os.environ.get(model.key_env, "").strip() or "none"
        self._model, self._clients = model, [_client(url, key) for url in model.urls]

    def texts(self, texts: Sequence[str]) -> Floats:
        """Return (texts, width) float32: of each text the mean over its windows.

        Raises:
            ModelUnavailable: An endpoint refuses a call, or answers it with something else.
        """
        return mean_over_windows(texts, self._windows, WINDOW)

    def _windows(self, windows: list[str]) -> Floats:
        calls = [windows[start : start + AT_ONCE] for start in range(0, len(windows), AT_ONCE)]
        with ThreadPoolExecutor(CALLS * len(self._clients)) as pool:
            return np.concatenate(list(pool.map(self._call, calls, itertools.cycle(self._clients))))

    def _call(self, windows: list[str], client: Any) -> Floats:
        import openai

        try:
            reply = client.embeddings.create(model=self._model.model, input=windows, encoding_format="float")
            rows = sorted(reply.data, key=lambda row: row.index)
            made = np.array([row.embedding for row in rows], np.float32)
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            raise self._unavailable(client, one_line(error, LONGEST_DETAIL)) from error
        if made.ndim != 2 or len(made) != len(windows) or not np.isfinite(made).all():
            raise self._unavailable(client, f"{len(windows)} texts came back as numbers of the shape {made.shape}")
        return made

    def _unavailable(self, client: Any, why: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"select.semantic: {client.base_url} does not embed texts with {self._model.model}: {why}"
        )


def find_text_model(place: str, settings: SemanticConfig, home: Path) -> TextModel:
    """Return the model that settings name; nothing heavy is loaded.

    Args:
        place: Of the settings, for messages.
        settings: The names.
        home: The folder that relative names start from.

    Raises:
        UserMistake: There is no such folder, or the names do not say which weights are meant.
    """
    model, pretrained = settings.model, settings.pretrained
    if settings.urls:
        return TextModel(model, urls=settings.urls, key_env=settings.key_env)
    folder = home / model
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise UserMistake(f"{place}.model: {model}: is a folder without {CONFIG}; name that of an open_clip model")
        if pretrained is not None:
            raise UserMistake(f"{place}.pretrained: {model} is a folder, which has its weights; leave pretrained out")
        return TextModel(str(folder.resolve()), digest=folder_digest(folder))
    if model.startswith(HUB):
        return TextModel(model)
    if "/" in model:
        raise UserMistake(f"{place}.model: {model}: no such folder; name one, an open_clip model or {HUB}NAME, or urls")
    if not pretrained:
        raise UserMistake(f"{place}.pretrained: is missing; without weights the embeddings of {model} would be random")
    file = home / pretrained
    return (
        TextModel(model, str(file.resolve()), folder_digest(file)) if file.is_file() else TextModel(model, pretrained)
    )


def _client(url: str, key: str) -> Any:
    import openai

    # A proxy cannot reach what only this machine can.
    http = openai.DefaultHttpxClient(trust_env=False) if is_here(url) else None
    return openai.OpenAI(base_url=url, api_key=key, max_retries=TRIES, timeout=SECONDS, http_client=http)
