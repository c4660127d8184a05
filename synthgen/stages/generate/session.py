"""An image in front of an engine, for all calls of its conversation, and the check whether a reply can be used.

Calls that see the image open with the same system prompt and image, which the engine then finds in its caches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image

from synthgen.config.engine import SamplingConfig
from synthgen.config.families import InstructionType, is_unanswerable
from synthgen.config.prompt_file import SystemUse
from synthgen.config.prompt_pack import Prompts
from synthgen.config.replies import LETTERS, Question, final_answer, letter_of, places_schema
from synthgen.config.replies.thoughts import without_markup
from synthgen.config.templates import render
from synthgen.engines import Engine, Purpose, Reply, Request, thoughts
from synthgen.errors import Failure
from synthgen.tables import draw

REFUSED = "content_filter"  # the finish reason by which the chat protocol reports a withheld reply
WORKED_FORMS = ("short", "brief", "choice")  # whose answer is the end of the working, where a type has `reasons`


@dataclass(frozen=True)
class Earlier:
    """A question and answer that a further question goes on from."""

    pair_id: str
    question: str
    answer: str

    @property
    def previous(self) -> dict[str, str]:
        """The variable `previous` of a prompt."""
        return {"question": self.question, "answer": self.answer}


@dataclass(frozen=True)
class Turn:
    """A question to be answered, and in which form and language."""

    question: Question
    type: InstructionType
    form: str
    language: str
    earlier: Earlier | None = None


@dataclass(frozen=True)
class ImageSession:
    """An image, or a set of them, in front of an engine, with the settings that all calls about it share."""

    engine: Engine
    prompts: Prompts
    sampling: SamplingConfig
    seed: int
    image: Image
    key: str  # of the pixels, for the engine's caches
    more: tuple[Image, ...] = ()  # of a set, the images after the first

    async def generate(self, request: Request) -> Reply:
        """Send a request with the image and the pack's system prompt for its purpose."""
        system = self.prompts.pack.system_for(_use_of(request.purpose))
        return await self.engine.generate(self._seen(request, system))

    async def generate_blind(self, request: Request) -> Reply:
        """Send a request without the image."""
        return await self.engine.generate(replace(request, system=self.prompts.pack.system_for("blind")))

    async def generate_neutral(self, request: Request) -> Reply:
        """Send a request with the image and the system prompt of calls without it, to be compared with such a call."""
        system = self.prompts.pack.system_for("blind")
        return await self.engine.generate(self._seen(request, system))

    def _seen(self, request: Request, system: str | None) -> Request:
        """Return a request with what the session is about."""
        return replace(request, image=self.image, image_key=self.key, more=self.more, system=system)

    async def answer(self, turn: Turn, *, seed: int, temperature: float | None = None) -> Reply:
        """Answer a question; where its type must be worked out, the reply has the working as `reasoning`.

        Args:
            turn: The question, its form and its language.
            seed: The sampling seed.
            temperature: Set for a further sample; without it the reply is the pair's own answer.
        """
        purpose: Purpose = "answer" if temperature is None else "sample"
        if is_unanswerable(turn.type.path):
            return await self._decline(turn, purpose, seed, temperature)
        answer, reasoning = self.prompts.pack.answer[turn.form], self.prompts.pack.reasoning  # type: ignore[index]
        worked = reasoning if is_worked_out(turn) else None
        request = Request(
            purpose,
            reasoning_text(self.prompts, turn) if worked else answer_text(self.prompts, turn),
            worked.max_tokens if worked else answer.max_tokens,
            temperature=self.sampling.answer_temperature if temperature is None else temperature,
            top_p=self.sampling.top_p,
            seed=seed,
            schema=None if worked else _schema_of(turn.form),
            choices=tuple(LETTERS[: len(turn.question.options)]) if turn.form == "choice" and not worked else (),
        )
        reply = await self.generate(request)
        return _conclusion(reply, turn) if worked else _bare(reply)

    async def _decline(self, turn: Turn, purpose: Purpose, seed: int, temperature: float | None) -> Reply:
        """Answer the question of a negative: that the image does not show it, in a reply of the pack or by a call."""
        prompt = self.prompts.pack.unanswerable
        assert prompt, f"pack '{self.prompts.name}' has no prompt `unanswerable`"
        if replies := prompt.replies.get(turn.language):
            return Reply(replies[int(draw(self.seed, "unanswerable", turn.question.text) * len(replies))])
        return await self.generate(
            Request(
                purpose,
                answer_text(self.prompts, turn),
                prompt.max_tokens,
                temperature=self.sampling.answer_temperature if temperature is None else temperature,
                top_p=self.sampling.top_p,
                seed=seed,
            )
        )


def answer_text(prompts: Prompts, turn: Turn) -> str:
    """Render the prompt that asks for an answer."""
    if is_unanswerable(turn.type.path):
        prompt = prompts.pack.unanswerable
        assert prompt, f"pack '{prompts.name}' has no prompt `unanswerable`"
        return render(prompt.text or "", question=turn.question.text, language=turn.language, form=turn.form)
    text = prompts.pack.answer[turn.form].text  # type: ignore[index]
    return _render_turn(text, turn)


def reasoning_text(prompts: Prompts, turn: Turn) -> str:
    """Render the prompt that has an answer worked out."""
    assert prompts.pack.reasoning, f"pack '{prompts.name}' has no prompt `reasoning`"
    return _render_turn(prompts.pack.reasoning.text, turn, form=turn.form)


def is_worked_out(turn: Turn) -> bool:
    """Return whether the answer is the end of a longer reply that works it out."""
    return turn.type.reasons and turn.form in WORKED_FORMS and not is_unanswerable(turn.type.path)


def limit_of(turn: Turn) -> str:
    """Return the key of the prompt pack that limits the tokens of an answer."""
    if is_unanswerable(turn.type.path):
        return "unanswerable.max_tokens"
    return "reasoning.max_tokens" if is_worked_out(turn) else f"answer.{turn.form}.max_tokens"


def failure_of(reply: Reply, subject: str, limit: str = "max_tokens") -> Failure | None:
    """Return why a reply cannot be used as it is, or None.

    Args:
        reply: The engine's reply.
        subject: The reply as the detail names it, such as "the answer".
        limit: The key of the prompt pack that limits its tokens.

    Returns:
        A failure whose reason is one of `tables.FAILURE_REASONS`, and which has a detail.
    """
    if reply.failure:
        return Failure(reply.failure, reply.detail or "the engine gave no details")
    if reply.finish == REFUSED:
        return Failure("refused", f"a content filter withheld {subject}")
    if thoughts.is_thinking(reply.text):
        advice = "set engine.template to {enable_thinking: false}, if the model's chat template has it"
        return Failure("unparsable", f"{subject} contains the model's thinking (<think>); {advice}")
    if reply.finish == "length":
        return Failure("cut_off", f"{subject} reached {limit} of the prompt pack")
    return None


def _schema_of(form: str) -> Mapping[str, Any] | None:
    """Return the JSON schema of an answer; None for answers in words."""
    if form == "points":
        return places_schema("points")
    return places_schema("boxes") if form == "boxes" else None


def _use_of(purpose: Purpose) -> SystemUse:
    if purpose == "judge":
        return "judge"
    return "ask" if purpose == "ask" else "answer"


def _render_turn(text: str, turn: Turn, **more: str) -> str:
    previous = turn.earlier.previous if turn.earlier else None
    options = list(turn.question.options)
    shown = {"question": turn.question.text, "options": options, "language": turn.language, "previous": previous}
    return render(text, **shown, **more)


def _bare(reply: Reply) -> Reply:
    """Return an answer without the markup that some models write around it; the record keeps the whole."""
    text = without_markup(reply.text)
    return reply if text == reply.text else replace(reply, text=text, whole=reply.whole or reply.text)


def _conclusion(reply: Reply, turn: Turn) -> Reply:
    """Return the answer at the end of a worked-out reply, without its log-probabilities, which are of the whole."""
    if failure_of(reply, "the answer"):
        return reply
    answer, fault = final_answer(reply.text), "the worked-out reply does not end with 'Answer: …'"
    if answer is not None and turn.form == "choice":
        answer, fault = letter_of(answer), "the worked-out reply ends with no letter of an option"
    if answer is None:
        return replace(reply, failure="unparsable", detail=fault)
    reasoning = f"{reply.reasoning}\n\n{reply.text}" if reply.reasoning else reply.text  # a model's own thoughts first
    return replace(reply, text=answer, reasoning=reasoning, logprobs=())
