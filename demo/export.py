"""Write the averaged weights of a training run as the folder that is shipped.

python -m demo.export --out runs/nano --models demo/models
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from demo.multitask_model import Pupil
from demo.nano_vlm import export_vlm
from demo.tokenizer import tokenizer_in


def export(out: Path, models: Path) -> None:
    """From `vlm.pt` of a run to `nano-vlm`."""
    tokenizer = tokenizer_in(out / "tokenizer")
    pupil = Pupil(tokenizer)
    pupil.load_state_dict(torch.load(out / "vlm.pt", weights_only=False)["average"])
    export_vlm(pupil.vlm, tokenizer, models / "nano-vlm")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    args = parser.parse_args()
    export(args.out, args.models)
