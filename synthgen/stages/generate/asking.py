"""The asking calls of an image: which assignments share a call, and the question or the failure of each.

Groups and their order follow from the assignments alone, never from timing or from replies.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from PIL.Image import Image

from synthgen.config.families import InstructionType, asked_as
from synthgen.config.prompt_file import AskPrompt
from synthgen.config.prompt_pack import Prompts, asks_many
from synthgen.config.replies import OPTIONS, Question, parse_questions, question_schema, shuffled
from synthgen.config.templates import render, variables_of
from synthgen.engines import Reply, Request
from synthgen.errors import Failure
from synthgen.stages.generate.session import Earlier, ImageSession, failure_of
from synthgen.stages.generate.similarity import normalize
from synthgen.tables import draw

EXAMPLES = 2  # of a type that one call shows


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
    thing: str | None = None  # the words of the tag that the question is about
    partner: str | None = None  # of a negative: image_id of the image that the question is written for


@dataclass(frozen=True)
class PreparedImage:
    """A decoded image, or a set of them, sized for the model."""

    image: Image
    key: str  # of its pixels: content, decoding, size
    tags: tuple[str, ...] = ()  # paths
    earlier: tuple[Mapping[str, object], ...] = ()  # rows of PAIRS that it has already
    more: tuple[Image, ...] = ()  # of a set, the images after the first


@dataclass(frozen=True)
class AskedBy:
    """The origin of a question that another model wrote in a pass before: the model, and the attempt of its row."""

    model: str
    revision: str
    attempt: int


@dataclass(frozen=True)
class AskedQuestion:
    """An assignment after its asking call: with a question, or with the failure that ended it."""

    assignment: Assignment
    reply: Reply | None  # of the asking call; None where none was needed
    question: Question | None = None
    failure: Failure | None = None
    share: int = 1  # assignments that share the asking call
    place: int = 0  # among them
    earlier: Earlier | None = None  # what the question goes on from
    key: str | None = None  # the letter of the option that its writer calls right
    by: AskedBy | None = None  # where another model wrote it


async def ask_all(
    session: ImageSession, subject: PreparedImage, assignments: Sequence[Assignment]
) -> list[AskedQuestion]:
    """Ask for the questions of all assignments of an image, in as few calls as the prompts allow."""
    ready = [asked for assignment in assignments if (asked := _requested(session, assignment))]
    known = {asked.assignment.assignment_id for asked in ready}
    groups = _group([each for each in assignments if each.assignment_id not in known], session.prompts)
    if any("asked" in variables_of(session.prompts.ask(group[0].form).text) for group in groups):
        return [*ready, *await _ask_in_turn(session, subject, groups)]
    # The first call fills the engine's caches for this image; sent together, all calls would find the caches empty.
    first = [await _ask(session, subject, groups[0])] if groups else []
    rest = await asyncio.gather(*(_ask(session, subject, group) for group in groups[1:]))
    return [*ready, *(asked for group in (*first, *rest) for asked in group)]


async def ask_follow_ups(
    session: ImageSession, subject: PreparedImage, assignments: Sequence[Assignment], pairs: Sequence[Earlier]
) -> list[AskedQuestion]:
    """Ask for the questions that go on from pairs of this image, each from one that is drawn for it."""

    async def ask(assignment: Assignment) -> list[AskedQuestion]:
        if not pairs:
            failure = Failure("nothing_to_follow", "no pair of its image is there to go on from")
            return [AskedQuestion(assignment, None, failure=failure)]
        number = draw(session.seed, "follows", assignment.assignment_id)
        return await _ask(session, subject, [assignment], earlier=pairs[int(number * len(pairs))])

    return [asked for group in await asyncio.gather(*map(ask, assignments)) for asked in group]


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


def tokens_of(asked: AskedQuestion) -> dict[str, Any]:
    """Return an assignment's part of the tokens and seconds of its asking call."""
    reply = asked.reply or Reply("")
    counts = {name: getattr(reply, name) for name in ("prompt_tokens", "cached_tokens", "output_tokens")}
    parts = {name: None if count is None else _part(count, asked) for name, count in counts.items()}
    return {**parts, "seconds": reply.seconds / asked.share}


def _part(tokens: int, asked: AskedQuestion) -> int:
    """Return an assignment's part of the tokens of its asking call; the parts add up to the whole."""
    return tokens // asked.share + (asked.place < tokens % asked.share)


def sampling_seed(seed: int, assignment: Assignment) -> int:
    """Return the seed of an assignment's calls: a function of the run's seed, the assignment and the attempt."""
    number = draw(seed, "sampling", assignment.assignment_id, assignment.recipe, str(assignment.attempt))
    return int(number * 2**31)


def _requested(session: ImageSession, assignment: Assignment) -> AskedQuestion | None:
    """Return the request of a type that has whole requests in this language; None where a question is to be written."""
    requests = session.prompts.type_of(assignment.type).requests.get(assignment.language)
    if not requests:
        return None
    # Drawn for the image and type, and counted on from there: several on one image are different requests.
    start = int(draw(session.seed, "request", assignment.image_id, assignment.type) * len(requests))
    text = requests[(start + assignment.ordinal) % len(requests)]
    if "{thing}" in text and assignment.thing is None:
        return AskedQuestion(assignment, None, failure=Failure("code_failed", "the plan names no tag to ask about"))
    return AskedQuestion(assignment, None, Question(text.replace("{thing}", assignment.thing or "")))


def _group(assignments: Sequence[Assignment], prompts: Prompts) -> list[list[Assignment]]:
    """Group the assignments that one call can ask for: of one type, thing, language and kind of options, in order.

    Where the prompt knows the form of the answer, they are of one form too.
    """
    groups: dict[tuple[str, str, str, str], list[Assignment]] = {}
    for assignment in sorted(assignments, key=_asking_order):
        prompt, is_choice = prompts.ask(assignment.form), assignment.form == "choice"
        form = assignment.form if "form" in variables_of(prompt.text) else str(is_choice)
        alone = (assignment.thing or "") if asks_many(prompt) else assignment.assignment_id
        groups.setdefault((assignment.type, assignment.language, form, alone), []).append(assignment)
    return list(groups.values())


def _asking_order(assignment: Assignment) -> tuple[str, str, bool, int, str]:
    is_choice = assignment.form == "choice"
    return (assignment.type, assignment.language, is_choice, assignment.ordinal, assignment.form)


async def _ask_in_turn(
    session: ImageSession, subject: PreparedImage, groups: Iterable[list[Assignment]]
) -> list[AskedQuestion]:
    """Ask group by group, each told what is asked already."""
    asked: list[AskedQuestion] = []
    known = [str(row["question"]) for row in subject.earlier if row["question"]]
    for group in groups:
        added = await _ask(session, subject, group, known=known)
        known += [item.question.text for item in added if item.question]
        asked += added
    return asked


async def _ask(
    session: ImageSession,
    subject: PreparedImage,
    group: list[Assignment],
    known: Sequence[str] = (),
    earlier: Earlier | None = None,
) -> list[AskedQuestion]:
    """Ask for the questions of a group in one call; assignments beyond those that come back fail.

    Args:
        session: The image's session.
        subject: The image.
        group: Assignments of one type, language and kind of options.
        known: The questions that are asked already.
        earlier: The pair that the question goes on from.
    """
    first = group[0]
    prompt, is_choice = session.prompts.ask(first.form), first.form == "choice"
    request = Request(
        "ask",
        _asking_text(session, subject, group, known, earlier),
        prompt.max_tokens,
        temperature=session.sampling.ask_temperature,
        top_p=session.sampling.top_p,
        seed=sampling_seed(session.seed, first),
        schema=None if prompt.parse == "lines" else question_schema(is_choice, len(group), prompt.parse),
    )
    reply = await session.generate(request)
    name = "ask_choice" if prompt is session.prompts.pack.ask_choice else "ask"
    questions, failure = _read_questions(reply, prompt, is_choice, name)
    return [
        _with_shuffled_options(
            session.seed,
            AskedQuestion(assignment, reply, question, None if question else failure, len(group), place, earlier),
        )
        for place, (assignment, question) in enumerate(zip_longest(group, questions[: len(group)]))
    ]


def _asking_text(
    session: ImageSession,
    subject: PreparedImage,
    group: list[Assignment],
    known: Sequence[str],
    earlier: Earlier | None,
) -> str:
    """Render the asking prompt of a group; examples, voice and level are drawn for its first assignment."""
    first, prompts = group[0], session.prompts
    kind = prompts.types[asked_as(first.type)]
    return render(
        prompts.ask(first.form).text,
        type=kind,
        n=len(group),
        form=first.form,
        language=first.language,
        tags=[tag.split("/")[-1] for tag in subject.tags],
        examples=_examples(kind, session.seed, first),
        voice=_one_of(prompts.voices(first.type), session.seed, "voice", first),
        level=_one_of(prompts.levels(first.type), session.seed, "level", first),
        asked=list(known),
        previous=earlier.previous if earlier else None,
        thing=first.thing,
    )


def _examples(kind: InstructionType, seed: int, assignment: Assignment) -> list[str]:
    """Return the examples that a call shows, drawn for its first assignment."""
    drawn = {text: draw(seed, "example", assignment.assignment_id, text) for text in kind.examples}
    return sorted(drawn, key=drawn.__getitem__)[:EXAMPLES]


def _one_of(values: Sequence[str], seed: int, purpose: str, assignment: Assignment) -> str:
    return values[int(draw(seed, purpose, assignment.assignment_id) * len(values))] if values else ""


def _with_shuffled_options(seed: int, asked: AskedQuestion) -> AskedQuestion:
    """Shuffle the options of a question whose writer named the right one, so that its place says nothing."""
    if asked.question is None:
        return asked
    name = asked.assignment.assignment_id
    question, key = shuffled(asked.question, [draw(seed, "option", name, str(place)) for place in range(OPTIONS)])
    return replace(asked, question=question, key=key)


def _read_questions(reply: Reply, prompt: AskPrompt, is_choice: bool, name: str) -> tuple[list[Question], Failure]:
    """Return the questions of a reply, and the failure of the assignments for which there is none."""
    if failure := failure_of(reply, "the asking reply", f"{name}.max_tokens"):
        return [], failure
    parsed = parse_questions(reply.text, prompt.parse, prompt.none, is_choice)
    if isinstance(parsed, Failure):
        return [], parsed if reply.text or not reply.detail else replace(parsed, detail=reply.detail)
    return parsed, Failure("too_few_questions")
