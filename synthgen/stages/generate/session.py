"""An image in front of an engine, for all calls of its conversation, and the check whether a reply can be used.

Calls that see the image open with the same system prompt and image, which the engine then finds in its caches.
"""

from dataclasses import dataclass, replace

from PIL.Image import Image

from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import Prompts, render
from synthgen.config.replies import Question
from synthgen.engines import Engine, Purpose, Reply, Request
from synthgen.errors import Failure

REFUSED = "content_filter"  # the finish reason by which the chat protocol reports a withheld reply
THINKING_TAGS = ("<think>", "</think>")  # some chat templates write the first one, so a reply may hold only the second


@dataclass(frozen=True)
class ImageSession:
    """An image in front of an engine, with the settings that all calls about it share."""

    engine: Engine
    prompts: Prompts
    sampling: SamplingConfig
    seed: int
    image: Image
    key: str  # of the pixels, for the engine's caches

    async def generate(self, request: Request) -> Reply:
        """Send a request with the image and the pack's system prompt."""
        return await self.generate_blind(replace(request, image=self.image, image_key=self.key))

    async def generate_blind(self, request: Request) -> Reply:
        """Send a request without the image."""
        return await self.engine.generate(replace(request, system=self.prompts.pack.system))

    async def answer(
        self, question: Question, form: str, language: str, *, seed: int, temperature: float | None = None
    ) -> Reply:
        """Answer a question in an answer form.

        Args:
            question: The question and its options.
            form: One of `tables.ANSWER_FORMS`.
            language: The language of the answer, as the prompts spell it.
            seed: The sampling seed.
            temperature: Set for a further sample; without it the reply is the pair's own answer.
        """
        purpose: Purpose = "answer" if temperature is None else "sample"
        request = Request(
            purpose,
            answer_text(self.prompts, question, form, language),
            self.prompts.pack.answer[form].max_tokens,  # type: ignore[index]
            temperature=self.sampling.answer_temperature if temperature is None else temperature,
            top_p=self.sampling.top_p,
            seed=seed,
        )
        return await self.generate(request)


def answer_text(prompts: Prompts, question: Question, form: str, language: str) -> str:
    """Render the prompt that asks for an answer."""
    text = prompts.pack.answer[form].text  # type: ignore[index]
    return render(text, question=question.text, options=list(question.options), language=language)


def failure_of(reply: Reply, subject: str) -> Failure | None:
    """Return why a reply cannot be used as it is, or None.

    Args:
        reply: The engine's reply.
        subject: The reply as the detail names it, such as "the answer".

    Returns:
        A failure whose reason is one of `tables.FAILURE_REASONS`, and which has a detail.
    """
    if reply.failure:
        return Failure(reply.failure, reply.detail or "the engine gave no details")
    if reply.finish == REFUSED:
        return Failure("refused", f"a content filter withheld {subject}")
    if any(tag in reply.text for tag in THINKING_TAGS):
        advice = "set generate.engine.template to {enable_thinking: false}, if the model's chat template has it"
        return Failure("unparsable", f"{subject} contains the model's thinking (<think>); {advice}")
    if reply.finish == "length":
        return Failure("cut_off", f"{subject} reached max_tokens")
    return None
