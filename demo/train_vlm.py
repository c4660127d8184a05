"""Phase two of the recipe: teach the language model to ask and answer, with the tower that phase one taught to see.

In: the checkpoint of `vision.py` and a number of minutes. Out: `vlm.pt`, a resumable checkpoint that also holds an average of
the recent weights, the ones to use. Why this way: about twenty lessons are packed behind one image (see `lessons.py`); the
rate stays constant and the average stands in for a decay, so that training can stop and go on at any minute; the types that
are still answered badly are drawn more often; dense labels stay on as a side loss, so that seeing never gets worse.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense import HEADS, INDEX, WORD_HEADS, labels
from draw import draw
from lessons import KEYS, PREFIX, ROW, ROWS, Packer, row_mask
from muon import optimizers, set_rate
from nano import PATCHES, build_vlm, vlm_config
from numpy.typing import NDArray
from team import Team, together
from tokens import ASSISTANT, END, IMAGE, USER, tokenizer_in
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedTokenizerFast
from vision import dense_loss, pixels, save
from world import TRAIN_SEED, plural, sample

Arrays = dict[str, NDArray[Any]]
KINDS = {"scene": 0.47, "sign": 0.26, "chart": 0.25, "empty": 0.02}
ROLE_WEIGHT = {"answer": 1.0, "ask": 1.0, "judge": 1.0, "rephrase": 0.4, "blind": 0.3, "turns": 0.7}
SIDE_LOSS = 0.1  # weight of the dense labels
AVERAGE = 0.996  # the weights to use average about the last 250 steps
RATE = 1.3e-3
SIZE = 8  # images a step and process
EARLY = 7_000  # images taught mostly with one-word answers
# How often a type is drawn beside how badly it is answered: captions are long, a yes or no is half right by guessing and so
# looks easier than it is, and some types need what few pictures have.
DOSE = {"caption": 0.4, "relative_position": 1.6, "compare_counts": 0.8, "chart_compare": 0.6, "same_colour": 2.0}
DOSE |= {"printed_word": 2.0, "printed_number": 3.0, "chart_arithmetic": 1.5}
DOSES = np.array([DOSE.get(key.split("/")[1], 1.0) for key in KEYS])


def packed_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **_: object) -> tuple[Tensor, None]:
    """Attention over `PREFIX` tokens and then ROWS rows, each of which sees the prefix and itself as `mask` allows."""
    attend = nn.functional.scaled_dot_product_attention
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    head = attend(query[:, :, :PREFIX], key[:, :, :PREFIX], value[:, :, :PREFIX], is_causal=True)
    size, heads, _length, depth = query.shape

    def rows(x: Tensor) -> Tensor:
        split: Tensor = x[:, :, PREFIX:].unflatten(2, (ROWS, ROW)).transpose(1, 2)  # image, row, head, token, depth
        return split

    def with_prefix(x: Tensor) -> Tensor:
        shared = x[:, None, :, :PREFIX].expand(size, ROWS, heads, PREFIX, depth)
        return torch.cat([shared, rows(x)], 3).flatten(0, 1)

    body = attend(rows(query).flatten(0, 1), with_prefix(key), with_prefix(value), attn_mask=mask)
    body = body.unflatten(0, (size, ROWS)).transpose(1, 2).flatten(2, 3)
    return torch.cat([head, body], 2).transpose(1, 2), None


AttentionInterface.register("packed", packed_attention)


class Pupil(nn.Module):
    """The VLM and, beside it, the rows of the dense heads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        image, end, user = tokenizer.convert_tokens_to_ids([IMAGE, END, USER])
        self.user = user
        self.vlm = build_vlm(vlm_config(len(tokenizer), image, end))
        self.words = nn.Parameter(torch.zeros(sum(HEADS.values()), self.vlm.config.text_config.hidden_size))
        self.vlm.model.language_model.config._attn_implementation = "packed"

    def see(self, images: Tensor) -> Tensor:
        core = self.vlm.model
        seen: Tensor = core.multi_modal_projector(core.vision_tower(images, output_hidden_states=True).hidden_states[-1])
        return seen

    def prefix(self, seen: Tensor) -> Tensor:
        """<|user|>, the base picture, the same picture as its only crop with a newline after each row of patches."""
        core, size = self.vlm.model, seen.shape[0]
        side = int(PATCHES**0.5)
        newline = core.image_newline.expand(size, side, 1, -1)
        crop = torch.cat([seen.unflatten(1, (side, side)), newline], 2).flatten(1, 2)
        user = core.get_input_embeddings().weight[self.user].expand(size, 1, -1)
        return torch.cat([user, seen, crop], 1)

    def forward(self, images: Tensor, ids: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Final hidden states of the rows, and the projected patches."""
        core, seen = self.vlm.model, self.see(images)
        text = core.get_input_embeddings()(ids.flatten(1))
        start = torch.arange(PREFIX).expand(ids.shape[0], PREFIX)
        hidden = core.language_model(
            inputs_embeds=torch.cat([self.prefix(seen), text], 1), position_ids=torch.cat([start, position.flatten(1)], 1),
            attention_mask={"full_attention": mask.flatten(0, 1)[:, None]}, use_cache=False,
        ).last_hidden_state  # fmt: skip
        return hidden[:, PREFIX:].unflatten(1, (ROWS, ROW)), seen


def start_from_vision(pupil: Pupil, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Copy the tower, the projector and the words that the patches were taught into the VLM."""
    state = torch.load(path)["model"]
    core = pupil.vlm.model
    core.vision_tower.load_state_dict({k.removeprefix("tower."): v for k, v in state.items() if k.startswith("tower.")})
    core.multi_modal_projector.load_state_dict({k.removeprefix("projector."): v for k, v in state.items() if k.startswith("projector.")})
    pupil.words.data.copy_(state["words"])
    table = core.get_input_embeddings().weight.data
    table.normal_(0, 0.06)
    core.image_newline.data.normal_(0, 0.06)
    first = 0
    for head, size in HEADS.items():
        for word in WORD_HEADS.get(head, ()):
            for form in (word, plural(word)):
                ids = tokenizer.encode(form, add_special_tokens=False)
                if len(ids) == 1:
                    table[ids[0]] = state["words"][first + INDEX[head][word]] + (0 if form == word else 0.02 * torch.randn(table.shape[1]))
        first += size


def lesson_batch(packer: Packer, seed: int, first: int, size: int, weight: dict[str, float]) -> Arrays:
    scenes = [sample(seed, i, kinds=KINDS) for i in range(first, first + size)]
    packs = [packer.pack(scene, scene.rng("lessons"), weight, scene.index < EARLY) for scene in scenes]
    arrays: Arrays = {name: np.stack([getattr(p, name) for p in packs]) for name in ("ids", "targets", "lesson", "blind", "position")}
    most = max(len(p.keys) for p in packs)
    arrays["keys"] = np.array([p.keys + [0] * (most - len(p.keys)) for p in packs])
    arrays["images"] = np.stack([np.asarray(draw(s)) for s in scenes])
    arrays["dense"] = np.stack([labels(s) for s in scenes])
    return arrays


class Feed:
    """A process beside the training that draws and packs; `weight` is shared memory, by lesson key."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, first: int, size: int, stride: int) -> None:
        context = get_context("fork")  # the child draws and tokenizes only and never enters torch
        self.weight: Any = context.Array("d", [1.0] * len(KEYS), lock=False)
        self.queue: Queue[Arrays] = context.Queue(6)
        user, assistant, end = tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END])
        packer = Packer(lambda text: tokenizer.encode(text, add_special_tokens=False), user, assistant, end)

        def work() -> None:
            at = first
            while True:
                self.queue.put(lesson_batch(packer, seed, at, size, dict(zip(KEYS, self.weight, strict=True))))
                at += stride

        context.Process(target=work, daemon=True).start()

    def __iter__(self) -> Iterator[Arrays]:
        while True:
            yield self.queue.get()


def lesson_loss(pupil: Pupil, batch: Arrays, right: NDArray[np.float64]) -> Tensor:
    """Weighted loss of a batch; also moves `right`, the running share of lessons whose every token was best, by key."""
    mask = torch.from_numpy(row_mask(batch["lesson"], batch["blind"]))
    ids, position, targets = (torch.from_numpy(batch[name]) for name in ("ids", "position", "targets"))
    hidden, seen = pupil(pixels(batch["images"]), ids, position, mask)
    at = targets >= 0
    logits, want = pupil.vlm.lm_head(hidden[at]), targets[at]
    each = nn.functional.cross_entropy(logits, want, reduction="none")
    # which lesson each learned token belongs to: image * most + number - 1
    most = batch["keys"].shape[1]
    lesson = (np.arange(len(ids))[:, None, None] * most + batch["lesson"] - 1)[at.numpy()]
    keys = batch["keys"].ravel()[lesson]
    length = np.bincount(lesson, minlength=batch["keys"].size)[lesson]
    role = np.array([ROLE_WEIGHT[key.split("/")[0]] for key in KEYS])[keys]
    weight = torch.from_numpy(role / np.sqrt(length)).float()
    _score(lesson, keys, (logits.argmax(-1) == want).numpy(), right)
    logits_dense = list((seen @ pupil.words.T).split(list(HEADS.values()), dim=-1))
    side, _ = dense_loss(logits_dense, torch.from_numpy(batch["dense"]))
    return (each * weight).sum() / weight.sum() + SIDE_LOSS * side


def _score(lesson: NDArray[np.int64], keys: NDArray[np.int64], hit: NDArray[np.bool_], right: NDArray[np.float64]) -> None:
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


def learn(out: Path, minutes: float, seed: int = TRAIN_SEED + 1, cool: float = 0.15, workers: int = 2) -> None:
    """Train for so many minutes in all, going on from the checkpoint in `out`; the rate falls over the last share `cool`."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer_in(out / "tokenizer")
    torch.set_num_threads(1)
    weights = sum(weight.numel() for weight in Pupil(tokenizer_in(out / "tokenizer")).parameters())
    together(Team(workers, weights, len(KEYS)), lambda team: _learn(team, out, minutes, seed, cool))


def _learn(team: Team, out: Path, minutes: float, seed: int, cool: float) -> None:
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    tokenizer = tokenizer_in(out / "tokenizer")
    pupil, path = Pupil(tokenizer), out / "vlm.pt"
    tools = optimizers(pupil, RATE, slow="vlm.model.vision_tower", slowly=0.06)
    if not path.exists():
        start_from_vision(pupil, tokenizer, out / "vision.pt")
    average = copy.deepcopy(pupil)
    first, step, spent, right = _resume(path, pupil, average, tools, team)
    if spent >= minutes:
        return
    feed = Feed(tokenizer, seed, first + team.rank * SIZE, SIZE, team.size * SIZE)
    feed.weight[:] = np.clip(1.15 - right, 0.15, 1.0) * DOSES
    start = last = kept = time.monotonic()
    begun = step
    for batch in feed:
        gone = (spent + (time.monotonic() - start) / 60) / minutes
        if team.agree(gone >= 1):
            break
        set_rate(tools, RATE * min(1.0, (step + 1) / 60) * min(1.0, max(0.01, (1 - gone) / max(cool, 1e-9))))
        loss = lesson_loss(pupil, batch, right)
        loss.backward()
        team.average(pupil.parameters())
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=False)
        keep = min(AVERAGE, 1 - 1 / (step + 2))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(pupil.parameters()), 1 - keep)
        step, first = step + 1, first + team.size * SIZE
        if step % 20 == 0:
            team.counters[team.rank] = torch.from_numpy(right)
            feed.weight[:] = np.clip(1.15 - team.counters.mean(0).numpy(), 0.15, 1.0) * DOSES
        now = time.monotonic()
        if team.rank == 0 and now - last > 60:
            last = now
            speed = (step - begun) * team.size * SIZE / (now - start)
            print(time.strftime("%H:%M"), step, first, f"{loss.item():.3f} {speed:.1f}/s", by_role(right), flush=True)
        if team.rank == 0 and now - kept > 180:
            kept = now
            _keep(path, pupil, average, tools, {"first": first, "step": step, "right": right, "spent": gone * minutes})
    if team.rank == 0:
        _keep(path, pupil, average, tools, {"first": first, "step": step, "right": right, "spent": minutes})
        print({key: round(float(share), 2) for key, share in zip(KEYS, right, strict=True)}, flush=True)


def _resume(
    path: Path, pupil: Pupil, average: Pupil, tools: list[torch.optim.Optimizer], team: Team
) -> tuple[int, int, float, NDArray[np.float64]]:
    """Load the checkpoint, if any: (first image, step, minutes spent, running shares)."""
    if not path.exists():
        return 0, 0, 0.0, np.zeros(len(KEYS))
    state = torch.load(path, weights_only=False)
    pupil.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for tool, held in zip(tools, state["tools"], strict=True):
        shares = [group["share"] for group in tool.param_groups]
        tool.load_state_dict(held)
        for group, share in zip(tool.param_groups, shares, strict=True):
            group["share"] = share  # the recipe's, not the checkpoint's
    team.counters[team.rank] = torch.from_numpy(state["right"])
    return state["first"], state["step"], state.get("spent", 0.0), state["right"]


def _keep(path: Path, pupil: Pupil, average: Pupil, tools: list[torch.optim.Optimizer], counters: dict[str, Any]) -> None:
    save(path, model=pupil.state_dict(), average=average.state_dict(), tools=[tool.state_dict() for tool in tools], **counters)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the VLM on lessons.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/nano"))
    parser.add_argument("--cool", type=float, default=0.15, help="share of the minutes over which the rate falls to nothing")
    args = parser.parse_args()
    learn(args.out, args.minutes, cool=args.cool)
