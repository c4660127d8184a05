"""THE recipe: one command from nothing to the two models that are shipped, and the table of how good they are.

In: a seed, and how many times the recipe's pictures. Out: `models/nano-vlm` and `models/nano-clip`. Why this way: three phases,
each a file that reads alone. First the vision tower learns to see from dense labels (`train_vision.py`), then the language model to
ask and answer (`train_vlm.py`), then the CLIP to tag (`train_clip.py`). Every phase saves itself every few minutes and counts
the pictures it has seen, not the time, so that what comes out does not depend on how busy the machine was; the same command
after an interruption goes on where it was.

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
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--times", type=float, default=1, help="the recipe's pictures; 0.02 for a try, 10 where there is a GPU"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="checkpoints")
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--seed", type=int, default=1000, help="1000 or above: below are the held-out seeds")
    args = parser.parse_args()
    if args.seed < 1000:
        parser.error("a seed below 1000 may be one of the held-out seeds")
    from demo import export, train_clip, train_vision, train_vlm

    start = time.monotonic()
    train_vision.learn(args.out, int(args.times * train_vision.PICTURES), args.seed)
    train_vlm.learn(args.out, int(args.times * train_vlm.PICTURES), args.seed + 1)
    export.export(args.out, args.models)
    train_clip.learn(args.out, args.models, int(args.times * train_clip.PICTURES), args.seed + 2)
    print(f"trained in {(time.monotonic() - start) / 60:.0f} minutes", flush=True)
    subprocess.run([sys.executable, "-m", "demo.evaluate", "--models", str(args.models)], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
