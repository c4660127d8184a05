"""The training examples of the VLM: turns of prompt and reply about a scene, for seven tasks.

The tasks: answer a question, ask questions of a type, decline a type that the scene does not support, judge an answer,
rephrase a question, answer without the picture (so that `image_gain` means something), and a conversation of two or
three answers. The prompts stand to the letter in `prompts/drawn.yaml`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from demo.ground_truth import QAPair, pick, qa_pairs
from demo.question_templates import TYPES, ask_prompt
from demo.world import Scene

TASK_SHARES = {
    "answer": 0.59,
    "ask": 0.19,
    "decline": 0.05,
    "judge": 0.05,
    "rephrase": 0.03,
    "blind": 0.05,
    "turns": 0.04,
}
# The first pictures teach mostly to look and to answer in a word, which the other tasks build on.
EARLY_TASK_SHARES = {
    "answer": 0.74,
    "ask": 0.12,
    "decline": 0.04,
    "judge": 0.03,
    "rephrase": 0.02,
    "blind": 0.05,
    "turns": 0.0,
}
KEYS = tuple(f"{task}/{type_}" for task in TASK_SHARES for type_ in TYPES)
Turn = tuple[str, str]  # prompt, reply


@dataclass(frozen=True)
class Example:
    """Turns about one picture; those of the task `blind` come without it."""

    task: str
    type: str
    turns: tuple[Turn, ...]

    @property
    def key(self) -> str:
        """Its entry in KEYS."""
        return f"{self.task}/{self.type}"


def answer_turn(pair: QAPair, rng: random.Random, sentence_share: float = 0.3) -> Turn:
    """Return a question and its answer, in a sentence with a probability of `sentence_share`."""
    question = pair.question(rng.randrange(3))
    if pair.type == "caption" or rng.random() < sentence_share:
        return f"{question} Answer in a sentence.", pair.sentence()
    return f"{question} Answer shortly.", pair.answer


def ask_turn(type_: str, pairs: list[QAPair], rng: random.Random) -> Turn:
    """Return a request for questions of a type, and distinct questions; `none` where the scene supports none."""
    n = rng.randint(1, 3)
    if not pairs:
        return ask_prompt(type_, n), "none"
    # In the order of the scene: then the next question is one further on, and never the same again.
    askable = [pair for pair in pairs if pair.is_askable]
    places = sorted(rng.sample(range(len(askable)), min(n, len(askable))))
    return ask_prompt(type_, n), "\n".join(askable[place].question(rng.randrange(3)) for place in places)


def judge_turn(pair: QAPair, rng: random.Random) -> Turn:
    """Return a question with an answer to it, right half of the time, and whether it is true."""
    is_true = rng.random() < 0.5
    answer = pair.answer if is_true else rng.choice(pair.distractors[:3])
    if pair.type == "caption" or rng.random() < 0.3:
        answer = pair.sentence(answer)
    return f"Is it true? {pair.question(rng.randrange(3))} {answer}", "yes" if is_true else "no"


def rephrase_turn(pair: QAPair, rng: random.Random) -> Turn:
    """Return a question in one wording, and in another."""
    wording, other = rng.sample(range(3), 2)
    return f"Rephrase: {pair.question(wording)}", pair.question(other)


def sample_examples(
    scene: Scene, rng: random.Random, weights: Mapping[str, float], is_early: bool = False
) -> Iterator[Example]:
    """Yield examples without end.

    Args:
        scene: The scene they are about.
        rng: Source of all draws.
        weights: By key (see KEYS), how often an example is drawn; large where answers are still bad.
        is_early: Whether to draw tasks by EARLY_TASK_SHARES.
    """
    by_type: dict[str, list[QAPair]] = defaultdict(list)
    for pair in qa_pairs(scene, rng):
        by_type[pair.type].append(pair)
    shares = EARLY_TASK_SHARES if is_early else TASK_SHARES
    supported = tuple(by_type)
    # Declining is a task apart: as part of asking, a type that few pictures support would always be declined.
    unsupported = tuple(type_ for type_ in TYPES if type_ not in by_type)
    while True:
        task = rng.choices(tuple(shares), tuple(shares.values()))[0]
        types = unsupported if task == "decline" else supported
        weight_of = "answer" if task in ("blind", "turns", "rephrase") else task
        type_ = rng.choices(types, [weights[f"{weight_of}/{name}"] for name in types])[0]
        turns = _sample_turns(task, type_, by_type[type_], rng, 0.1 if is_early else 0.3)
        yield Example(task, type_, turns)


def _sample_turns(
    task: str, type_: str, pairs: list[QAPair], rng: random.Random, sentence_share: float
) -> tuple[Turn, ...]:
    if task in ("ask", "decline"):
        return (ask_turn(type_, pairs, rng),)
    pair = pick(pairs, rng)
    if task == "judge":
        return (judge_turn(pair, rng),)
    if task == "rephrase":
        return (rephrase_turn(pair, rng),)
    if task == "turns":
        return tuple(answer_turn(pick(pairs, rng), rng) for _ in range(rng.randint(2, 3)))
    return (answer_turn(pair, rng, sentence_share),)
