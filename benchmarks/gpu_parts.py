"""The parts of gpu.py: each runs in a process of its own and returns its figures."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from gpu import ROOT, Figures, with_root
from nvidia import sampled_memory
from PIL import Image
from real_size import TINY, fill_bucket, siglip, vlm
from replay import measure

from synthgen.config import pipeline as pipelines
from synthgen.taggers import load, open_tagger
from tests.zoo.interview import ENVIRONMENT, OPTIONS

ZOO_TINY = ["-k", "qwen2.5-vl", "tests/zoo/test_zoo.py"]


@dataclass(frozen=True)
class Setting:
    """What a part runs with.

    Attributes:
        folder: For models, images and results; it goes at the end.
        is_tiny: The smallest models instead of those of real size.
        has_gpu: There is one.
    """

    folder: Path
    is_tiny: bool
    has_gpu: bool

    def vlm(self, size: str) -> Path:
        """Return the folder of a VLM."""
        return vlm(TINY if self.is_tiny else size, self.folder)

    def bucket(self, count: int) -> Path:
        """Return a folder of so many photographs, or of 12 for tiny models."""
        count = 12 if self.is_tiny else count
        return fill_bucket(self.folder / f"photos-{count}", count)

    def engine(self, share: float = 0.85, **options: Any) -> Mapping[str, Any]:
        """Return the settings of an engine that may take a share of the GPU's memory."""
        if not self.has_gpu:
            return {"kind": "vllm", "gpus": 0, "options": {**OPTIONS, **options}, "environment": ENVIRONMENT}
        real = {"dtype": "bfloat16", "max_model_len": 8192, "gpu_memory_utilization": share}
        return {"kind": "vllm", "gpus": 1, "options": {**real, **options}, "environment": {"HF_HUB_OFFLINE": "1"}}

    def overrides(self, size: str, photos: Path, **options: Any) -> list[str]:
        """Return the settings that put a model and images into the everyday pipeline."""
        changes = {
            "source.uri": str(photos),
            "source.sidecar": ".json",
            "tag.tagger": "everyday-sidecar",
            "plan.near_duplicates": -1,  # the photographs are few, at many sizes
            "generate.model": str(self.vlm(size)),
            "generate.engine": {**self.engine(**options), "in_flight": 16 if self.is_tiny else 64},
        }
        return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changes.items()]


def zoo(setting: Setting) -> Figures:
    """Run the checks of the families of models."""
    report = setting.folder / "zoo.txt"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-rA", *(ZOO_TINY if setting.is_tiny else ["tests/zoo"])]
    environment = {**os.environ, "SYNTH_ZOO_EVERY": "1"}
    with report.open("w") as output:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False)
    lines = report.read_text().splitlines()
    failed = [line.split(" - ")[0].removeprefix("FAILED ") for line in lines if line.startswith("FAILED ")]
    return {"exit": done.returncode, "summary": lines[-1].strip("= "), "failed": failed}


def overhead(setting: Setting) -> Figures:
    """Compare the generate stage with its bare calls."""
    return {size: _overhead(setting, size) for size in (["3B"] if setting.is_tiny else ["3B", "7B"])}


def _overhead(setting: Setting, size: str) -> Figures:
    photos = setting.bucket(256)
    with sampled_memory() as used:
        figures = measure(pipelines.load("everyday", setting.overrides(size, photos)), 256, ["image"], is_spoken=True)
    bare = statistics.median(figures.replay_seconds["image"])
    return {
        "ratio": bare / figures.stage_seconds,
        "calls": figures.calls,
        "images": figures.images,
        "calls_a_second": figures.calls / figures.stage_seconds,
        "images_a_second": figures.images / figures.stage_seconds,
        "cached": figures.cached["stage_as_run"],
        "gpu_memory_mb": used.most,
        "gpu_memory_allowed_mb": round(0.85 * used.total),
    }


def order(setting: Setting) -> Figures:
    """Compare an image's calls together with stage after stage, where the caches do not hold all images."""
    count = 12 if setting.is_tiny else 256
    block, tokens, megabytes = (32 if not setting.has_gpu else 16), 3500, 6  # of an image and its calls
    options: dict[str, float] = {"num_gpu_blocks_override": max(8192, tokens * count // 4) // block}
    options["mm_processor_cache_gb"] = max(0.1, megabytes * count / 4000)
    overrides = setting.overrides("3B", setting.bucket(count), **options)
    figures = measure(pipelines.load("everyday", overrides), count, ["image", "stage"], is_spoken=True)
    together, apart = (statistics.median(figures.replay_seconds[name]) for name in ("image", "stage"))
    return {"ratio": apart / together, "cached": dict(figures.cached), "calls": figures.calls, "images": figures.images}


def tagging(setting: Setting) -> Figures:
    """Compare the tag stage with the model alone; the start of the stage is taken out by two sizes of bucket."""
    few, many = (4, 12) if setting.is_tiny else (500, 2500)
    write_tagger(setting, "real")
    seconds = {count: _tag(setting, count, "real") for count in (few, many)}
    ours = (many - few) / max(1e-9, seconds[many] - seconds[few])
    alone = _model_alone(setting)
    return {"ratio": ours / alone, "images_a_second": ours, "model_alone": alone}


def _tag(setting: Setting, count: int, tagger: str) -> float:
    """Tag so many photographs by the command; return its seconds."""
    photos = fill_bucket(setting.folder / f"tagged-{count}", count)
    command = [sys.executable, "-m", "synthgen", "run", str(photos), "--pipeline", "everyday", "--until", "tag"]
    command += ["--out", str(setting.folder / f"out-{tagger}-{count}"), "--set", f"tag.tagger={tagger}"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=setting.folder, capture_output=True, text=True, check=False, env=with_root())
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return time.perf_counter() - started


def write_tagger(setting: Setting, name: str) -> None:
    """Write a tagger with SigLIP's shape over the everyday taxonomy into the folder's `taggers`."""
    model = siglip(TINY if setting.is_tiny else "real", setting.folder)
    text = f"about: random weights\nengine: open_clip\ntaxonomy: everyday\nmodel: {model}\nthreshold: 0.05\nleast: 3\n"
    path = setting.folder / "taggers" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _model_alone(setting: Setting) -> float:
    """Return the images a second of the tagger's model on one batch that is held on the device."""
    tagger: Any = open_tagger(load("real", home=setting.folder))
    batch = [tagger.prepare(Image.new("RGB", (384, 384)), None)] * 64
    tagger.embed(batch)
    rounds = 2 if setting.is_tiny else 20
    started = time.perf_counter()
    for _ in range(rounds):
        tagger.embed(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return rounds * len(batch) / (time.perf_counter() - started)


def training(setting: Setting) -> Figures:
    """Compare a step of the trainer with bare forward and backward passes."""
    batch = "2" if setting.is_tiny else "8"
    command = [sys.executable, "benchmarks/training.py", "--quick", "--model", str(setting.vlm("3B")), "--batch", batch]
    return last_line(command)


def memory(setting: Setting) -> Figures:
    """Compare the host memory of the workers with the prediction."""
    return last_line([sys.executable, "benchmarks/host_memory.py", "--quick"])


def share(setting: Setting) -> Figures:
    """Tag with a CLIP and a VLM in one worker, each with its share of a GPU."""
    write_tagger(setting, "first")
    serve = dict(setting.engine(share=0.4))
    vlm = {
        "about": "a closer look",
        "engine": "vlm",
        "taxonomy": "everyday",
        "model": str(setting.vlm("3B")),
        "serve": serve,
        "a_level": 2,
    }
    (setting.folder / "taggers" / "second.yaml").write_text(yaml.safe_dump(vlm))
    with sampled_memory() as used:
        seconds = _tag(setting, 12, '["first", "second"]')
    return {"seconds": seconds, "gpu_memory_mb": used.most, "gpu_memory_total_mb": used.total}


PARTS: Mapping[str, Callable[[Setting], Figures]] = {
    part.__name__: part for part in (zoo, overhead, order, tagging, training, memory, share)
}


def last_line(command: list[str]) -> Figures:
    """Run a benchmark and return its last line, which is JSON."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=with_root())
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures
