"""How good the nano models are, on pictures they never saw, by role and type.

In: demo/models and a seed range that training never touches. Out: tables, and one JSON line last. Why this way: replies come from
stock transformers on the exported folder and are judged by the oracle, so the numbers are those of the shipped files; beside
the answers stands a blind baseline (the same prompts without the picture), because a yes or no is easily guessed.

    python -m demo.evaluate [--quick] [--models demo/models]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from transformers import AutoProcessor, LlavaOnevisionForConditionalGeneration

from demo.draw import OTHER_SIGN_FONT, draw
from demo.ground_truth import Gold, golds, pick
from demo.oracle import judge, question_type, unfit
from demo.question_parser import parse
from demo.question_templates import TYPES, ask_prompt
from demo.world import HELD_OUT_SEED, UNSEEN_BACKGROUNDS, Scene, sample

BATCH = 64


@dataclass(frozen=True)
class Call:
    """One prompt about one picture (None: without it), and what it is for."""

    scene: Scene
    image: Image | None
    prompt: str
    role: str
    type: str


class Nano:
    """The exported VLM in stock transformers, greedy."""

    def __init__(self, folder: Path) -> None:
        self.model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def text(self, call: Call) -> str:
        image = [{"type": "image"}] if call.image else []
        message = {"role": "user", "content": [*image, {"type": "text", "text": call.prompt}]}
        return str(self.processor.apply_chat_template([message], add_generation_prompt=True))

    def inputs(self, calls: Sequence[Call], tails: Sequence[str] | None = None) -> dict[str, Tensor]:
        texts = [self.text(call) + (tails[i] if tails else "") for i, call in enumerate(calls)]
        images = [call.image for call in calls if call.image]
        return dict(
            self.processor(images=images or None, text=texts, padding=True, padding_side="left", return_tensors="pt")
        )

    @torch.inference_mode()
    def replies(self, calls: Sequence[Call], longest: int = 64) -> list[str]:
        """Greedy replies, in order; calls of like kind are batched together."""
        order = sorted(range(len(calls)), key=lambda i: (calls[i].image is None, calls[i].role, calls[i].type))
        found = [""] * len(calls)
        for part in _parts(order):
            inputs = self.inputs([calls[i] for i in part])
            made = self.model.generate(**inputs, max_new_tokens=longest, do_sample=False)[
                :, inputs["input_ids"].shape[1] :
            ]
            for i, text in zip(part, self.processor.batch_decode(made, skip_special_tokens=True), strict=True):
                found[i] = text.strip()
        return found

    @torch.inference_mode()
    def likelihoods(self, calls: Sequence[Call], answers: Sequence[str]) -> list[float]:
        """Mean log probability of the tokens of each answer."""
        order = sorted(range(len(calls)), key=lambda i: (calls[i].image is None, len(answers[i])))
        found = [0.0] * len(calls)
        for part in _parts(order):
            inputs = self.inputs([calls[i] for i in part], [f"{answers[i]}<|end|>" for i in part])
            scores = self.model(**inputs).logits[:, :-1].log_softmax(-1)
            chosen = scores.gather(-1, inputs["input_ids"][:, 1:, None])[..., 0]
            for row, i in enumerate(part):
                length = len(self.processor.tokenizer.encode(answers[i])) + 1
                found[i] = float(chosen[row, -length:].mean())
        return found

    @torch.inference_mode()
    def yes(self, calls: Sequence[Call]) -> list[float]:
        """Log odds of yes over no as the first token."""
        yes, no = (self.processor.tokenizer.encode(word)[0] for word in ("yes", "no"))
        found: list[float] = []
        for part in _parts(range(len(calls))):
            logits = self.model(**self.inputs([calls[i] for i in part])).logits[:, -1]
            found += (logits[:, yes] - logits[:, no]).tolist()
        return found


def _parts(order: Iterable[int]) -> Iterable[list[int]]:
    indices = list(order)
    return (indices[i : i + BATCH] for i in range(0, len(indices), BATCH))


def share(hits: Iterable[bool]) -> float:
    values = list(hits)
    return float(np.mean(values)) if values else float("nan")


# -- answers ---------------------------------------------------------------------------------------------------------------------


def prompt_of(gold: Gold, form: str, rng: random.Random) -> tuple[str, str]:
    """(question, prompt) of a form."""
    question = gold.question(rng.randrange(3))
    return question, f"{question} {'Answer shortly.' if form == 'short' else 'Answer in a sentence.'}"


def answer_calls(
    scenes: Sequence[Scene], per_scene: int, paint: Callable[[Scene], Image] = draw
) -> tuple[list[Call], list[str]]:
    """Calls over types and forms, each type as often as its scenes allow, and the bare questions."""
    calls: list[Call] = []
    questions: list[str] = []
    for scene in scenes:
        rng, image = scene.rng("evaluate"), paint(scene)
        by_type: dict[str, list[Gold]] = defaultdict(list)
        for gold in golds(scene, rng):
            by_type[gold.type].append(gold)
        for type_ in rng.sample(sorted(by_type), min(per_scene, len(by_type))):
            form = "brief" if type_ == "caption" else rng.choices(("short", "brief"), (5, 3))[0]
            question, prompt = prompt_of(pick(by_type[type_], rng), form, rng)
            questions.append(question)
            calls.append(Call(scene, image, prompt, form, type_))
    return calls, questions


def truth(calls: Sequence[Call], questions: Sequence[str], replies: Sequence[str]) -> list[bool]:
    return [judge(c.scene, q, r).value == "true" for c, q, r in zip(calls, questions, replies, strict=True)]


def answers(nano: Nano, scenes: Sequence[Scene]) -> float:
    """Print the table of answers by type and form beside the blind baseline; return the share of true ones."""
    calls, questions = answer_calls(scenes, 8)
    seen = truth(calls, questions, nano.replies(calls))
    blind = truth(calls, questions, nano.replies([replace(call, image=None) for call in calls]))
    print(f"\nanswers: {len(calls)} on {len(scenes)} held-out scenes, true by the oracle\n")
    print(f"{'type':<20}{'all':>7}{'short':>8}{'brief':>8}{'blind':>8}{'n':>7}")
    for type_ in (*TYPES, ""):
        here = [i for i, call in enumerate(calls) if type_ in ("", call.type)]
        by_form = [share(seen[i] for i in here if calls[i].role == form) for form in ("short", "brief")]
        row = [share(seen[i] for i in here), *by_form, share(blind[i] for i in here)]
        print(
            f"{type_ or 'all':<20}"
            + "".join(f"{v:>8.3f}" if v == v else f"{'':>8}" for v in row)[1:]
            + f"{len(here):>7}"
        )
    return share(seen)


def shift(nano: Nano, count: int) -> None:
    """Conditions the models were not trained on: reported, not hidden. The same questions of the same scenes as trained stand beside."""
    base = {i: sample(HELD_OUT_SEED, i) for i in range(60_000, 60_000 + count)}
    unseen = [replace(s, background=UNSEEN_BACKGROUNDS[s.index % 2]) for s in base.values() if s.background]
    shrunk = {i: tuple(replace(t, x=t.x + 4, y=t.y + 4, size=t.size - 10) for t in s.things) for i, s in base.items()}
    small = [replace(base[i], things=things) for i, things in shrunk.items() if things]
    signs = [s for s in base.values() if s.sign]
    conditions: dict[str, tuple[list[Scene], Callable[[Scene], Image], Collection[str]]] = {
        "unseen backgrounds": (unseen, draw, set(TYPES) - {"caption"}),  # no lesson has a word for these places
        "things 10 px smaller": (small, draw, TYPES),
        "unseen sign font": (signs, lambda s: draw(s, OTHER_SIGN_FONT), ("printed_word", "printed_number")),
    }
    print("\nshift: scenes drawn in ways never trained on, and the same questions of the same scenes as trained\n")
    print(f"  {'':<22}{'shifted':>8}{'trained':>9}{'n':>7}")
    for name, (scenes, paint, types) in conditions.items():
        calls, questions = answer_calls(scenes, 5, paint)
        kept = [i for i, call in enumerate(calls) if call.type in types]
        calls, questions = [calls[i] for i in kept], [questions[i] for i in kept]
        plain = [replace(call, scene=base[call.scene.index], image=draw(base[call.scene.index])) for call in calls]
        shares = [share(truth(some, questions, nano.replies(some))) for some in (calls, plain)]
        print(f"  {name:<22}{shares[0]:>8.3f}{shares[1]:>9.3f}{len(calls):>7}")


# -- proposals -------------------------------------------------------------------------------------------------------------------


def proposals(nano: Nano, scenes: Sequence[Scene]) -> dict[str, float]:
    """Ask every type of every scene. Returns the shares: questions valid and of the type, replies whose questions are
    distinct, types that a scene supports and that were offered, types that it does not support and that were declined."""
    calls = []
    for scene in scenes:
        image = draw(scene)
        for type_ in TYPES:
            calls.append(Call(scene, image, ask_prompt(type_, 2), "ask", type_))
    table: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for call, reply in zip(calls, nano.replies(calls), strict=True):
        supported = any(g.type == call.type for g in golds(call.scene, random.Random(0)))
        said_none = reply.lower().rstrip(".") == "none"
        if not supported:
            table[call.type]["declined"].append(said_none)
            continue
        table[call.type]["offered"].append(not said_none)
        lines = [] if said_none else reply.split("\n")
        for line in lines:
            query = parse(line)
            is_valid = query is not None and question_type(line) == call.type and not unfit(call.scene, query)
            table[call.type]["valid"].append(is_valid)
        if len(lines) > 1:
            read = [parse(line) or line for line in lines]
            table[call.type]["distinct"].append(len(set(read)) == len(read))
    columns = ("valid", "distinct", "offered", "declined")
    print(f"\nproposals: every type of {len(scenes)} held-out scenes, 2 questions asked for\n")
    print(f"{'type':<20}" + "".join(f"{column:>10}" for column in columns))
    for type_ in TYPES:
        cells = [share(table[type_][column]) for column in columns]
        print(f"{type_:<20}" + "".join(f"{v:>10.3f}" if v == v else f"{'':>10}" for v in cells))
    total = {column: share(hit for type_ in TYPES for hit in table[type_][column]) for column in columns}
    print(f"{'all':<20}" + "".join(f"{total[column]:>10.3f}" for column in columns))
    return total


# -- judging ---------------------------------------------------------------------------------------------------------------------


def judging(nano: Nano, scenes: Sequence[Scene]) -> float:
    """Balanced accuracy on right answers against near misses, for three ways to judge; thresholds from the first half."""
    calls: list[Call] = []
    said: list[str] = []
    right: list[bool] = []
    for scene in scenes:
        rng, image = scene.rng("judge"), draw(scene)
        pool = golds(scene, rng)
        for gold in rng.sample(pool, min(4, len(pool))):
            if gold.type != "caption" and gold.wrong:
                question = gold.question(rng.randrange(3))
                for answer in (gold.answer, gold.wrong[0]):
                    calls.append(Call(scene, image, question, "judge", gold.type))
                    said.append(answer)
                    right.append(answer == gold.answer)
    asked = [replace(call, prompt=f"{call.prompt} Answer shortly.") for call in calls]
    seen = np.array(nano.likelihoods(asked, said))
    blind = np.array(nano.likelihoods([replace(call, image=None) for call in asked], said))
    role = np.array(
        nano.yes([replace(c, prompt=f"Is it true? {c.prompt} {a}") for c, a in zip(calls, said, strict=True)])
    )
    print(
        f"\njudging: {len(calls)} answers, half of them near misses; threshold set on one half, balanced accuracy on the other"
    )
    result = {}
    truth_ = np.array(right)
    for name, score in (("likelihood with the image", seen), ("image gain", seen - blind), ("the judge role", role)):
        half = len(score) // 4 * 2
        cut = max(score[:half], key=lambda c: _balanced(score[:half] >= c, truth_[:half]))
        result[name] = _balanced(score[half:] >= cut, truth_[half:])
        print(f"  {name:<28}{result[name]:.3f}  at {cut:+.3f}")
    return max(result.values())


def _balanced(said: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    return float((said[right].mean() + (~said[~right]).mean()) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the nano models on held-out scenes.")
    parser.add_argument("--quick", action="store_true", help="80 scenes in place of 600")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    args = parser.parse_args()
    start, size = time.monotonic(), 80 if args.quick else 600
    result: dict[str, object] = {"scenes": size}
    if (args.models / "nano-vlm").exists():
        nano = Nano(args.models / "nano-vlm")
        scenes = [sample(HELD_OUT_SEED, i) for i in range(size)]
        result["answers"] = round(answers(nano, scenes), 4)
        asked = proposals(nano, scenes[: size // 4])
        result["proposals"] = round(asked["valid"], 4)
        result |= {name: round(asked[name], 4) for name in ("distinct", "offered", "declined")}
        result["judge"] = round(judging(nano, scenes[: size // 2]), 4)
        shift(nano, size // 2)
    if (args.models / "nano-clip").exists():
        from demo.tag_labels import tags_f1

        result["tags_f1"] = round(tags_f1(args.models / "nano-clip", size), 4)
    result["seconds"] = round(time.monotonic() - start)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
