"""What a record says: its turns as questions and answers, checked, or the reason why they cannot be used.

The checks are those of Infinity-MM's own scripts, each with a name: marks of images that fit the image, roles by turns,
texts that are there. A mark at the start or the end of the first question stands for the image, which comes first in
samples anyway; the texts are otherwise kept as they are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from synthgen.config.rows import RowsConfig
from synthgen.errors import Failure, is_whole_text
from synthgen.ingest.sources.instructions.forms import SetForm

MARK = "<image>"
OTHER_MARKS = ("<video>", "<audio>")
USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
ROLES = {
    **dict.fromkeys(("human", "user"), USER),
    **dict.fromkeys(("gpt", "assistant", "model", "chatgpt", "bot"), ASSISTANT),
    "system": SYSTEM,
}
OF_TURNS = ("types", "forms", "languages")  # lists of a record with an entry for each turn, as `synth` writes them


class Turn(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """The turns of a row in order.

    Attributes:
        first: The first question as the row has it, marks included, where that differs.
        labels: Of OF_TURNS, what the row says of its turns.
    """

    turns: tuple[Turn, ...]
    first: str | None = None
    labels: Mapping[str, Sequence[str]] | None = None

    def dump(self) -> str:
        """Return it as JSON."""
        shown: dict[str, Any] = {"turns": self.turns}
        shown |= {"first": self.first} if self.first is not None else {}
        shown |= {"labels": self.labels} if self.labels else {}
        return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def parse(text: str) -> "Conversation":
        """Return the conversation of which `dump` gave the text."""
        shown = json.loads(text)
        return Conversation(tuple(Turn(*turn) for turn in shown["turns"]), shown.get("first"), shown.get("labels"))


class _Message(NamedTuple):
    """A message without its marks; `marks` says where they stood: start, end or inside."""

    role: str
    text: str
    whole: str
    marks: tuple[str, ...]


def read_conversation(
    record: Mapping[str, Any], form: SetForm, rows: RowsConfig, images: int = 1
) -> Conversation | Failure:
    """Return the conversation of a record with so many images, or why it has none that can be used."""
    if missing := next((name for name in form.turns if name not in record), None):
        return Failure("wrong_form", f"has no field '{missing}', which the form {form.name} has")
    messages = list[_Message]()
    for message in _messages(record, form):
        if isinstance(message, Failure):
            return message
        messages.append(message)
    if failure := _system_fault(messages, rows):
        return failure
    spoken = [message for message in messages if message.role != SYSTEM]
    if failure := _fault(spoken, images):
        return failure
    turns = tuple(Turn(asked.text, said.text) for asked, said in zip(spoken[::2], spoken[1::2], strict=True))
    first = spoken[0].whole if spoken[0].whole != spoken[0].text else None
    return Conversation(turns, first, _labels(record, len(turns)))


def _fault(spoken: Sequence[_Message], images: int) -> Failure | None:
    """Return what is wrong with the messages of user and model, or None."""
    if not spoken:
        return Failure("no_conversation", "it has no turn")
    for place, message in enumerate(spoken):
        if message.role != (ASSISTANT if place % 2 else USER):
            return Failure("broken_roles", f"message {place + 1} is of the {message.role}")
    if len(spoken) % 2:
        return Failure("broken_roles", "its last question has no answer")
    if not all(is_whole_text(text) for message in spoken for text in (message.text, message.whole)):
        return Failure("not_text", "a text in it is not UTF-8")
    return _mark_fault(spoken, images)


def _mark_fault(spoken: Sequence[_Message], images: int) -> Failure | None:
    """Return what is wrong with the marks of images: all stand on one side of the first question, or none is there."""
    first, *others = spoken
    if len(first.marks) not in (0, images):
        has = "one image" if images == 1 else f"{images} images"
        return Failure("image_marker", f"its first question has {len(first.marks)} marks of images, and it has {has}")
    if "inside" in first.marks or len(set(first.marks)) > 1:
        return Failure("image_marker", "a mark of an image stands inside of its first question")
    if any(message.marks for message in others):
        return Failure("image_marker", "a mark of an image stands behind its first question")
    other = next((mark for mark in OTHER_MARKS for message in spoken if mark in message.text), None)
    return Failure("image_marker", f"a text in it has {other}") if other else None


def _system_fault(messages: Sequence[_Message], rows: RowsConfig) -> Failure | None:
    texts = [message.text for message in messages if message.role == SYSTEM]
    if rows.system == "refuse" and any(text.strip() for text in texts):
        return Failure("system_text", "it has a text of the system; source.rows.system: drop reads it without")
    return None


def _labels(record: Mapping[str, Any], turns: int) -> dict[str, list[str]]:
    """Return what a record says of each of its turns."""
    values = {name: record.get(name) for name in OF_TURNS}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, list) and len(value) == turns and all(isinstance(word, str) for word in value)
    }


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(record: Mapping[str, Any], form: SetForm) -> Iterator[_Message | Failure]:
    if form.turns == ("texts",):
        yield from _of_texts(record["texts"])
        return
    roles = (USER, ASSISTANT) if len(form.turns) > 1 else (None,)
    for name, role in zip(form.turns, roles, strict=True):
        listed = record[name]
        if isinstance(listed, str) and role:
            listed = [{"role": role, "content": listed}]
        if not isinstance(listed, list):
            yield Failure("no_conversation", f"its field '{name}' holds {_kind(listed)} in place of messages")
            return
        yield from map(_message, listed)


def _of_texts(texts: Any) -> Iterator[_Message | Failure]:
    if not isinstance(texts, list):
        yield Failure("no_conversation", f"its field 'texts' holds {_kind(texts)} in place of turns")
        return
    for turn in texts:
        if not isinstance(turn, Mapping):
            yield Failure("no_conversation", f"a turn is {_kind(turn)}")
            return
        yield _message({"role": USER, "content": turn.get("user")})
        yield _message({"role": ASSISTANT, "content": turn.get("assistant")})


def _message(value: Any) -> _Message | Failure:
    if not isinstance(value, Mapping):
        return Failure("no_conversation", f"a message is {_kind(value)}")
    name = value.get("from", value.get("role"))
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        shown = repr(name)[:40] if isinstance(name, str) else _kind(name)
        return Failure("broken_roles", f"a message is of {shown}, who is neither user nor model")
    content = value.get("value", value.get("content"))
    if isinstance(content, list):
        return _of_parts(role, content)
    if content is None:
        content = ""
    if not isinstance(content, str):
        return Failure("no_conversation", f"a message holds {_kind(content)} in place of a text")
    text, marks = _without_marks(content)
    return _Message(role, text, content, marks)


def _of_parts(role: str, parts: Sequence[Any]) -> _Message | Failure:
    """Return a message of parts, texts and images; a mark that is spelled out in a text is text there."""
    texts, marks = list[str](), list[str]()
    for part in parts:
        if not isinstance(part, Mapping):
            return Failure("no_conversation", f"a part of a message is {_kind(part)}")
        kind, text = part.get("type"), part.get("text")
        if kind == "text" and isinstance(text, str):
            marks = ["inside" if mark == "end" else mark for mark in marks]
            texts.append(text)
        elif kind in ("image", "image_url"):
            marks.append("end" if texts else "start")
        else:
            return Failure("no_conversation", f"a part of a message is of the kind {str(kind)[:40]!r}")
    return _Message(role, "".join(texts), "".join(texts), tuple(marks))


def _without_marks(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text without the marks of images at its ends, with a line break beside each, and where marks stood."""
    marks = list[str]()
    while (bare := text.lstrip()).startswith(MARK):
        text, marks = bare.removeprefix(MARK).removeprefix("\n"), [*marks, "start"]
    while (bare := text.rstrip()).endswith(MARK):
        text, marks = bare.removesuffix(MARK).removesuffix("\n"), [*marks, "end"]
    return text, (*marks, *["inside"] * text.count(MARK))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
