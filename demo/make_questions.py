"""Write questions about the demo images with their known answers, as a file that `synth evaluate` takes.

The truth comes from the scene graphs, which no model sees. Each image has a question of every type that it supports,
and with `--choice` multiple choice among the true answer and the nearest wrong ones, too.

    python -m demo.make_questions questions.jsonl [--images 40] [--choice]
    synth evaluate questions.jsonl --images demo/images …
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.ground_truth import QAPair, pick, qa_pairs
from demo.oracle import true_answers
from demo.question_parser import parse_question
from demo.truth import load_scenes
from demo.world import Scene

OPTIONS = 4
Row = dict[str, Any]


def rows_of(name: str, scene: Scene, *, has_choice: bool) -> Iterator[Row]:
    """Yield the questions about an image: the answers of each are all that are true."""
    rng = scene.rng("questions")
    by_type: dict[str, list[QAPair]] = defaultdict(list)
    for pair in qa_pairs(scene, rng):
        by_type[pair.type].append(pair)
    for type_ in sorted(by_type):
        if type_ == "caption":  # has no short answer
            continue
        pair = pick(by_type[type_], rng)
        question, kind = pair.question(rng.randrange(3)), {"type": type_, "tags": [f"picture/{scene.kind}"]}
        query = parse_question(question)
        answers = list(dict.fromkeys([pair.answer, *(true_answers(scene, query) if query else ())]))
        yield {"id": f"{name}:{type_}", "question": f"{question} Answer shortly.", "answer": answers, **kind}
        if has_choice and len(pair.distractors) >= OPTIONS - 1:
            options = [pair.answer, *pair.distractors[: OPTIONS - 1]]
            rng.shuffle(options)
            right = "ABCD"[options.index(pair.answer)]
            yield {"id": f"{name}:{type_}:choice", "question": question, "options": options, "answer": right, **kind}


def write_questions(path: Path, images: int, *, has_choice: bool) -> int:
    """Write the questions about the first demo images as JSON Lines, and return their number."""
    lines = []
    for name, scene in list(load_scenes().items())[:images]:
        rows = rows_of(name, scene, has_choice=has_choice)
        lines += [json.dumps({"image": name, "language": "English", **row}) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write questions about the demo images with their known answers.")
    parser.add_argument("out", type=Path, help="the file, .jsonl")
    parser.add_argument("--images", type=int, default=40, help="of the 200 demo images, the first so many")
    parser.add_argument("--choice", action="store_true", help="multiple choice, too")
    args = parser.parse_args()
    print(f"{write_questions(args.out, args.images, has_choice=args.choice)} questions in {args.out}")


if __name__ == "__main__":
    main()
