"""A row's messages as the text of the model's chat template, with the place of each answer in it.

Most templates write the same around any text: that frame is rendered once for all rows of a form, and shows where the
answers are. Elsewhere a turn begins where the generation prompt before it ends, and the answer is searched for from
there. So every template works that writes answers verbatim; `{% generation %}` marks, which most lack, are not needed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from jinja2 import TemplateError

from synthgen.errors import Failure, one_line

SKIP_REASONS = (
    "malformed",  # a message without a role, or with content other than image and text
    "unreadable_image",
    "images_do_not_match",  # another number of images than the messages mention
    "no_answer",
    "control_tokens",  # a text holds a token that the template uses: it would forge a turn or an image
    "template_refused",
    "labels_unclear",
    "processor_refused",
    "too_long",
)

NO_THOUGHTS = re.compile(r"(<think>)?\s*</think>")  # the first tag may be part of the generation prompt

MARK = "\ue000"  # of no language: around the number of a text in a frame

Messages = list[dict[str, Any]]
Form = tuple[tuple[str, tuple[str, ...]], ...]  # of each message its role, and the kinds of its parts
Span = tuple[int, int]  # the first character, and the one after the last


class UnusableRow(Exception):
    """A row that cannot be trained on; its failure has one of SKIP_REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in SKIP_REASONS, reason
        self.failure = Failure(reason, detail)
        super().__init__(str(self.failure))


class ChatTemplate:
    """The chat template of one processor, and the control tokens that it may write."""

    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        self._processor = processor
        self._template = processor.chat_template or tokenizer.chat_template
        special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        media = [getattr(processor, f"{kind}_token", None) for kind in ("image", "video")]
        self._controls = tuple({token for token in (*special, *media, *tokenizer.all_special_tokens) if token})
        self._frames: dict[Form, tuple[str, ...]] = {}
        self._ends_turn: dict[str, bool] = {}  # by control token: whether it ends an answer's turn

    def refuse_control_tokens(self, text: str) -> None:
        """Raise UnusableRow if a text of a message holds a control token."""
        if matches := [token for token in self._controls if token in text]:
            raise UnusableRow("control_tokens", f"a text holds {matches[0]!r}")

    def render(self, messages: Messages) -> tuple[str, list[Span]]:
        """Render a conversation and find its answers.

        Returns:
            The text, and the span of each answer in it, with the control token that ends the turn.

        Raises:
            UnusableRow: There is no answer, an answer cannot be found, or the template refuses the messages.
        """
        numbers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if not numbers:
            raise UnusableRow("no_answer", "no turn of the assistant")
        if not all(text_of(messages[number]).strip() for number in numbers):
            raise UnusableRow("no_answer", "a turn of the assistant is empty")
        text = self._apply(messages)
        found = self._spans_in_frame(text, messages) or self._spans_after_prompts(text, messages, numbers)
        return text, [
            (span[0], self._end_of_turn(text, span, messages[: number + 1]))
            for number, span in zip(numbers, found, strict=True)
        ]

    def _spans_in_frame(self, text: str, messages: Messages) -> list[Span] | None:
        """Return the spans of the answers by what the template writes around any text; None if this text differs.

        The frame depends on roles and kinds of parts alone, so it is rendered once for all rows of one form.
        """
        form = tuple((message["role"], tuple(part["type"] for part in message["content"])) for message in messages)
        if form not in self._frames:
            self._frames[form] = self._frame(messages)
        frame = self._frames[form]
        said = [(message["role"], part["text"]) for message in messages for part in _texts(message)]
        if len(frame) != len(said) + 1 or not text.startswith(frame[0]):
            return None
        place, spans = len(frame[0]), list[Span]()
        for (role, own), after in zip(said, frame[1:], strict=True):
            written = next((each for each in (own, own.strip()) if text.startswith(each + after, place)), None)
            if written is None:
                return None
            if role == "assistant":
                spans.append((place, place + len(written)))
            place += len(written) + len(after)
        is_whole = place == len(text) and len(spans) == sum(role == "assistant" for role, _ in form)
        return spans if is_whole else None

    def _frame(self, messages: Messages) -> tuple[str, ...]:
        """Return what the template writes before, between and after the texts of messages; none if it is unclear."""
        marks = (f"{MARK}{number}{MARK}" for number in count())
        marked = list[dict[str, Any]]()
        for message in messages:
            parts = [{**part, "text": next(marks)} if part["type"] == "text" else part for part in message["content"]]
            marked.append({**message, "content": parts})
        pieces = re.split(f"{MARK}(\\d+){MARK}", self._apply(marked))
        is_in_order = pieces[1::2] == [str(number) for number in range(len(pieces) // 2)]
        return tuple(pieces[::2]) if is_in_order else ()

    def _spans_after_prompts(self, text: str, messages: Messages, numbers: Sequence[int]) -> list[Span]:
        """Return the spans of the answers, each searched for where its turn begins."""
        spans = list[Span]()
        for number in numbers:
            answer = text_of(messages[number])
            turn_start = _common_length(text, self._apply(messages[:number], prompt=True)) if number else 0
            span = _find_answer(text, turn_start, answer)
            if span is None:
                raise UnusableRow("labels_unclear", f"the answer {answer[:60]!r} is not where its turn begins")
            spans.append(span)
        return spans

    def _apply(self, messages: Messages, *, prompt: bool = False) -> str:
        try:
            return str(
                self._processor.apply_chat_template(
                    messages, chat_template=self._template, tokenize=False, add_generation_prompt=prompt
                )
            )
        except TemplateError as error:
            raise UnusableRow("template_refused", one_line(error)) from error

    def _end_of_turn(self, text: str, span: Span, messages: Messages) -> int:
        """Return the end of the control token after an answer if it closes that turn: the model must learn to stop.

        A token that opens the next turn instead is missing from the text of `messages`, which end with the answer. It
        may stand elsewhere there: templates of models that think write the last turn otherwise than those before it.
        """
        start, end = span
        token = max((token for token in self._controls if text.startswith(token, end)), key=len, default="")
        if token and token not in self._ends_turn:
            alone, answer = self._apply(messages), text[start:end]
            self._ends_turn[token] = alone.startswith(token, alone.rfind(answer) + len(answer))
        return end + len(token) if self._ends_turn.get(token) else end


def clean_messages(messages: Sequence[Mapping[str, Any]], image_count: int) -> Messages:
    """Return the messages of a row without the nulls that Arrow fills in.

    A row may have no image. Images that no message mentions go before the text of the first user message.

    Raises:
        UnusableRow: The messages are malformed, or do not match the number of images.
    """
    try:
        cleaned = [{"role": message["role"], "content": list(_parts(message["content"]))} for message in messages]
    except (KeyError, TypeError, AttributeError) as error:
        raise UnusableRow("malformed", f"a message lacks the fields of TRL's format ({one_line(error)})") from error
    mentioned = sum(part["type"] == "image" for message in cleaned for part in message["content"])
    first = next((message for message in cleaned if message["role"] == "user"), None)
    if not mentioned and first:
        first["content"] = [{"type": "image"}] * image_count + first["content"]
    elif mentioned != image_count:
        raise UnusableRow("images_do_not_match", f"{image_count} images, the messages mention {mentioned}")
    return cleaned


def _texts(message: Mapping[str, Any]) -> list[dict[str, str]]:
    return [part for part in message["content"] if part["type"] == "text"]


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text parts of a message as one string."""
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def _parts(content: Any) -> Iterator[dict[str, str]]:
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
        if part["type"] not in ("image", "text"):
            raise UnusableRow("malformed", f"a message holds a part of type {part['type']!r}")
        yield {"type": "image"} if part["type"] == "image" else {"type": "text", "text": part.get("text") or ""}


def _find_answer(text: str, turn_start: int, answer: str) -> Span | None:
    """Return the span of an answer in its turn.

    Some templates trim it, some change the spaces before it, and those of models that think begin it with no thoughts.
    """
    for written in (answer, answer.strip()):
        start = text.find(written, turn_start)
        if start >= 0 and not NO_THOUGHTS.sub("", text[turn_start:start]).strip():
            return start, start + len(written)
    return None


def _common_length(text: str, prompt: str) -> int:
    """Return the number of characters that both begin with."""
    if text.startswith(prompt):
        return len(prompt)
    for position, (left, right) in enumerate(zip(text, prompt, strict=False)):
        if left != right:
            return position
    return len(text)
