"""The student of the demo, `models/nano-student`: a model that can see, and was taught little more than captions.

So a vision-language model stands after the first stage of its training, before it learns from instructions. It has the
vision tower, the projector and the words of `nano-vlm`, and a smaller language model, new, which the bundled trainer
teaches what the kind of picture is, where it is, and what it shows. It was asked nothing else.

    python -m demo.make_student [--pictures 4000] [--steps 600] [--out runs/nano-student] [--models demo/models]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from transformers import LlavaOnevisionForConditionalGeneration

from demo.gold_shards import write_shards
from demo.nano_vlm import build_vlm, export_vlm, vlm_config
from demo.tokenizer import END, IMAGE, load_tokenizer
from demo.world import TRAIN_SEED
from synthgen.config.training import TrainConfig
from synthgen.train import train

HERE = Path(__file__).parent
TAUGHT = ("caption", "picture_kind", "background")
LAYERS = 4  # of the language model; nano-vlm has five
SEED = TRAIN_SEED + 500


def make_untaught(models: Path, folder: Path) -> None:
    """Write a model with the eyes and the words of nano-vlm, whose language layers know nothing."""
    tokenizer = load_tokenizer(models / "nano-vlm")
    config = vlm_config(len(tokenizer), *tokenizer.convert_tokens_to_ids([IMAGE, END]))
    config.text_config.num_hidden_layers = LAYERS
    config.text_config.layer_types = config.text_config.layer_types[:LAYERS]
    torch.manual_seed(SEED)
    model = build_vlm(config)
    teacher = LlavaOnevisionForConditionalGeneration.from_pretrained(models / "nano-vlm", dtype=torch.float32)
    known = {name: weight for name, weight in teacher.state_dict().items() if "language_model.layers." not in name}
    missing = model.load_state_dict(known, strict=False).missing_keys
    assert all("language_model.layers." in name for name in missing)
    export_vlm(model, tokenizer, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the student of the demo.")
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=600, help="of 8 pictures each")
    parser.add_argument("--out", type=Path, default=Path("runs/nano-student"), help="shards and training")
    parser.add_argument("--models", type=Path, default=HERE / "models")
    args = parser.parse_args()
    write_shards(args.out / "shards", SEED, args.pictures, TAUGHT, len(TAUGHT))
    untaught = args.out / "untaught"
    if not (untaught / "model.safetensors").exists():
        make_untaught(args.models, untaught)
    settings = TrainConfig(what="language", steps=args.steps, batch=8, learning_rate=2e-3, seed=SEED)
    print(train(str(args.out / "shards"), str(untaught), args.out / "taught", settings), flush=True)
    shutil.copytree(args.out / "taught" / "model", args.models / "nano-student", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
