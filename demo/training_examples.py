"""The training examples of the VLM: turns of prompt and reply about a scene, for nine tasks.

The tasks of the asker: answer a question, ask questions of a type, decline a type that the scene does not support,
judge an answer, rephrase a question, answer without the picture (so that `image_gain` means something), and a
conversation of two or three answers. The judge answers and judges more, and also says whether the picture answers a
question and whether two answers say the same. The prompts stand to the letter in `prompts/drawn.yaml`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from demo.ground_truth import QAPair, pick, qa_pairs
from demo.question_fit import mismatch
from demo.question_parser import parse_question
from demo.question_templates import TYPES, ask_prompt
from demo.world import POSITIONS, Scene, sample

TASKS = ("answer", "ask", "decline", "judge", "rephrase", "blind", "turns", "answerable", "same")
KEYS = tuple(f"{task}/{type_}" for task in TASKS for type_ in TYPES)
OTHER_SCENES = 2  # whose questions the judge is asked about a picture
MOST_NEAR = 12  # questions that nearly fit a picture
RELATIONS = ("left of", "right of", "above", "below")
Turn = tuple[str, str]  # prompt, reply


@dataclass(frozen=True)
class Mixture:
    """How often each task is drawn, and which share of answers are sentences."""

    shares: Mapping[str, float]
    sentences: float


# Of each role, the mixture of the first pictures, which teach mostly to look and to answer in a word, as the other
# tasks build on that, and the mixture of the rest.
ROLES = {
    "asker": (
        Mixture(
            {
                "answer": 0.74,
                "ask": 0.12,
                "decline": 0.04,
                "judge": 0.03,
                "rephrase": 0.02,
                "blind": 0.05,
                "turns": 0.0,
            },
            sentences=0.1,
        ),
        Mixture(
            {
                "answer": 0.59,
                "ask": 0.19,
                "decline": 0.05,
                "judge": 0.05,
                "rephrase": 0.03,
                "blind": 0.05,
                "turns": 0.04,
            },
            sentences=0.3,
        ),
    ),
    "judge": (
        Mixture({"answer": 0.7, "judge": 0.12, "blind": 0.05, "answerable": 0.1, "same": 0.03}, sentences=0.1),
        Mixture(
            {"answer": 0.4, "judge": 0.3, "rephrase": 0.03, "blind": 0.04, "answerable": 0.18, "same": 0.05},
            sentences=0.3,
        ),
    ),
}


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


def answerable_turn(scene: Scene, pair: QAPair, rng: random.Random) -> Turn:
    """Return a question, of this scene or of another one, and whether this scene answers it."""
    question = pair.question(rng.randrange(3))
    query = parse_question(question)
    is_answered = query is not None and mismatch(scene, query) is None
    return f"Is it shown? {question}", "yes" if is_answered else "no"


def same_turn(pair: QAPair, rng: random.Random) -> Turn:
    """Return a question with two answers, shortly or in a sentence, and whether they say the same."""
    answers = [pair.answer, *pair.distractors[:3]]
    first = rng.choice(answers)
    is_same = rng.random() < 0.5
    second = first if is_same else rng.choice([answer for answer in answers if answer != first])
    told = [pair.sentence(answer) if rng.random() < 0.5 else answer for answer in (first, second)]
    return f"Is it the same? {pair.question(rng.randrange(3))} {told[0]} {told[1]}", "yes" if is_same else "no"


def unanswerable(scene: Scene, rng: random.Random) -> list[QAPair]:
    """Return questions that a scene does not answer: of other scenes, and near misses about what this one holds."""
    others = [sample(scene.seed, scene.index + step) for step in range(1, OTHER_SCENES + 1)]
    asked = [(pair.kind, pair.slots) for other in others for pair in qa_pairs(other, rng)]
    nouns = list(dict.fromkeys(noun for thing in scene.things for noun in (thing.name, thing.group)))
    near: list[tuple[str, tuple[str, ...]]] = [(kind, (noun,)) for noun in nouns for kind in ("where", "colour")]
    near += [(kind, (position,)) for position in POSITIONS for kind in ("kind", "use")]
    near += [("relative", (noun, rng.choice(RELATIONS), rng.choice(nouns))) for noun in nouns]
    pairs = [QAPair(kind, slots, "", ()) for kind, slots in [*rng.sample(near, min(MOST_NEAR, len(near))), *asked]]
    return [pair for pair in pairs if (query := parse_question(pair.question(0))) and mismatch(scene, query)]


def sample_examples(
    scene: Scene, rng: random.Random, weights: Mapping[str, float], mixture: Mixture = ROLES["asker"][1]
) -> Iterator[Example]:
    """Yield examples without end.

    Args:
        scene: The scene they are about.
        rng: Source of all draws.
        weights: By key (see KEYS), how often an example is drawn; large where answers are still bad.
        mixture: How often each task is drawn.
    """
    by_type: dict[str, list[QAPair]] = defaultdict(list)
    for pair in qa_pairs(scene, rng):
        by_type[pair.type].append(pair)
    foreign = unanswerable(scene, rng) if "answerable" in mixture.shares else []
    supported = tuple(by_type)
    # Declining is a task apart: as part of asking, a type that few pictures support would always be declined.
    unsupported = tuple(type_ for type_ in TYPES if type_ not in by_type)
    while True:
        task = rng.choices(tuple(mixture.shares), tuple(mixture.shares.values()))[0]
        if task == "answerable" and foreign and rng.random() < 0.5:
            pair = rng.choice(foreign)
            yield Example(task, pair.type, (answerable_turn(scene, pair, rng),))
            continue
        types = unsupported if task == "decline" else supported
        weight_of = "answer" if task in ("blind", "turns", "rephrase", "answerable", "same") else task
        type_ = rng.choices(types, [weights[f"{weight_of}/{name}"] for name in types])[0]
        yield Example(task, type_, _sample_turns(task, type_, by_type[type_], scene, rng, mixture.sentences))


def _sample_turns(
    task: str, type_: str, pairs: list[QAPair], scene: Scene, rng: random.Random, sentence_share: float
) -> tuple[Turn, ...]:
    if task in ("ask", "decline"):
        return (ask_turn(type_, pairs, rng),)
    pair = pick(pairs, rng)
    if task == "judge":
        return (judge_turn(pair, rng),)
    if task == "answerable":
        return (answerable_turn(scene, pair, rng),)
    if task == "same":
        return (same_turn(pair, rng),)
    if task == "rephrase":
        return (rephrase_turn(pair, rng),)
    if task == "turns":
        return tuple(answer_turn(pick(pairs, rng), rng) for _ in range(rng.randint(2, 3)))
    return (answer_turn(pair, rng, sentence_share),)
