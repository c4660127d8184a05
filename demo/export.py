"""Export the averaged weights of phase two as the folder `nano-vlm`, float16, as stock transformers and vLLM load it.

python -m demo.export [--out runs/nano] [--models demo/models]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from demo.checkpoint import read_checkpoint
from demo.multitask_model import MultitaskVLM
from demo.nano_vlm import export_vlm
from demo.tokenizer import load_tokenizer


def export(out: Path, models: Path) -> None:
    """Write `models/nano-vlm` from the checkpoint `out/vlm.pt`."""
    tokenizer = load_tokenizer(out / "tokenizer")
    model = MultitaskVLM(tokenizer)
    model.load_state_dict(read_checkpoint(out / "vlm.pt")["average"])
    export_vlm(model.vlm, tokenizer, models / "nano-vlm")


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the averaged weights of phase two.")
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="folder of the checkpoints")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    args = parser.parse_args()
    export(args.out, args.models)


if __name__ == "__main__":
    main()
