"""The nano CLIP: an open_clip model that gives every tag of the drawn taxonomy a probability.

In: the vision tower of the VLM, the taxonomy file and a number of pictures. Out: a folder that
`open_clip.create_model_and_transforms("local-dir:…")` loads. Why this way: the tower already sees (open_clip's layout takes its
weights as they are, the convolution's bias folded into the positions), so only pooling, projection and the text tower are new;
the loss is SigLIP's sigmoid, but with all tags as texts and every true tag of a picture as a positive, which is just what the
tagger will ask. The head learns first, on patches averaged once, where a step costs almost nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from demo.data_loader import Feed
from demo.distributed import Place, Team, place, together
from demo.draw import draw
from demo.muon import optimizers, set_rate
from demo.nano_vlm import PATCH, WIDTH
from demo.tag_labels import phrasings, text_embeddings, truth_table
from demo.train_vision import KINDS, pixels, save
from demo.world import SIZE as SIDE
from demo.world import TRAIN_SEED, sample

CONTEXT = 20
RATE = {"cpu": 5e-4, "cuda": 1e-3}
SIZE = {"cpu": 16, "cuda": 512}  # images a step and process
PICTURES = 90_000  # of the recipe
AGAIN = 1_000_000  # the first picture of a training that goes on from exported weights
Pictures = tuple[NDArray[np.uint8], NDArray[np.bool_]]


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Words of the taxonomy as single tokens; any other text still has tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=["<|pad|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator((text for texts in phrasings().values() for text in texts * 20), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", padding_side="left", model_max_length=CONTEXT
    )


def config(vocabulary: int) -> dict[str, Any]:
    vision = {
        "image_size": SIDE, "patch_size": PATCH, "width": WIDTH, "layers": 6, "head_width": 32, "mlp_ratio": 4.0,
        "no_ln_pre": True, "pool_type": "avg", "act_kwargs": {"approximate": "tanh"},
    }  # fmt: skip
    text = {
        "context_length": CONTEXT, "vocab_size": vocabulary, "hf_tokenizer_name": "nano-clip", "width": 128, "heads": 4,
        "layers": 2, "pool_type": "last", "no_causal_mask": True,
    }  # fmt: skip
    return {
        "embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text, "init_logit_scale": math.log(40), "init_logit_bias": -6.0,
    }  # fmt: skip


def take_tower(clip: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy SigLIP weights of transformers' layout into open_clip's."""
    tower: Any = clip.visual
    with torch.no_grad():
        tower.conv1.weight.copy_(state["embeddings.patch_embedding.weight"])
        tower.positional_embedding[1:].copy_(
            state["embeddings.position_embedding.weight"] + state["embeddings.patch_embedding.bias"]
        )
        for i, block in enumerate(tower.transformer.resblocks):
            old = f"encoder.layers.{i}."
            for kind in ("weight", "bias"):
                qkv = torch.cat([state[f"{old}self_attn.{p}_proj.{kind}"] for p in "qkv"])
                getattr(block.attn, f"in_proj_{kind}").copy_(qkv)
                for new, name in (
                    (block.attn.out_proj, "self_attn.out_proj"), (block.ln_1, "layer_norm1"), (block.ln_2, "layer_norm2"),
                    (block.mlp.c_fc, "mlp.fc1"), (block.mlp.c_proj, "mlp.fc2"),
                ):  # fmt: skip
                    getattr(new, kind).copy_(state[f"{old}{name}.{kind}"])


def export_clip(clip: nn.Module, settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cfg = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": settings, "preprocess_cfg": cfg}, indent=1) + "\n"
    )
    tokenizer.save_pretrained(folder)
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in clip.state_dict().items()}
    save_file(weights, folder / "weights.tmp", metadata={"format": "pt"})
    (folder / "weights.tmp").chmod(0o644)
    (folder / "weights.tmp").replace(folder / "open_clip_model.safetensors")


Encode = Callable[[list[str]], Tensor]
TEXTS = phrasings()


def tag_loss(clip: Any, seen: Tensor, want: Tensor, encode: Encode) -> tuple[Tensor, float]:
    """Sigmoid loss of image embeddings against all tags, each in one of its phrasings by lot, and F1 at one half."""
    texts = [[ways[int(torch.randint(len(ways), ()))]] for ways in TEXTS.values()]
    words = text_embeddings(clip, encode, texts)
    logits = clip.logit_scale.exp() * seen @ words.T + clip.logit_bias
    loss = nn.functional.binary_cross_entropy_with_logits(logits, want, reduction="none").sum(-1).mean()
    said = logits > 0
    return loss, float(2 * (said * want).sum() / (said.sum() + want.sum()))


def drawn(seed: int, first: int, size: int) -> Pictures:
    scenes = [sample(seed, i, kinds=KINDS) for i in range(first, first + size)]
    return np.stack([np.asarray(draw(scene)) for scene in scenes]), truth_table(scenes, list(TEXTS))


def learn_head(clip: Any, encode: Encode, feed: Feed[Pictures], images: int = 6000, steps: int = 500) -> None:
    """Projection and text tower alone, on patches averaged once: the tower stays, so a step costs almost nothing."""
    seen, want = [], []
    with torch.no_grad():
        for batch, tags in feed:
            tower = clip.visual
            patches = tower.transformer(tower._embeds(pixels(batch)))[:, 1:]
            seen.append(nn.functional.layer_norm(patches, (WIDTH,)).mean(1))
            want.append(torch.from_numpy(tags).float())
            if sum(map(len, want)) >= images:
                break
    pooled, true = torch.cat(seen), torch.cat(want)
    for name, weight in clip.named_parameters():
        weight.requires_grad_(not name.startswith("visual.") or name.startswith(("visual.ln_post", "visual.proj")))
    tool = torch.optim.AdamW([w for w in clip.parameters() if w.requires_grad], 3e-3, weight_decay=0.01)
    for step in range(steps):
        tool.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
        rows = torch.randint(0, len(pooled), (1024,))
        post = clip.visual.ln_post
        embedded = nn.functional.normalize((pooled[rows] * post.weight + post.bias) @ clip.visual.proj, dim=-1)
        loss, f1 = tag_loss(clip, embedded, true[rows], encode)
        tool.zero_grad()
        loss.backward()
        tool.step()
        if step % 50 == 0:
            print(
                f"head {step} loss {loss.item():.3f} F1 {f1:.3f} scale {clip.logit_scale.exp().item():.1f}", flush=True
            )
    clip.requires_grad_(True)


def encoder(tokenizer: PreTrainedTokenizerFast, device: torch.device | str = "cpu") -> Encode:
    """Texts to token ids."""

    def encode(batch: list[str]) -> Tensor:
        ids: Tensor = tokenizer(
            batch, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
        ).input_ids
        return ids.to(device)

    return encode


def beginning(out: Path, start: Path | None, seed: int) -> nn.Module:
    """The exported model in `start`; else the tower of the VLM in `out` with a head that has learned."""
    tokenizer = clip_tokenizer()
    clip: nn.Module = open_clip.CLIP(**config(len(tokenizer)))
    if start:
        clip.load_state_dict(load_file(start / "nano-clip" / "open_clip_model.safetensors"))
        return clip
    taught, tower = (
        torch.load(out / "vlm.pt", map_location="cpu", weights_only=False)["average"],
        "vlm.model.vision_tower.",
    )
    take_tower(clip, {name.removeprefix(tower): weight for name, weight in taught.items() if name.startswith(tower)})
    learn_head(clip, encoder(tokenizer), Feed(partial(drawn, seed + 1), 0, 50, 50, 1))
    return clip


def learn(out: Path, models_: Path, pictures: int, seed: int = TRAIN_SEED + 2, start: Path | None = None) -> None:
    """The head first, then everything on so many pictures, the rate falling to nothing; then export.

    Goes on from the checkpoint in `out`, if there is one; else from the exported models in `start`, with pictures of their own;
    else it begins with the tower of the VLM in `out`.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    where, path, tokenizer = place(), out / "clip.pt", clip_tokenizer()
    if not path.exists():
        save(path, model=beginning(out, start, seed).state_dict(), first=0, tools=[])
    clip: nn.Module = open_clip.CLIP(**config(len(tokenizer)))
    weights = sum(weight.numel() for weight in clip.parameters())
    unseen = AGAIN if start else 0
    together(Team(where.members, weights, 1), lambda team: _learn(team, where, path, (pictures, unseen), seed))
    clip.load_state_dict(torch.load(path, map_location="cpu", weights_only=False)["model"])
    export_clip(clip, config(len(tokenizer)), tokenizer, models_ / "nano-clip")


def _learn(team: Team, where: Place, path: Path, pictures: tuple[int, int], seed: int) -> None:
    """One member's work; `pictures`: how many in all, and the number of the first."""
    torch.set_flush_denormal(True)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    size, rate, first = SIZE[where.device.type], RATE[where.device.type], state["first"]
    torch.manual_seed(seed + first)
    feed = Feed(partial(drawn, seed), pictures[1] + first + team.rank * size, size, team.size * size, where.feeders)
    tokenizer = clip_tokenizer()
    clip: Any = open_clip.CLIP(**config(len(tokenizer)))
    clip.load_state_dict(state["model"])
    clip.to(where.device)
    encode, tools = encoder(tokenizer, where.device), optimizers(clip, rate, slow="visual.transformer", slowly=0.5)
    for tool, held in zip(tools, state["tools"], strict=False):
        tool.load_state_dict(held)
    last = time.monotonic()
    for images, want in feed:
        if (gone := first / pictures[0]) >= 1:
            break
        set_rate(tools, rate * min(1.0, 2 * (1 - gone)) * min(1.0, 30 * gone + 0.02))
        with torch.autocast(where.device.type, torch.bfloat16, enabled=where.device.type == "cuda"):
            seen = clip.encode_image(pixels(images, where.device), normalize=True)
        loss, f1 = tag_loss(clip, seen.float(), torch.from_numpy(want).float().to(where.device), encode)
        loss.backward()
        team.average(clip.parameters())
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad()
        first += team.size * size
        if team.rank == 0 and time.monotonic() - last > 30:
            last = time.monotonic()
            print(
                f"{first} {gone:.0%} loss {loss.item():.3f} F1 {f1:.3f} scale {clip.logit_scale.exp().item():.1f}",
                flush=True,
            )
            save(path, model=clip.state_dict(), first=first, tools=[tool.state_dict() for tool in tools])
    if team.rank == 0:
        save(path, model=clip.state_dict(), first=first, tools=[tool.state_dict() for tool in tools])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the nano CLIP from the VLM's tower.")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    parser.add_argument(
        "--start", type=Path, help="a folder with an exported nano-clip to go on from, instead of a VLM's tower"
    )
    args = parser.parse_args()
    learn(args.out, args.models, args.pictures, start=args.start)
