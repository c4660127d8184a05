"""The prompts of vLLM: what a model's chat template puts around a text, and the token that ends a reply.

The chat template is rendered once, around a marker, and every prompt is filled into that frame: any model that vLLM can
chat with works, and no call pays for templating.
"""

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from synthgen.console import note
from synthgen.engines import thoughts
from synthgen.engines.protocol import Request
from synthgen.engines.special_tokens import USUAL, SpecialTokens
from synthgen.errors import ModelUnavailable, one_line

MARKER = "\u241e7f3a the text \u241e"
_PICTURE = {"type": "image_pil", "image_pil": Image.new("RGB", (64, 64))}
DATES = ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%b %d, %Y")


@dataclass(frozen=True)
class Frame:
    """What the chat template puts before and after the user's text."""

    before: str
    after: str

    @property
    def without_thoughts(self) -> "Frame":
        """The frame of a reply without thoughts, where the template begins one with them."""
        thinks = self.after.rstrip().endswith(thoughts.BEGIN)
        return Frame(self.before, f"{self.after}\n{thoughts.END}\n\n") if thinks else self


class Prompts:
    """The prompts of one model."""

    def __init__(self, llm: Any, model: str, template: Mapping[str, Any]) -> None:
        """Take a running model.

        Args:
            llm: The AsyncLLM.
            model: Its name, for messages.
            template: Options of the chat template.
        """
        self._llm, self._model, self._template = llm, model, template
        self._frames: dict[tuple[str | None, int], Frame] = {}
        self._label_faults: dict[tuple[str, ...], str | None] = {}
        added = getattr(self._tokenizer, "added_tokens_decoder", None)  # of Hugging Face's tokenizers
        self.special = SpecialTokens(None if added is None else _spellings(added.values()))
        self.end = ""  # the token that ends a reply

    async def prepare(self) -> None:
        """Render the frame that every call needs, and find the token that ends a reply.

        Raises:
            ModelUnavailable: The chat template does not take an image and a text.
        """
        await self._frame(None, images=1)
        self.end = await self._end_token()

    async def fill(self, request: Request) -> str:
        """Return the prompt of a request, up to where the reply begins.

        Raises:
            ModelUnavailable: The chat template does not take the request, or its labels are not single tokens.
        """
        frame = await self._frame(request.system, images=len(request.images))
        # A reply that is given, or held to labels or to a grammar, has no thoughts: they are closed before it begins.
        if request.labels or request.choices or request.schema or request.given is not None:
            frame = frame.without_thoughts
        if fault := self._label_fault(request.labels, frame.after):
            raise ModelUnavailable(f"model {self._model}: {fault}")
        return frame.before + self.special.break_up(request.text) + frame.after

    def given(self, reply: str) -> str:
        """Return a given reply as it stands in a prompt, with the token that ends it."""
        return self.special.break_up(reply) + self.end

    def length(self, text: str, reply: str) -> int:
        """Return the number of tokens that a reply adds to a text; a token that both share counts."""
        before, whole = (self._tokenizer.encode(part, add_special_tokens=False) for part in (text, text + reply))
        pairs = enumerate(zip(before, whole, strict=False))
        shared = next((place for place, (own, joined) in pairs if own != joined), len(before))
        return len(whole) - shared

    def label_tokens(self, labels: tuple[str, ...]) -> list[int]:
        """Return the tokens that spell the labels, each with a space before it and without."""
        spelled = (text for label in labels for text in (label, f" {label}"))
        encoded = (self._tokenizer.encode(text, add_special_tokens=False) for text in spelled)
        return sorted({tokens[0] for tokens in encoded if len(tokens) == 1})

    @property
    def _tokenizer(self) -> Any:
        return self._llm.get_tokenizer()

    def _label_fault(self, labels: tuple[str, ...], after: str) -> str | None:
        """Return what is wrong with labels, of which only the first token is seen: that of "10" may be that of "1"."""
        if labels not in self._label_faults:
            # A model may spell a label with a space before it or without.
            tokens = {label: min(self.length(after, spelled) for spelled in (label, f" {label}")) for label in labels}
            long = [f"the label '{label}' is {count} of its tokens" for label, count in tokens.items() if count != 1]
            self._label_faults[labels] = (
                f"{', '.join(long)}; a judge prompt needs labels of one token each" if long else None
            )
        return self._label_faults[labels]

    async def _end_token(self) -> str:
        """Return the token that ends a reply: the template's if the model stops at it, else the tokenizer's own."""
        configured = self._llm.vllm_config.model_config.try_get_generation_config().get("eos_token_id")
        stops = {self._tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} - {None}
        # Some templates write nothing after a reply: the next turn's first token ends it.
        for roles in (("user", "assistant", "user"), ("user", "assistant")):
            turns = [{"role": role, "content": [_text(MARKER)]} for role in roles]
            try:
                parts = (await self._render(turns, prompt=False)).split(MARKER)
            except ModelUnavailable:  # some templates want an image or a question at the end
                continue
            first = self._tokenizer.encode(parts[2].lstrip(), add_special_tokens=False)[:1] if len(parts) > 2 else []
            if first and first[0] in stops:
                return str(self._tokenizer.convert_ids_to_tokens(first[0]))
        return str(self._tokenizer.eos_token or "")

    async def _frame(self, system: str | None, images: int) -> Frame:
        key = (system, images)
        if key not in self._frames:
            frame = await self._rendered_frame(system, images)
            if system is None and _has_date(frame.before):
                # A template's own system text with today's date: an empty one in its place keeps prompts the same.
                frame = await self._rendered_frame("", images)
            if _has_date(frame.before):
                note(f"model {self._model}: its chat template writes today's date, so prompts differ by the day")
            self._frames[key] = frame
        return self._frames[key]

    async def _rendered_frame(self, system: str | None, images: int) -> Frame:
        """Return the frame of a system text, which opens the user's turn where the template has no place for it."""
        try:
            frame = await self._frame_of(system, MARKER, images)
        except ModelUnavailable:
            if not system:
                raise
        else:
            if not system or system.strip() in frame.before + frame.after:
                return frame
        note(f"model {self._model}: its chat template has no system role; the system text opens the user's turn")
        return await self._frame_of(None, f"{(system or '').strip()}\n\n{MARKER}", images)

    async def _frame_of(self, system: str | None, text: str, images: int) -> Frame:
        rendered = await self._rendered_turn(system, [*[_PICTURE] * images, _text(text)])
        # A template that takes its content as one string is given the text alone; the images' tokens go before it.
        if images and rendered == await self._rendered_turn(system, [_text(text)]):
            rendered = await self._rendered_turn(system, f"{self._image_token()}\n" * images + text)
        before, marker, after = rendered.partition(MARKER)
        if not marker:
            raise ModelUnavailable(f"model {self._model}: its chat template changes the text that it is given")
        return Frame(before, after)

    async def _rendered_turn(self, system: str | None, content: Any) -> str:
        """Return a conversation of one turn of the user, up to where the reply begins."""
        turn = {"role": "user", "content": content}
        messages = [turn] if system is None else [{"role": "system", "content": system}, turn]
        return await self._render(messages, prompt=True)

    def _image_token(self) -> str:
        """Return the token that stands for an image.

        Raises:
            ModelUnavailable: The model's configuration names none.
        """
        config = self._llm.vllm_config.model_config.hf_config
        numbers = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
        number = next((number for number in numbers if isinstance(number, int)), None)
        if number is None:
            raise ModelUnavailable(f"model {self._model}: its chat template has no place for an image")
        return str(self._tokenizer.convert_ids_to_tokens(number))

    async def _render(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        """Return messages as the chat template writes them; with `prompt`, up to where the reply begins."""
        from vllm.renderers.params import ChatParams

        options = ChatParams(
            chat_template_kwargs={**self._template, "add_generation_prompt": prompt, "tokenize": False}
        )
        try:
            _, rendered = await self._llm.renderer.render_messages_async(messages, options)
        except Exception as error:
            raise ModelUnavailable(
                f"model {self._model}: its chat template does not take an image and a text: {one_line(error)}"
            ) from error
        return str(rendered["prompt"])


def _spellings(added: Collection[Any]) -> set[str]:
    """Return the tokens of a tokenizer that no text may spell.

    Not every tokenizer calls all of its own special: InternVL's does not "<video>", nor some of DeepSeek's the token
    that begins the user's turn. The marks that GLM puts around an answer are left out, because a reply that is given
    has them as its own.
    """
    usual = {str(token) for token in added if USUAL.fullmatch(str(token))}
    return {str(token) for token in added if token.special} | (usual - {"<|begin_of_box|>", "<|end_of_box|>"})


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _has_date(text: str) -> bool:
    today = datetime.date.today()
    return any(today.strftime(form) in text for form in DATES)
