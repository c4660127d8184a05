"""Phase one of the recipe: teach the vision tower and the projector to see, from dense labels alone.

In: a seed and a number of pictures. Out: a checkpoint with the tower, the projector and one row per word of the world, which
become that word's embedding in the language model. Why this way: an image costs a sixth of what it costs with questions, and
because every head is linear in the *projected* patch, the language model starts with patches that already lie where the
embeddings of their words lie.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlavaOnevisionModel

from demo.data_loader import Feed
from demo.distributed import Place, Team, place, together
from demo.draw import draw
from demo.muon import optimizers, set_rate
from demo.nano_vlm import WIDTH, vlm_config
from demo.patch_labels import COLUMN_OF, HEADS, labels
from demo.world import HELD_OUT_SEED, TRAIN_SEED, sample

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
WEIGHTS = {"row": 0.1, "column": 0.1, "background": 0.3, "text": 1.5, "character": 1.0, "name": 2.0}
RATE = {"cpu": 2e-3, "cuda": 3e-3}
SIZE = {"cpu": 32, "cuda": 512}  # images a step and process
PICTURES = 64_000  # of the recipe
KINDS = {"scene": 0.5, "sign": 0.24, "chart": 0.24, "empty": 0.02}


class Seer(nn.Module):
    """Tower, projector and one linear head over every dense label, all heads stacked in one matrix."""

    def __init__(self) -> None:
        super().__init__()
        parts = LlavaOnevisionModel(vlm_config(512, 1, 2))
        self.tower, self.projector = parts.vision_tower, parts.multi_modal_projector
        self.words = nn.Parameter(torch.randn(sum(HEADS.values()), WIDTH) * 0.06)

    def project(self, pixels: Tensor) -> Tensor:
        seen: Tensor = self.projector(self.tower(pixels, output_hidden_states=True).hidden_states[-1])
        return seen

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list((self.project(pixels) @ self.words.T).split(list(HEADS.values()), dim=-1))


def pixels(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """uint8 pictures as the processor normalises them: (x / 255 - 0.5) / 0.5."""
    return (torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous()


def dense_loss(logits: list[Tensor], target: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Mean cross entropy over heads. Patches of most heads are mostly `nothing`: those that are not count three times."""
    total, report = torch.zeros((), device=target.device), {}
    for head, logit in zip(HEADS, logits, strict=True):
        want = target[..., COLUMN_OF[head]].flatten()
        each = nn.functional.cross_entropy(logit.flatten(0, -2), want, reduction="none")
        weight = 1.0 + 2.0 * (want > 0)
        loss = (each * weight).sum() / weight.sum()
        report[head] = loss.item()
        total = total + WEIGHTS.get(head, 0.3) * loss
    return total, report


def batch(seed: int, first: int, size: int, level: float) -> Batch:
    scenes = [sample(seed, i, level, KINDS) for i in range(first, first + size)]
    return np.stack([np.asarray(draw(s)) for s in scenes]), np.stack([labels(s) for s in scenes])


@torch.no_grad()
def patch_accuracy(seer: Seer, scenes: int = 256) -> dict[str, float]:
    """Share of right labels on held-out pictures, over the patches where the label is not `nothing`."""
    seer.eval()
    images, want = batch(HELD_OUT_SEED, 0, scenes, 1.0)
    logits = [logit.cpu() for logit in seer(pixels(images, seer.words.device))]
    seer.train()
    result = {}
    for head, logit in zip(HEADS, logits, strict=True):
        target = torch.from_numpy(want[..., COLUMN_OF[head]])
        right = logit.argmax(-1) == target
        mask = target > 0 if head not in ("background", "row", "column", "kind") else torch.ones_like(right)
        result[head] = round(right[mask].float().mean().item(), 3)
    return result


def save(path: Path, **state: object) -> None:
    """Atomic: a checkpoint is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def learn(out: Path, pictures: int, seed: int = TRAIN_SEED) -> None:
    """Train on so many pictures in all, the last third with a falling rate; go on from the checkpoint if there is one."""
    where = place()
    torch.set_num_threads(1)
    weights = sum(weight.numel() for weight in Seer().parameters())
    together(Team(where.members, weights, 1), lambda team: _learn(team, where, out / "vision.pt", pictures, seed))


def _learn(team: Team, where: Place, path: Path, pictures: int, seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    state: dict[str, Any] = {"first": 0, "step": 0}
    if path.exists():
        state = torch.load(path, weights_only=False, map_location="cpu")
    first, step = state["first"], state["step"]
    if first >= pictures:
        return
    size, rate = SIZE[where.device.type], RATE[where.device.type]
    feed = Feed(
        lambda at, n: batch(seed, at, n, 0.35 if at < 12_000 else 1.0),
        first + team.rank * size,
        size,
        team.size * size,
        where.feeders,
    )
    seer = Seer().to(where.device)
    tools = optimizers(seer, rate)
    if path.exists():
        seer.load_state_dict(state["model"])
        for tool, held in zip(tools, state["tools"], strict=True):
            tool.load_state_dict(held)
    last = time.monotonic()
    for images, want in feed:
        if first >= pictures:
            break
        set_rate(tools, rate * min(1.0, (step + 1) / 50) * min(1.0, max(0.02, (1 - first / pictures) * 3)))
        with torch.autocast(where.device.type, torch.bfloat16, enabled=where.device.type == "cuda"):
            loss, _ = dense_loss(seer(pixels(images, where.device)), torch.from_numpy(want).to(where.device))
        loss.backward()
        team.average(seer.parameters())
        nn.utils.clip_grad_norm_(seer.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad()
        step, first = step + 1, first + team.size * size
        if team.rank == 0 and time.monotonic() - last > 60:
            last = time.monotonic()
            if not math.isfinite(loss.item()):
                raise RuntimeError(f"the loss is {loss.item()} at step {step}: lower the rate")
            _keep(path, seer, tools, {"first": first, "step": step})
            keep = ("name", "colour", "text", "character", "same_name", "rank")
            accuracy = patch_accuracy(seer, 128)
            print(
                time.strftime("%H:%M"),
                f"{first} of {pictures} {loss.item():.3f}",
                {k: accuracy[k] for k in keep},
                flush=True,
            )
    if team.rank == 0:
        _keep(path, seer, tools, {"first": first, "step": step})
        print(json.dumps({"patches": patch_accuracy(seer), "images": first}), flush=True)


def _keep(path: Path, seer: Seer, tools: list[torch.optim.Optimizer], counters: dict[str, Any]) -> None:
    save(path, model=seer.state_dict(), tools=[tool.state_dict() for tool in tools], **counters)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the vision tower on dense labels.")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument("--seed", type=int, default=TRAIN_SEED)
    args = parser.parse_args()
    learn(args.out, args.pictures, args.seed)
