"""The engine of a distilled judge: it serves the calls of one score, many at a time."""

import asyncio
import time
from pathlib import Path

import numpy as np

from synthgen.config.engine import EngineConfig
from synthgen.engines.distilled.embedder import Embedder, Floats
from synthgen.engines.distilled.features import features_of
from synthgen.engines.distilled.head import Head
from synthgen.engines.distilled.model import DistilledModel, load
from synthgen.engines.protocol import EngineInfo, ModelName, Reply, Request
from synthgen.engines.revision import folder_digest
from synthgen.errors import Failure, ModelUnavailable

AT_ONCE = 64  # calls in a batch
WAIT_SECONDS = 0.01  # for a batch to fill
KEPT_IMAGES = 4096  # embeddings
WHY_UNSURE = "unsure: the members of the small judge disagree"
UNSURE = "unsure"  # the reply where the members disagree; then the labels have none of the probability


async def check_distilled(name: ModelName, settings: EngineConfig) -> None:
    """Raise ModelUnavailable if there is no such judge, or its embedder changed; nothing heavy is loaded."""
    model, _ = load(Path(name.model))
    _check_embedder(name, model)


def no_options(settings: EngineConfig) -> str | None:
    """Return that a distilled judge takes no options, if it is given some."""
    return f"a distilled judge takes no options, and has {', '.join(settings.options)}" if settings.options else None


def _check_embedder(name: ModelName, model: DistilledModel) -> None:
    if model.digest and (not Path(model.embedder).is_dir() or folder_digest(Path(model.embedder)) != model.digest):
        raise ModelUnavailable(f"{name.model}: its embedder {model.embedder} has other files now; distill again")


Call = tuple[Request, "asyncio.Future[Reply]"]


class DistilledEngine:
    """A distilled judge at work."""

    def __init__(self, name: ModelName, model: DistilledModel, head: Head, embedder: Embedder) -> None:
        self._model, self._head, self._embedder = model, head, embedder
        self._images: dict[str, Floats] = {}
        self._waiting: list[Call] = []
        self._timer: asyncio.Task[None] | None = None
        self._working = asyncio.Lock()
        self.facts = EngineInfo(name.model, name.revision, frozenset({"labels"}), None, "distilled 1")

    @classmethod
    async def start(cls, name: ModelName, settings: EngineConfig) -> "DistilledEngine":
        """Load the judge and its embedder.

        Raises:
            ModelUnavailable: One of them cannot be loaded, or the embedder's files changed since.
        """
        model, head = load(Path(name.model))
        _check_embedder(name, model)
        embedder = await asyncio.to_thread(Embedder, model.embedder, model.pretrained)
        return cls(name, model, head, embedder)

    async def generate(self, request: Request) -> Reply:
        """Return the probabilities of the labels, or "unsure" with none for them."""
        if request.labels != self._model.labels or request.image is None:
            why = f"it only grades '{self._model.score}' with the labels {', '.join(self._model.labels)}"
            return Reply.failed(Failure("call_failed", f"a distilled judge cannot do that: {why}"))
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, reply))
        if len(self._waiting) >= AT_ONCE:
            await self._flush()
        elif self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._flush_soon())
        return await reply

    async def close(self) -> None:
        """Forget the images."""
        self._images.clear()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(WAIT_SECONDS)
        await self._flush()

    async def _flush(self) -> None:
        async with self._working:
            calls, self._waiting = self._waiting, []
            if not calls:
                return
            started = time.perf_counter()
            try:
                grades, spreads = await asyncio.to_thread(self._grade, [request for request, _ in calls])
            except Exception as error:  # of a library; the calls fail, the engine lives
                for _, reply in calls:
                    reply.set_result(Reply.failed(Failure("call_failed", f"{type(error).__name__}: {error}")))
                return
            seconds = (time.perf_counter() - started) / len(calls)
            for (_, reply), grade, spread in zip(calls, grades, spreads, strict=True):
                reply.set_result(self._reply(float(grade), float(spread), seconds))

    def _grade(self, requests: list[Request]) -> tuple[Floats, Floats]:
        """Return grades and spreads of calls, each (calls,) float32; an image is embedded once."""
        keys = [request.image_key or f"call {number}" for number, request in enumerate(requests)]
        kept = self._images if len(self._images) < KEPT_IMAGES else {}
        kept = {key: value for key, value in kept.items() if not key.startswith("call ")}
        new = {
            key: request.image
            for key, request in zip(keys, requests, strict=True)
            if request.image is not None and key not in kept
        }
        embedded = dict(zip(new, self._embedder.images(list(new.values())), strict=True)) if new else {}
        self._images = kept | embedded
        texts = [request.text for request in requests]
        images = np.stack([self._images[key] for key in keys])
        return self._head.predict(features_of(images, self._embedder.texts(texts), texts))

    def _reply(self, grade: float, spread: float, seconds: float) -> Reply:
        """Return the labels whose expected place is the grade."""
        if spread > self._head.sure:
            nothing = dict.fromkeys(self._model.labels, 0.0)
            return Reply(UNSURE, detail=WHY_UNSURE, labels=nothing, output_tokens=1, seconds=seconds)
        place = grade * (len(self._model.labels) - 1)
        below = min(int(place), len(self._model.labels) - 2)
        labels = dict.fromkeys(self._model.labels, 0.0)
        labels[self._model.labels[below]] = 1.0 - (place - below)
        labels[self._model.labels[below + 1]] = place - below
        likeliest = max(labels, key=lambda label: labels[label])
        return Reply(likeliest, labels=labels, output_tokens=1, seconds=seconds)
