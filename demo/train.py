"""THE recipe: one command from nothing to the two models that are shipped, and the table of how good they are.

In: minutes and a seed. Out: `models/nano-vlm` and `models/nano-clip`. Why this way: three phases, each a file that reads alone. First the
vision tower learns to see from dense labels (`vision.py`), then the language model to ask and answer (`train_vlm.py`), then
the CLIP to tag (`train_clip.py`). Every phase saves itself every few minutes and counts the minutes it has used, so the same
command after an interruption goes on where it was, and with more minutes it goes on further.

    python demo/train.py [--minutes 180] [--out runs/nano] [--models demo/models] [--seed 1000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SHARES = {"vision": 0.1, "vlm": 0.83, "clip": 0.07}  # of the minutes


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of one thread: see team.py
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=180, help="in all; a later call with more minutes goes on")
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="checkpoints")
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--seed", type=int, default=1000, help="1000 or above: below are the held-out seeds")
    args = parser.parse_args()
    if args.seed < 1000:
        parser.error("a seed below 1000 may be one of the held-out seeds")
    import export
    import train_clip
    import train_vlm
    import vision

    start = time.monotonic()
    vision.learn(args.out, args.minutes * SHARES["vision"], args.seed)
    train_vlm.learn(args.out, args.minutes * SHARES["vlm"], args.seed + 1)
    export.export(args.out, args.models)
    train_clip.learn(args.out, args.models, args.minutes * SHARES["clip"], args.seed + 2)
    print(f"trained in {(time.monotonic() - start) / 60:.0f} minutes", flush=True)
    subprocess.run([sys.executable, str(HERE / "evaluate.py"), "--models", str(args.models)], check=True)


if __name__ == "__main__":
    main()
