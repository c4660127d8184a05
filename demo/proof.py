"""The end of the demo: how many new questions the student answers right, before and after it learned from the shards.

The questions are about drawn pictures that neither the shards nor any training have, and the oracle judges the replies
by the scene graph. Prints a table by instruction type, a line in words, and one line of JSON last.

    python -m demo.proof runs/demo-model [--student demo/models/nano-student] [--scenes 40]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demo.question_templates import TYPES
from demo.world import HELD_OUT_SEED, sample

if TYPE_CHECKING:
    from demo.inference import Call

HERE = Path(__file__).parent
FIRST = 300_000  # index of the first scene; other measurements use lower ones
PER_SCENE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the demo's student before and after its training.")
    parser.add_argument("training", type=Path, help="the output folder of `synth train`")
    parser.add_argument("--student", type=Path, default=HERE / "models" / "nano-student", help="as it was before")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    args = parser.parse_args()
    tuned = args.training / "model"
    if not (tuned / "model.safetensors").exists():
        parser.error(
            f"{args.training}: holds no tuned model; make it with: synth train runs/demo --out {args.training}"
        )
    start = time.monotonic()
    from synthgen.train.loop import silence_transformers

    silence_transformers()
    from demo.evaluate import answer_calls, judge_replies
    from demo.inference import NanoVLM

    calls, questions = answer_calls([sample(HELD_OUT_SEED, FIRST + number) for number in range(args.scenes)], PER_SCENE)
    right = {
        when: judge_replies(calls, questions, NanoVLM(folder).reply(calls))
        for when, folder in (("before", args.student), ("after", tuned))
    }
    table = by_type(calls, right["before"], right["after"])
    print(f"the student on {len(calls):,} questions about {args.scenes} held-out pictures, right answers\n")
    print(f"{'instruction type':<24}{'before':>8}{'after':>8}{'questions':>11}")
    for name, (before, after, count) in table.items():
        print(f"{name:<24}{before:>8.1%}{after:>8.1%}{count:>11}")
    before, after, _ = table["all"]
    print(f"\nthe student answers {before:.1%} right before it learned from these pairs, {after:.1%} after")
    figures = {name: [round(before, 4), round(after, 4), count] for name, (before, after, count) in table.items()}
    seconds = round(time.monotonic() - start, 1)
    record = {"benchmark": "proof", "before": round(before, 4), "after": round(after, 4), "seconds": seconds}
    if args.json:
        print(json.dumps(record | {"types": figures}))


def by_type(
    calls: Sequence[Call], before: Sequence[bool], after: Sequence[bool]
) -> dict[str, tuple[float, float, int]]:
    """Return for each type that was asked the shares of right replies before and after, and its questions; then all."""
    places = {type_: [number for number, call in enumerate(calls) if call.type == type_] for type_ in TYPES}
    places = {type_: found for type_, found in places.items() if found} | {"all": list(range(len(calls)))}
    return {type_: (_share(before, found), _share(after, found), len(found)) for type_, found in places.items()}


def _share(right: Sequence[bool], places: Sequence[int]) -> float:
    return sum(right[place] for place in places) / len(places)


if __name__ == "__main__":
    main()
