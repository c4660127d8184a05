"""Phase two of the recipe: teach the language model to ask and answer, with the tower that phase one taught to see.

In: the checkpoint of `train_vision.py` and a number of pictures. Out: `vlm.pt`, a resumable checkpoint that also holds an average of
the recent weights, the ones to use. Why this way: about twenty lessons are packed behind one image (see `training_examples.py`); the
rate stays constant until the last pictures and the average stands in for a decay, so that training can stop at any time and
go on, with more pictures too; the types that are still answered badly are drawn more often; dense labels stay on as a side
loss, so that seeing never gets worse.
"""

from __future__ import annotations

import argparse
import copy
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration

from demo.data_loader import Feed
from demo.distributed import Place, Team, place, together
from demo.draw import draw
from demo.multitask_model import Pupil, start_from_vision
from demo.muon import optimizers, set_rate
from demo.patch_labels import HEADS, labels
from demo.question_templates import TYPES
from demo.tokenizer import ASSISTANT, END, USER, tokenizer_in
from demo.train_vision import dense_loss, pixels, save
from demo.training_examples import KEYS, Packer, row_mask
from demo.world import TRAIN_SEED, sample

Arrays = dict[str, NDArray[Any]]
KINDS = {"scene": 0.6, "sign": 0.21, "chart": 0.17, "empty": 0.02}
ROLE_WEIGHT = {"answer": 1.0, "ask": 1.0, "decline": 1.0, "judge": 1.0, "rephrase": 0.4, "blind": 0.3, "turns": 0.7}
SIDE_LOSS = 0.1  # weight of the dense labels
AVERAGE = 0.996  # the weights to use average about the last 250 steps
RATE = {"cpu": 1.3e-3, "cuda": 2.5e-3}
SIZE = {"cpu": 8, "cuda": 256}  # images a step and process
PICTURES = 120_000  # of the recipe
EARLY = 7_000  # pictures taught mostly with one-word answers
# How often a type is drawn beside how badly it is answered: a caption holds many answers, a yes or no is half right by guessing
# and so looks easier than it is, and some types need what few pictures have.
DOSE = {"caption": 2.0, "relative_position": 4.0, "compare_counts": 2.0, "chart_compare": 0.6, "same_colour": 5.0}
DOSE |= {"printed_word": 2.0, "printed_number": 3.0, "chart_arithmetic": 1.5, "counting": 1.5, "existence": 1.5}
# Which questions may be asked is hard to see where a thing must be there once or two must differ, and seldom seen on signs.
ASK_EASY = (
    "background",
    "picture_kind",
    "caption",
    "existence",
    "object_at_position",
    "kind_of_thing",
    "counting",
    "chart_value",
)
ASK_DOSE = {type_: 0.4 if type_ in ASK_EASY else 2.5 for type_ in TYPES} | {
    "relative_position": 4.0,
    "same_colour": 5.0,
}
DOSES = np.array(
    [(ASK_DOSE if key.startswith(("ask/", "decline/")) else DOSE).get(key.split("/")[1], 1.0) for key in KEYS]
)


def lesson_batch(packer: Packer, seed: int, first: int, size: int, weight: dict[str, float]) -> Arrays:
    scenes = [sample(seed, i, kinds=KINDS) for i in range(first, first + size)]
    packs = [packer.pack(scene, scene.rng("lessons"), weight, scene.index < EARLY) for scene in scenes]
    arrays: Arrays = {
        name: np.stack([getattr(p, name) for p in packs]) for name in ("ids", "targets", "lesson", "blind", "position")
    }
    most = max(len(p.keys) for p in packs)
    arrays["keys"] = np.array([p.keys + [0] * (most - len(p.keys)) for p in packs])
    arrays["images"] = np.stack([np.asarray(draw(s)) for s in scenes])
    arrays["dense"] = np.stack([labels(s) for s in scenes])
    return arrays


def lesson_loss(pupil: Pupil, batch: Arrays, right: NDArray[np.float64]) -> Tensor:
    """Weighted loss of a batch; also moves `right`, the running share of lessons whose every token was best, by key."""
    device = pupil.words.device
    names = ("ids", "position", "targets", "lesson", "blind", "dense")
    ids, position, targets, number, blind, dense = (torch.from_numpy(batch[name]).to(device) for name in names)
    hidden, seen = pupil(pixels(batch["images"], device), ids, position, row_mask(number, blind))
    at = targets >= 0
    logits, want = pupil.vlm.lm_head(hidden[at]), targets[at]
    each = nn.functional.cross_entropy(logits, want, reduction="none")
    # which lesson each learned token belongs to: image * most + number - 1
    most = batch["keys"].shape[1]
    lesson = (np.arange(len(ids))[:, None, None] * most + batch["lesson"] - 1)[at.cpu().numpy()]
    keys = batch["keys"].ravel()[lesson]
    length = np.bincount(lesson, minlength=batch["keys"].size)[lesson]
    role = np.array([ROLE_WEIGHT[key.split("/")[0]] for key in KEYS])[keys]
    weight = torch.from_numpy(role / np.sqrt(length)).float().to(device)
    _score(lesson, keys, (logits.argmax(-1) == want).cpu().numpy(), right)
    logits_dense = list((seen @ pupil.words.T).split(list(HEADS.values()), dim=-1))
    side, _ = dense_loss(logits_dense, dense)
    return (each * weight).sum() / weight.sum() + SIDE_LOSS * side


def _score(
    lesson: NDArray[np.int64], keys: NDArray[np.int64], hit: NDArray[np.bool_], right: NDArray[np.float64]
) -> None:
    whole = np.ones(lesson.max() + 1, bool)
    np.logical_and.at(whole, lesson, hit)
    key_of = np.zeros(lesson.max() + 1, np.int64)
    key_of[lesson] = keys
    for number in np.unique(lesson):
        key = key_of[number]
        right[key] += 0.01 * (whole[number] - right[key])


def by_role(right: NDArray[np.float64]) -> dict[str, float]:
    table: dict[str, list[float]] = {}
    for key, share in zip(KEYS, right, strict=True):
        table.setdefault(key.split("/")[0], []).append(share)
    return {role: round(float(np.mean(shares)), 3) for role, shares in table.items()}


def learn(out: Path, pictures: int, seed: int = TRAIN_SEED + 1, cool: float = 0.15, start: Path | None = None) -> None:
    """Train on so many pictures in all, going on from the checkpoint in `out`; the rate falls over the last share `cool`.

    Without a checkpoint it begins with the tower of phase one, or with the exported models in `start`.
    """
    out.mkdir(parents=True, exist_ok=True)
    where = place()
    if start and not (out / "tokenizer").exists():
        tokenizer_in(start / "nano-vlm").save_pretrained(out / "tokenizer")
    torch.set_num_threads(1)
    weights = sum(weight.numel() for weight in Pupil(tokenizer_in(out / "tokenizer")).parameters())
    together(
        Team(where.members, weights, len(KEYS)),
        lambda team: Training(team, where, out, start).run(pictures, seed, cool),
    )


class Training:
    """One member of the team at work."""

    def __init__(self, team: Team, where: Place, out: Path, start: Path | None) -> None:
        torch.set_flush_denormal(True)
        self.team, self.where, self.path = team, where, out / "vlm.pt"
        self.tokenizer = tokenizer_in(out / "tokenizer")
        self.weight: Any = get_context("fork").Array("d", [1.0] * len(KEYS), lock=False)  # of lessons, by key
        self.first, self.step, self.right = 0, 0, np.zeros(len(KEYS))
        self.start, self.state = (
            start,
            torch.load(self.path, weights_only=False, map_location="cpu") if self.path.exists() else None,
        )
        if self.state:
            self.first, self.step, self.right = (self.state[name] for name in ("first", "step", "right"))

    def feed(self, seed: int) -> Feed[Arrays]:
        user, assistant, end = self.tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END])
        packer = Packer(lambda text: self.tokenizer.encode(text, add_special_tokens=False), user, assistant, end)
        self.draw_by(self.right)
        size = SIZE[self.where.device.type]

        def make(at: int, number: int) -> Arrays:
            return lesson_batch(packer, seed, at, number, dict(zip(KEYS, self.weight, strict=True)))

        return Feed(make, self.first + self.team.rank * size, size, self.team.size * size, self.where.feeders)

    def draw_by(self, right: NDArray[np.float64]) -> None:
        """What is answered badly is to come more often."""
        self.weight[:] = np.clip(1.15 - right, 0.15, 1.0) * DOSES

    def begin(self) -> None:
        """The model, its average and the optimizers, as they were or new. After the feed: its processes must not hold a GPU."""
        self.pupil = Pupil(self.tokenizer)
        if self.state:
            self.pupil.load_state_dict(self.state["model"])
        elif self.start:
            self.pupil.vlm.load_state_dict(
                LlavaOnevisionForConditionalGeneration.from_pretrained(self.start / "nano-vlm").state_dict()
            )
        else:
            start_from_vision(self.pupil, self.tokenizer, self.path.parent / "vision.pt")
        self.average = copy.deepcopy(self.pupil)
        if self.state:
            self.average.load_state_dict(self.state["average"])
        self.pupil.to(self.where.device), self.average.to(self.where.device)
        self.tools = optimizers(self.pupil, RATE[self.where.device.type], slow="vlm.model.vision_tower", slowly=0.06)
        for tool, held in zip(self.tools, self.state["tools"] if self.state else (), strict=False):
            shares = [group["share"] for group in tool.param_groups]
            tool.load_state_dict(held)
            for group, share in zip(tool.param_groups, shares, strict=True):
                group["share"] = share  # the recipe's, not the checkpoint's

    def run(self, pictures: int, seed: int, cool: float) -> None:
        """Until all pictures are seen."""
        if self.first >= pictures:
            return
        torch.manual_seed(seed)
        feed, device = self.feed(seed), self.where.device.type
        self.begin()
        began = said = kept = time.monotonic()
        images = self.first
        for batch in feed:
            now, left = time.monotonic(), 1 - self.first / pictures
            if left <= 0:
                break
            set_rate(
                self.tools, RATE[device] * min(1.0, (self.step + 1) / 60) * min(1.0, max(0.01, left / max(cool, 1e-9)))
            )
            loss = self.learn_from(batch)
            if self.team.rank == 0 and now - said > 60:
                said = now
                speed = (self.first - images) / (now - began)
                to_go = f"{speed:.1f}/s, {(pictures - self.first) / speed / 60:.0f} min left"
                print(
                    time.strftime("%H:%M"),
                    f"{self.first} of {pictures} {loss.item():.3f} {to_go}",
                    by_role(self.right),
                    flush=True,
                )
            if self.team.rank == 0 and now - kept > 180:
                kept = now
                self.keep()
        if self.team.rank == 0:
            self.keep()
            print({key: round(float(share), 2) for key, share in zip(KEYS, self.right, strict=True)}, flush=True)

    def learn_from(self, batch: Arrays) -> Tensor:
        """A step; returns the loss."""
        device = self.where.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = lesson_loss(self.pupil, batch, self.right)
        loss.backward()
        self.team.average(self.pupil.parameters())
        nn.utils.clip_grad_norm_(self.pupil.parameters(), 1.0)
        for tool in self.tools:
            tool.step()
            tool.zero_grad(set_to_none=False)
        keep = min(AVERAGE, 1 - 1 / (self.step + 2))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.pupil.parameters()), 1 - keep)
        self.step, self.first = self.step + 1, self.first + self.team.size * len(batch["images"])
        if self.step % 20 == 0:
            self.team.counters[self.team.rank] = torch.from_numpy(self.right)
            self.draw_by(self.team.counters.mean(0).numpy())
        return loss

    def keep(self) -> None:
        """Saves all that is needed to go on."""
        names = ("first", "step", "right")
        state = {"model": self.pupil.state_dict(), "average": self.average.state_dict()}
        save(
            self.path,
            **state,
            tools=[tool.state_dict() for tool in self.tools],
            **{name: getattr(self, name) for name in names},
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the VLM on lessons.")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument(
        "--cool", type=float, default=0.15, help="share of the pictures over which the rate falls to nothing"
    )
    parser.add_argument(
        "--start", type=Path, help="a folder with an exported nano-vlm to go on from, instead of phase one"
    )
    args = parser.parse_args()
    learn(args.out, args.pictures, cool=args.cool, start=args.start)
