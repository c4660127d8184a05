"""The evaluation of the nano models by task and type, on pictures that they never saw.

Replies come from stock transformers on the exported folder and are judged by the oracle, so the figures are those of
the committed files. A blind baseline, the same prompts without the picture, stands beside the answers, because a yes or
no is easily guessed. Prints tables, and one line of JSON last.

    python -m demo.evaluate [--quick] [--models demo/models]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from demo.draw import OTHER_SIGN_FONT, draw
from demo.ground_truth import QAPair, pick, qa_pairs
from demo.inference import Call, NanoVLM
from demo.oracle import judge
from demo.question_fit import mismatch
from demo.question_parser import parse_question, question_type
from demo.question_templates import TYPES, ask_prompt
from demo.world import HELD_OUT_SEED, UNSEEN_BACKGROUNDS, Scene, sample

Paint = Callable[[Scene], Image]
FIRST_SHIFTED = 60_000  # index of the first scene of the shift test


def share(hits: Iterable[bool]) -> float:
    """Return the share of hits; not a number where there is nothing to measure."""
    values = list(hits)
    return float(np.mean(values)) if values else float("nan")


def _cell(value: float, width: int) -> str:
    """Return a share as a cell of a table, blank where nothing was measured."""
    return f"{value:>{width}.3f}" if value == value else " " * width


# -- answers ---------------------------------------------------------------------------------------


def answer_calls(scenes: Sequence[Scene], per_scene: int, paint: Paint = draw) -> tuple[list[Call], list[str]]:
    """Return calls for answers, and the bare question of each.

    Args:
        scenes: The scenes to ask about.
        per_scene: Number of types to ask for each scene, at most.
        paint: Draws a scene.
    """
    calls: list[Call] = []
    questions: list[str] = []
    for scene in scenes:
        rng, image = scene.rng("evaluate"), paint(scene)
        by_type: dict[str, list[QAPair]] = defaultdict(list)
        for pair in qa_pairs(scene, rng):
            by_type[pair.type].append(pair)
        for type_ in rng.sample(sorted(by_type), min(per_scene, len(by_type))):
            form = "brief" if type_ == "caption" else rng.choices(("short", "brief"), (5, 3))[0]
            question = pick(by_type[type_], rng).question(rng.randrange(3))
            instruction = "Answer shortly." if form == "short" else "Answer in a sentence."
            questions.append(question)
            calls.append(Call(scene, image, f"{question} {instruction}", form, type_))
    return calls, questions


def judge_replies(calls: Sequence[Call], questions: Sequence[str], replies: Sequence[str]) -> list[bool]:
    """Return which replies are true."""
    return [
        judge(call.scene, question, reply).value == "true"
        for call, question, reply in zip(calls, questions, replies, strict=True)
    ]


def evaluate_answers(model: NanoVLM, scenes: Sequence[Scene]) -> float:
    """Print the share of true answers by type and form, beside the blind baseline; return that of all."""
    calls, questions = answer_calls(scenes, 8)
    seen = judge_replies(calls, questions, model.reply(calls))
    blind = judge_replies(calls, questions, model.reply([replace(call, image=None) for call in calls]))
    print(f"\nanswers: {len(calls)} on {len(scenes)} held-out scenes, true by the oracle\n")
    print(f"{'type':<20}{'all':>7}{'short':>8}{'brief':>8}{'blind':>8}{'n':>7}")
    for type_ in (*TYPES, ""):
        rows = [i for i, call in enumerate(calls) if type_ in ("", call.type)]
        by_form = [share(seen[i] for i in rows if calls[i].task == form) for form in ("short", "brief")]
        first, *others = (share(seen[i] for i in rows), *by_form, share(blind[i] for i in rows))
        cells = _cell(first, 7) + "".join(_cell(value, 8) for value in others)
        print(f"{type_ or 'all':<20}{cells}{len(rows):>7}")
    return share(seen)


def evaluate_shift(model: NanoVLM, count: int) -> None:
    """Print how answers fare on scenes drawn in ways never trained on, beside the same questions of the same scenes."""
    base = {i: sample(HELD_OUT_SEED, i) for i in range(FIRST_SHIFTED, FIRST_SHIFTED + count)}
    unseen = [
        replace(scene, background=UNSEEN_BACKGROUNDS[scene.index % 2]) for scene in base.values() if scene.background
    ]
    small = [_shrink(scene) for scene in base.values() if scene.things]
    signs = [scene for scene in base.values() if scene.sign]
    conditions: dict[str, tuple[list[Scene], Paint, Collection[str]]] = {
        "unseen backgrounds": (unseen, draw, set(TYPES) - {"caption"}),  # no example has a word for these places
        "things 10 px smaller": (small, draw, TYPES),
        "unseen sign font": (
            signs,
            lambda scene: draw(scene, OTHER_SIGN_FONT),
            ("printed_word", "printed_number"),
        ),
    }
    print("\nshift: scenes drawn in ways never trained on, and the same questions of the same scenes as trained\n")
    print(f"  {'':<22}{'shifted':>8}{'trained':>9}{'n':>7}")
    for name, (scenes, paint, types) in conditions.items():
        calls, questions = answer_calls(scenes, 5, paint)
        kept = [i for i, call in enumerate(calls) if call.type in types]
        calls, questions = [calls[i] for i in kept], [questions[i] for i in kept]
        trained = [replace(call, scene=base[call.scene.index], image=draw(base[call.scene.index])) for call in calls]
        shifted_share = share(judge_replies(calls, questions, model.reply(calls)))
        trained_share = share(judge_replies(trained, questions, model.reply(trained)))
        print(f"  {name:<22}{shifted_share:>8.3f}{trained_share:>9.3f}{len(calls):>7}")


def _shrink(scene: Scene) -> Scene:
    """Return the scene with its things 10 pixels smaller."""
    things = tuple(replace(thing, x=thing.x + 4, y=thing.y + 4, size=thing.size - 10) for thing in scene.things)
    return replace(scene, things=things)


# -- proposals -------------------------------------------------------------------------------------


def evaluate_proposals(model: NanoVLM, scenes: Sequence[Scene]) -> dict[str, float]:
    """Ask for two questions of every type of every scene; print the shares by type and return those of all.

    Returns:
        `valid`: share of questions that can be read, are of the type and fit the scene. `distinct`: share of replies
        with several questions whose questions all differ. `offered`: share of supported types that got a question.
        `declined`: share of unsupported types that got none.
    """
    calls: list[Call] = []
    for scene in scenes:
        image = draw(scene)
        calls += [Call(scene, image, ask_prompt(type_, 2), "ask", type_) for type_ in TYPES]
    table: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for call, reply in zip(calls, model.reply(calls), strict=True):
        row = table[call.type]
        is_none = reply.lower().rstrip(".") == "none"
        if not any(pair.type == call.type for pair in qa_pairs(call.scene, random.Random(0))):
            row["declined"].append(is_none)
            continue
        row["offered"].append(not is_none)
        questions = [] if is_none else reply.split("\n")
        row["valid"] += [_is_valid(question, call) for question in questions]
        if len(questions) > 1:
            parsed = {parse_question(question) or question for question in questions}
            row["distinct"].append(len(parsed) == len(questions))
    columns = ("valid", "distinct", "offered", "declined")
    print(f"\nproposals: every type of {len(scenes)} held-out scenes, 2 questions asked for\n")
    print(f"{'type':<20}" + "".join(f"{column:>10}" for column in columns))
    for type_ in TYPES:
        print(f"{type_:<20}" + "".join(_cell(share(table[type_][column]), 10) for column in columns))
    total = {column: share(hit for type_ in TYPES for hit in table[type_][column]) for column in columns}
    print(f"{'all':<20}" + "".join(f"{total[column]:>10.3f}" for column in columns))
    return total


def _is_valid(question: str, call: Call) -> bool:
    query = parse_question(question)
    return query is not None and question_type(question) == call.type and not mismatch(call.scene, query)


# -- judging ---------------------------------------------------------------------------------------


def evaluate_judging(model: NanoVLM, scenes: Sequence[Scene]) -> float:
    """Print how well three scores tell right answers from near misses; return the best balanced accuracy.

    The threshold of each score is set on the first half of the answers, the accuracy measured on the other.
    """
    calls, answers, is_right = _judged_answers(scenes)
    short = [replace(call, prompt=f"{call.prompt} Answer shortly.") for call in calls]
    seen = np.array(model.likelihood(short, answers))  # (answers,)
    blind = np.array(model.likelihood([replace(call, image=None) for call in short], answers))  # (answers,)
    asked = [
        replace(call, prompt=f"Is it true? {call.prompt} {answer}") for call, answer in zip(calls, answers, strict=True)
    ]
    odds = np.array(model.yes_odds(asked))  # (answers,)
    print(
        f"\njudging: {len(calls)} answers, half of them near misses; "
        "threshold set on one half, balanced accuracy on the other"
    )
    result = {}
    half = len(calls) // 4 * 2
    scores = (("likelihood with the image", seen), ("image gain", seen - blind), ("the judge role", odds))
    for name, score in scores:
        threshold = max(score[:half], key=lambda value: _balanced(score[:half] >= value, is_right[:half]))
        result[name] = _balanced(score[half:] >= threshold, is_right[half:])
        print(f"  {name:<28}{result[name]:.3f}  at {threshold:+.3f}")
    return max(result.values())


def _judged_answers(scenes: Sequence[Scene]) -> tuple[list[Call], list[str], NDArray[np.bool_]]:
    """Return right answers, each followed by its nearest miss.

    Returns:
        The calls, whose prompts are bare questions; the answers; and which of them are right, (answers,) bool.
    """
    calls: list[Call] = []
    answers: list[str] = []
    is_right: list[bool] = []
    for scene in scenes:
        rng, image = scene.rng("judge"), draw(scene)
        pairs = qa_pairs(scene, rng)
        for pair in rng.sample(pairs, min(4, len(pairs))):
            if pair.type != "caption" and pair.distractors:
                call = Call(scene, image, pair.question(rng.randrange(3)), "judge", pair.type)
                calls += [call, call]
                answers += [pair.answer, pair.distractors[0]]
                is_right += [True, False]
    return calls, answers, np.array(is_right)


def _balanced(is_accepted: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> float:
    """Return the mean of the shares of right answers accepted and of wrong ones refused."""
    return float((is_accepted[is_right].mean() + (~is_accepted[~is_right]).mean()) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the nano models on held-out scenes.")
    parser.add_argument("--quick", action="store_true", help="80 scenes in place of 600")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    args = parser.parse_args()
    start, size = time.monotonic(), 80 if args.quick else 600
    result: dict[str, object] = {"scenes": size}
    if (args.models / "nano-vlm").exists():
        model = NanoVLM(args.models / "nano-vlm")
        scenes = [sample(HELD_OUT_SEED, i) for i in range(size)]
        result["answers"] = round(evaluate_answers(model, scenes), 4)
        proposals = evaluate_proposals(model, scenes[: size // 4])
        result["proposals"] = round(proposals["valid"], 4)
        result |= {name: round(proposals[name], 4) for name in ("distinct", "offered", "declined")}
        result["judge"] = round(evaluate_judging(model, scenes[: size // 2]), 4)
        evaluate_shift(model, size // 2)
    if (args.models / "nano-clip").exists():
        from demo.evaluate_clip import evaluate_tags

        result["tags_f1"] = round(evaluate_tags(args.models / "nano-clip", size), 4)
    result["seconds"] = round(time.monotonic() - start)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
