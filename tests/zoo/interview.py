"""One conversation with a family's checkpoint in a real vLLM, written down as JSON for the tests of all checks.

`python -m tests.zoo.interview FAMILY FILE`. An engine takes most of a minute to start, so it is asked everything once;
and it runs in a process of its own, so that it can be ended, and its log read, whatever it does.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from synthgen.config.engine import EngineConfig
from synthgen.config.source import ImagesConfig
from synthgen.engines import ModelName, Reply, Request
from synthgen.engines.vllm import VllmEngine
from synthgen.ingest.images import decode
from tests.fixtures.images import encoded
from tests.zoo.checkpoints import FAMILIES, checkpoint

CONTEXT = 8192  # tokens, as in pipelines/everyday.yaml
SIZES = ((32, 32), (384, 303), (640, 480), (1001, 1001), (1600, 627), (4000, 3000), (100, 2000), (2000, 100))
SEEDS = 6
LABELS = ("1", "2", "3", "4", "5")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 3}},
    "required": ["questions"],
    "additionalProperties": False,
}
QUESTION = "How many are there?"
OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": CONTEXT,
    "max_num_batched_tokens": CONTEXT,
    "max_num_seqs": 8,
}
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
HAS_GPU = torch.cuda.is_available()
GPUS = 1 if HAS_GPU else 0
if HAS_GPU:
    OPTIONS["gpu_memory_utilization"] = 0.4


def picture(size: tuple[int, int]) -> Image.Image:
    """Return an image of a size as the pipeline would hand it to the engine: decoded, and scaled by its policy."""
    gradient = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (gradient, gradient.rotate(180), Image.new("L", size, 90)))
    return decode(encoded(image, "PNG"), ImagesConfig(max_aspect=100)).image


async def interview(family: str) -> dict[str, Any]:
    """Ask an engine everything that the checks need."""
    folder = checkpoint(family)
    options = {**OPTIONS, **FAMILIES[family].options}
    settings = EngineConfig(gpus=GPUS, options=options, environment=ENVIRONMENT, call_seconds=300)
    engine = await VllmEngine.start(ModelName(str(folder), "files:zoo"), settings)
    try:
        return {
            "kv_tokens": engine.facts.kv_tokens,
            "block": engine._llm.vllm_config.cache_config.block_size,
            "sizes": await _sizes(engine),
            **await _calls(engine),
            "given": await _given(engine),
        }
    finally:
        await engine.close()


async def _sizes(engine: VllmEngine) -> list[dict[str, Any]]:
    """Return for each size the image's own, and the prompt tokens that it adds to those of its text."""
    blind = await engine.generate(Request("answer", QUESTION, 1))
    rows = []
    for number, size in enumerate(SIZES):
        image = picture(size)
        reply = await engine.generate(Request("answer", QUESTION, 1, image=image, image_key=f"size {number}"))
        added = (reply.prompt_tokens or 0) - (blind.prompt_tokens or 0)
        rows.append({"size": size, "seen": image.size, "tokens": added, "failure": reply.detail or reply.failure})
    return rows


async def _calls(engine: VllmEngine) -> dict[str, Any]:
    image = picture((640, 480))

    async def ask(text: str, **more: Any) -> dict[str, Any]:
        most = more.pop("max_tokens", 16)
        return _plain(await engine.generate(Request("answer", text, most, image=image, image_key="one", **more)))

    judge = "Is the answer right? Rate it from 1 to 5."
    return {
        "first": await ask(QUESTION),
        "second": await ask("What number is on the sign?"),
        "schema": await ask("List the questions.", max_tokens=400, schema=SCHEMA, temperature=1.0, seed=3),
        "labels": await ask(judge, labels=LABELS, max_tokens=1),
        "given_labels": {label: await ask(judge, given=label) for label in LABELS},
    }


async def _given(engine: VllmEngine) -> list[dict[str, Any]]:
    """Return replies drawn under several seeds, each with the same text given, with its image and without."""
    image = picture((384, 303))
    rows = []
    for seed in range(SEEDS):
        request = Request("answer", QUESTION, 48, image=image, image_key="two", temperature=1.0, seed=seed)
        said = await engine.generate(request)
        given = await engine.generate(Request("given", QUESTION, 1, image=image, image_key="two", given=said.text))
        blind = await engine.generate(Request("given", QUESTION, 1, given=said.text))
        rows.append({"said": _plain(said), "given": _plain(given), "blind": _plain(blind)})
    return rows


def _plain(reply: Reply) -> dict[str, Any]:
    return {**asdict(reply), "labels": dict(reply.labels)}


def main() -> None:
    """Write the interview of a family, or why there is none, into a file."""
    family, path = sys.argv[1:]
    assert family in FAMILIES
    try:
        found = asyncio.run(interview(family))
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {error}"}
    Path(path).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
