"""The calls about a question as the models saw them: prompts put together again, and the replies that were stored.

The tables hold every reply and no prompt: a prompt follows from the definition files, the plan and the seed. So the
code of the stage holds the conversation once more, with an engine that gives the stored replies and keeps what it is
asked. Where the recipe of the row is that of the files of now, and the reply gives the stored question again, these are
the prompts that were sent; else the page says that they may differ.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

from synthgen.commands.browse.files import Files
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.commands.browse.stored import (
    StoredReplies,
    Subject,
    assignment_in,
    keyed_replies,
    pair_in,
    seed_of,
    session_of,
    subject_of,
)
from synthgen.config.prompt_pack import asks_many
from synthgen.config.templates import variables_of
from synthgen.stages.generate import scoring
from synthgen.stages.generate.answering import earlier_of, others_of
from synthgen.stages.generate.asking import AskedQuestion, Assignment, ask_all, ask_follow_ups
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import ConversationContext
from synthgen.stages.generate.measures import SCORERS
from synthgen.stages.generate.session import ImageSession
from synthgen.stages.pack import redact
from synthgen.stages.score import contexts_of

EXACT = ""
UNKNOWN = "the prompt is not known: the definition files of now do not have it"
OF_OLDER_FILES = "the files or the model of this row were others: its prompt may have been another"
ASKED_AGAIN = "others of the same call were asked again since: the prompt may have asked for more questions"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A call: what was sent and what came back.

    Attributes:
        title: What it is for.
        system: Empty without one.
        prompt: Empty where it is not known.
        reply: As it was stored; None where no reply is.
        doubt: Why the prompt is missing, or may differ from the one that was sent; EXACT if it does not.
        questions: That the call asked for; 0 for other calls.
    """

    title: str
    model: str = ""
    system: str = ""
    prompt: str = ""
    reply: str | None = None
    doubt: str = EXACT
    has_image: bool = True
    questions: int = 0


def conversation_of(snapshot: Snapshot, files: Files, partition: str, row: Row) -> list[Call]:
    """Return the calls about a question: asking, answering, and those of its scores.

    Args:
        snapshot: The run.
        files: Its definition files.
        partition: Of the row.
        row: Of PAIRS.
    """
    is_split = files.context.asker is not None
    subject = subject_of(snapshot, partition, row, is_split=is_split)
    return asyncio.run(_calls(files, subject, row))


def stored_calls(row: Row) -> list[Call]:
    """Return the calls as far as the tables have them, where nothing is known of the prompts."""
    asking = Call("ask", _asker(row), reply=row["raw_question"], doubt=UNKNOWN)
    answering = Call("answer", redact.model(row["model"] or ""), reply=_reply(row), doubt=UNKNOWN)
    return [call for call in (asking, answering) if call.reply is not None]


async def _calls(files: Files, subject: Subject, row: Row) -> list[Call]:
    asking = stored_calls({**row, "raw_answer": None, "reasoning": None})
    answering, of_scores = stored_calls({**row, "raw_question": None}), list[Call]()
    with suppress(KeyError, AssertionError, TemplateError):  # the files of now lack the type, its form or a prompt
        asking = await _asking(files, subject, row)
        if row["question"] is not None and not row["reasked_for"]:
            answering = await _answering(files, subject, row)
        if row["pair_id"] is not None:
            of_scores = await _scoring(files, subject, row)
    return [*asking, *answering, *of_scores]


def _asker(row: Row) -> str:
    return redact.model(row["ask_model"] or row["model"] or "")


def _reply(row: Row) -> str | None:
    """Return the whole reply to the answering call; of an answer that was worked out that is the working."""
    working, answer = row["reasoning"], row["raw_answer"]
    if working and answer and answer not in working:
        return f"{working}\n\n{answer}"
    whole: str | None = working or answer
    return whole


async def _asking(files: Files, subject: Subject, row: Row) -> list[Call]:
    """Return the asking call of a question; none where no model wrote it."""
    name, own = row["assignment_id"], subject.asked[row["assignment_id"]]
    if own["raw_question"] is None:
        return []
    follows = files.context.prompts.type_of(row["type"]).follows
    context = files.context if follows else files.first_pass or files.context
    together = _together(context, subject, own)
    call = Call("ask", _asker(row), reply=own["raw_question"], doubt=UNKNOWN, questions=len(_of_call(subject, own)))
    engine = StoredReplies(keyed_replies(context, subject, "ask"))
    session = session_of(engine, context.conversations())
    asked = await _ask(session, subject, [assignment_in(context, subject, each) for each in together], row)
    mine = next((each for each in asked if each.assignment.assignment_id == name), None)
    request = engine.request_of(mine.reply) if mine else None
    if mine is None or request is None:
        return [call]
    is_own = _recipe(files, context, subject, name) == own["recipe"] and _is_same(mine, own)
    doubt = OF_OLDER_FILES if not is_own else ASKED_AGAIN if _has_later(context, subject, own, together) else EXACT
    return [replace(call, system=request.system or "", prompt=request.text, doubt=doubt)]


def _recipe(files: Files, context: GenerateContext, subject: Subject, name: str) -> str | None:
    """Return the recipe of an assignment by the files of now; None if its type is gone, or the plan lost it."""
    row = subject.planned.get(name)
    return context.recipe_of(files.recipes_of(context), row) if row else None


async def _ask(
    session: ImageSession, subject: Subject, assignments: Sequence[Assignment], row: Row
) -> list[AskedQuestion]:
    """Ask once more: what goes on from a pair from that pair, and everything else as one call."""
    before = next(
        (each for each in subject.rows.values() if row["follows"] and each["pair_id"] == row["follows"]), None
    )
    if before is None:
        return await ask_all(session, subject.prepared, assignments)
    own = [each for each in assignments if each.assignment_id == row["assignment_id"]]
    return await ask_follow_ups(session, subject.prepared, own, [earlier_of(before)])


def _together(context: GenerateContext, subject: Subject, own: Row) -> list[Row]:
    """Return the rows whose calls the prompt of a row depends on: those of its call, or all of its image."""
    is_told = "asked" in variables_of(context.prompts.ask(own["form"]).text)
    if not is_told or context.prompts.type_of(own["type"]).follows:
        return _of_call(subject, own)
    known = [row for row in subject.asked.values() if context.prompts.has_type(row["type"])]
    return [row for row in known if row["raw_question"] and not context.prompts.type_of(row["type"]).follows]


def _of_call(subject: Subject, own: Row) -> list[Row]:
    """Return the rows that share the asking call of a row."""
    rows = [row for row in subject.asked.values() if _kind(row) == _kind(own)]
    return [row for row in rows if row["raw_question"] == own["raw_question"]]


def _has_later(context: GenerateContext, subject: Subject, own: Row, together: Sequence[Row]) -> bool:
    """Return whether rows that once shared the call of a row may have been asked again since."""
    others = [row for row in subject.asked.values() if _kind(row) == _kind(own) and row not in together]
    return asks_many(context.prompts.ask(own["form"])) and any(row["attempt"] != own["attempt"] for row in others)


def _kind(row: Row) -> tuple[str, str, bool, str | None]:
    return row["type"], row["language"], row["form"] == "choice", row["partner"]


def _is_same(asked: AskedQuestion, own: Row) -> bool:
    """Return whether the stored reply, read again, has the stored question."""
    question = asked.question.text if asked.question else None
    return own["question"] is None or question == own["question"]


async def _answering(files: Files, subject: Subject, row: Row) -> list[Call]:
    """Return the answering call of a question; a reply of the prompt pack was given without one."""
    context, whole = files.context, _reply(row)
    if whole is None:  # its question was not answered
        return []
    engine = StoredReplies({})
    session = session_of(engine, context.conversations())
    await session.answer(pair_in(context.prompts, subject, row).turn, seed=seed_of(context, subject, row))
    call = Call("answer", redact.model(row["model"] or ""), reply=whole, has_image=bool(engine.calls))
    if not engine.calls:
        return [replace(call, title="answer of the prompt pack, without a call")]
    request = engine.calls[-1][0]
    doubt = EXACT if _recipe(files, context, subject, row["assignment_id"]) == row["recipe"] else OF_OLDER_FILES
    return [replace(call, system=request.system or "", prompt=request.text, doubt=doubt)]


async def _scoring(files: Files, subject: Subject, row: Row) -> list[Call]:
    """Return the first calls of each score that asks a model; what they came to is in the scores' details."""
    own = files.context
    found = await _score_calls(own.conversations(), own.model.model, subject, row, "")
    for context in contexts_of(files.job):
        found += await _score_calls(context.conversations(), context.model.model, subject, row, f"{context.name}.")
    return found


async def _score_calls(context: ConversationContext, model: str, subject: Subject, row: Row, before: str) -> list[Call]:
    """Return the first calls of the scores of a model; `before` begins their names."""
    found: list[Call] = []
    # What goes on from a pair came after all others, which were compared without it.
    others = (dict(each) for each in subject.rows.values() if row["follows"] or not each["follows"])
    pair = replace(pair_in(context.prompts, subject, row), others=others_of(others))
    for name in context.scores:
        if name not in SCORERS:  # the code of others is not run to be looked at
            continue
        engine = StoredReplies({})
        await scoring.score(name, session_of(engine, context), pair)
        for request in {(each.text, each.system, each.image is None): each for each, _ in engine.calls}.values():
            call = Call(f"score {before}{name}", redact.model(model), request.system or "", request.text)
            found.append(replace(call, has_image=request.image is not None))
    return found
