"""The recipe: one command from nothing to the two committed models, and the tables of how good they are.

Three phases, each a file that reads alone: the vision tower learns to see (`train_vision.py`), the language model to
ask and answer (`train_vlm.py`), the CLIP to tag (`train_clip.py`). A phase ends after a number of pictures, not after a
time, so the result does not depend on how busy the machine was. Every phase saves itself; the same command after an
interruption goes on.

    python -m demo.train [--times 1] [--out runs/nano] [--models demo/models] [--seed 1000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of one thread: see distributed.py
    parser = argparse.ArgumentParser(description="Train both nano models from nothing, and evaluate them.")
    parser.add_argument("--times", type=float, default=1, help="the recipe's pictures; 0.02 for a try, 10 on a GPU")
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the checkpoints")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the exported models")
    parser.add_argument("--seed", type=int, default=1000, help="1000 or above: below are the held-out seeds")
    args = parser.parse_args()
    if args.seed < 1000:
        parser.error("a seed below 1000 may be one of the held-out seeds")
    from demo import export, train_clip, train_vision, train_vlm  # torch starts its threads by OMP_NUM_THREADS

    start = time.monotonic()
    train_vision.train(args.out, int(args.times * train_vision.PICTURES), args.seed)
    train_vlm.train(args.out, train_vlm.Course(int(args.times * train_vlm.PICTURES), args.seed + 1))
    export.export(args.out, args.models)
    train_clip.train(args.out, args.models, int(args.times * train_clip.PICTURES), args.seed + 2)
    print(f"trained in {(time.monotonic() - start) / 60:.0f} minutes", flush=True)
    subprocess.run([sys.executable, "-m", "demo.evaluate", "--models", str(args.models)], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
