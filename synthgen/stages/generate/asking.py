"""The asking calls of an image: which assignments share a call, and the question or the failure of each.

Groups and their order follow from the assignments alone, never from timing or from replies.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from PIL.Image import Image

from synthgen.config.prompt_pack import AskPrompt, Prompts, asks_many, render
from synthgen.config.replies import Question, parse_questions, question_schema
from synthgen.engines import Reply, Request
from synthgen.errors import Failure
from synthgen.stages.generate.session import ImageSession, failure_of
from synthgen.stages.generate.similarity import normalize
from synthgen.tables import draw


@dataclass(frozen=True)
class Assignment:
    """A planned question; `recipe` and `attempt` make the pair's id."""

    assignment_id: str
    image_id: str
    object_id: str
    type: str
    form: str
    language: str
    ordinal: int
    recipe: str
    attempt: int


@dataclass(frozen=True)
class PreparedImage:
    """A decoded image, sized for the model."""

    image: Image
    key: str  # of its pixels: content, decoding, size
    tags: tuple[str, ...] = ()  # paths


@dataclass(frozen=True)
class AskedQuestion:
    """An assignment after its asking call: with a question, or with the failure that ended it."""

    assignment: Assignment
    reply: Reply  # of the asking call
    question: Question | None = None
    failure: Failure | None = None
    share: int = 1  # assignments that share the asking call
    place: int = 0  # among them


async def ask_all(
    session: ImageSession, subject: PreparedImage, assignments: Sequence[Assignment]
) -> list[AskedQuestion]:
    """Ask for the questions of all assignments of an image, in as few calls as the prompts allow."""
    groups = _group(assignments, session.prompts)
    # The first call fills the engine's caches for this image; sent together, all calls would find the caches empty.
    first = [await _ask(session, subject, groups[0])] if groups else []
    rest = await asyncio.gather(*(_ask(session, subject, group) for group in groups[1:]))
    return [asked for group in (*first, *rest) for asked in group]


def fail_repeats(asked: Sequence[AskedQuestion]) -> list[AskedQuestion]:
    """Fail the questions that an earlier assignment of this image asks too."""
    first_by_text: dict[str, str] = {}
    checked = []
    for item in asked:
        if item.question:
            own = item.assignment.assignment_id
            first = first_by_text.setdefault(normalize(item.question.text), own)
            if first != own:
                item = replace(item, failure=Failure("repeated_question", f"asked by assignment {first}"))
        checked.append(item)
    return checked


def sampling_seed(seed: int, assignment: Assignment) -> int:
    """Return the seed of an assignment's calls: a function of the run's seed, the assignment and the attempt."""
    number = draw(seed, "sampling", assignment.assignment_id, assignment.recipe, str(assignment.attempt))
    return int(number * 2**31)


def _group(assignments: Sequence[Assignment], prompts: Prompts) -> list[list[Assignment]]:
    """Group the assignments that one call can ask for: of one type, language and kind of options, in a fixed order."""
    groups: dict[tuple[str, str, bool, str], list[Assignment]] = {}
    for assignment in sorted(assignments, key=_asking_order):
        is_choice = assignment.form == "choice"
        alone = "" if asks_many(prompts.ask(assignment.form)) else assignment.assignment_id
        groups.setdefault((assignment.type, assignment.language, is_choice, alone), []).append(assignment)
    return list(groups.values())


def _asking_order(assignment: Assignment) -> tuple[str, str, bool, int, str]:
    is_choice = assignment.form == "choice"
    return (assignment.type, assignment.language, is_choice, assignment.ordinal, assignment.form)


async def _ask(session: ImageSession, subject: PreparedImage, group: list[Assignment]) -> list[AskedQuestion]:
    """Ask for the questions of a group in one call; assignments beyond those that come back fail."""
    first = group[0]
    prompt, is_choice = session.prompts.ask(first.form), first.form == "choice"
    text = render(
        prompt.text,
        type=session.prompts.types[first.type],
        n=len(group),
        language=first.language,
        tags=[tag.split("/")[-1] for tag in subject.tags],
    )
    request = Request(
        "ask",
        text,
        prompt.max_tokens,
        temperature=session.sampling.ask_temperature,
        top_p=session.sampling.top_p,
        seed=sampling_seed(session.seed, first),
        schema=question_schema(is_choice, len(group)) if prompt.parse == "json" else None,
    )
    reply = await session.generate(request)
    questions, failure = _read_questions(reply, prompt, is_choice)
    return [
        AskedQuestion(assignment, reply, question, None if question else failure, len(group), place)
        for place, (assignment, question) in enumerate(zip_longest(group, questions[: len(group)]))
    ]


def _read_questions(reply: Reply, prompt: AskPrompt, is_choice: bool) -> tuple[list[Question], Failure]:
    """Return the questions of a reply, and the failure of the assignments for which there is none."""
    if failure := failure_of(reply, "the asking reply"):
        return [], failure
    parsed = parse_questions(reply.text, prompt.parse, prompt.none, is_choice)
    if isinstance(parsed, Failure):
        return [], parsed if reply.text or not reply.detail else replace(parsed, detail=reply.detail)
    return parsed, Failure("too_few_questions")
