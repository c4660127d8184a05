"""The forecast of `synth plan` for the demo's generate stage, beside the cost of the stage.

    python benchmarks/price.py [--quick]

Tags and plans demo images, measures a profile of the engine on some of them as `synth plan --profile` does, estimates
the tokens and seconds of all, then runs the stage as `synth run` does and counts every call of its engine. The ratios
are forecast over measured; 1.0 is a perfect forecast. Seconds are those between the first and the last call, without
the engine's start.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from driver import generate_with, is_quick

from synthgen import run
from synthgen.commands import plan
from synthgen.config import pipeline as pipelines
from synthgen.engines import Request, open_engine
from synthgen.engines.recorder import Recorder
from synthgen.job.job import open_job
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Job
from synthgen.stages.generate import GenerateContext, GenerateWorker
from synthgen.store import Folder, Receipt, RunFolder
from synthgen.workers import Task

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")


class CountingWorker:
    """A generating worker that adds to each receipt the tokens, calls and seconds of its engine so far."""

    def __init__(self, worker: GenerateWorker, recorder: Recorder) -> None:
        self._worker, self._recorder = worker, recorder
        self._began = 0.0

    def progress(self) -> Mapping[str, float]:
        """Return nothing to show."""
        return {}

    def drain(self) -> None:
        """Pass the notice on."""
        self._worker.drain()

    async def do(self, task: Task) -> Receipt | None:
        """Return the real worker's receipt, with the totals so far."""
        self._began = self._began or time.perf_counter()
        receipt = await self._worker.do(task)
        totals = {name: sum(getattr(reply, name) for _, reply in self._recorder.calls) for name in TOKENS}
        totals |= {"calls": len(self._recorder.calls), "us": int((time.perf_counter() - self._began) * 1e6)}
        return replace(receipt, counts={**receipt.counts, **totals}) if receipt else None


async def build(context: GenerateContext) -> CountingWorker:
    """Start the engine and warm it up."""
    recorder = Recorder(await open_engine(context.model, context.engine))
    await recorder.generate(Request("ask", "warm up", 8))
    recorder.calls.clear()
    return CountingWorker(GenerateWorker(context, recorder), recorder)


def main() -> None:
    """Make the forecast, measure, and print both."""
    images, profiled = (32, 8) if is_quick(__doc__) else (64, 16)
    with tempfile.TemporaryDirectory(prefix="synth-price-") as folder:
        job = open_job(Folder(str(Path(folder) / "out")), pipelines.load("demo", ["score={}", "select.keep={}"]))
        out = RunFolder(job.out)
        run.run(out, job, RunRequest(limit=images), run.StageRange("tag", "plan"))
        forecast = plan.forecast(out, job, plan.EstimateRequest(profile=profiled))
        measured = measure(job)
    expected = {name: getattr(forecast.total, name) for name in (*TOKENS, "seconds")}
    questions = sum(estimate.planned for estimate in forecast.types)
    print(f"{images} images, {questions} questions, {measured['calls']} calls; profile of {profiled} images")
    print(f"{'':<15} {'forecast':>10} {'measured':>10} {'ratio':>6}")
    ratios = {name: expected[name] / measured[name] for name in expected}
    for name, ratio in ratios.items():
        print(f"{name:<15} {expected[name]:>10,.1f} {measured[name]:>10,.1f} {ratio:>6.2f}")
    record = {"benchmark": "price", "images": images, "profiled": profiled, "ratio": round(ratios["seconds"], 3)}
    print(json.dumps(record | {f"ratio_{name}": round(ratio, 3) for name, ratio in ratios.items()}))


def measure(job: Job) -> dict[str, float]:
    """Run the generate stage, and return the tokens, calls and seconds of its engine."""
    last = Counter[str]()
    for receipt in generate_with(build, job):
        last.update({name: max(0, count - last[name]) for name, count in receipt.counts.items()})
    return {**{name: float(last[name]) for name in (*TOKENS, "calls")}, "seconds": last["us"] / 1e6}


if __name__ == "__main__":
    main()
