"""What a pair is worth: one function a score.

Comes in: a Pair just answered, and the Talk it came from. Goes out: a row of `3-generated/scores/<name>`. A score is
measured here and judged in stages/select.py, because a measurement is expensive and a threshold is an opinion. A scorer whose call
fails gives a row without a value that says why. Scores on the generating model run inside the conversation, while its
caches still hold the image.
"""

import asyncio
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL.Image import Image

from synthgen.config.families import InstructionType
from synthgen.config.pipeline import SamplingConfig
from synthgen.config.prompt_pack import PackFile, Prompts, render
from synthgen.config.replies import Question, letter_of
from synthgen.engines import Capability, Engine, Purpose, Reply, Request
from synthgen.tables import draw

REFUSED = "content_filter"  # how the chat protocol says that a model will not reply
THOUGHTS = (
    "<think>",
    "</think>",
)  # around what a model thinks before it replies; some templates write the first themselves


@dataclass(frozen=True)
class ImageSession:
    """An image in front of an engine: what every call about it shares."""

    engine: Engine
    prompts: Prompts
    sampling: SamplingConfig
    seed: int
    image: Image
    key: str

    async def say(self, request: Request) -> Reply:
        """A call about the image."""
        return await self.engine.generate(
            replace(request, image=self.image, image_key=self.key, system=self.prompts.pack.system)
        )

    async def say_blind(self, request: Request) -> Reply:
        """A call that does not see the image."""
        return await self.engine.generate(replace(request, system=self.prompts.pack.system))

    async def answer(
        self, question: Question, form: str, language: str, *, seed: int, temperature: float | None = None
    ) -> Reply:
        """An answer to a question in the given form."""
        prompt = self.prompts.pack.answer[form]  # type: ignore[index]
        warmth = self.sampling.answer_temperature if temperature is None else temperature
        purpose: Purpose = "answer" if temperature is None else "sample"
        request = Request(
            purpose,
            answer_text(self.prompts, question, form, language),
            prompt.max_tokens,
            temperature=warmth,
            seed=seed,
        )
        return await self.say(replace(request, top_p=self.sampling.top_p))


@dataclass(frozen=True)
class Pair:
    """A question and the reply that answers it."""

    pair_id: str
    assignment_id: str
    type: InstructionType
    form: str
    language: str
    question: Question
    reply: Reply


@dataclass(frozen=True)
class Score:
    """A value, or the reason why there is none; `detail` says what the value was made of."""

    value: float | None
    reason: str | None = None
    detail: Mapping[str, Any] | None = None
    output_tokens: int = 0


def fault(reply: Reply, what: str) -> tuple[str, str] | None:
    """Why a reply (`what` names it) is not all that was asked for, as one of tables.FAILURE_REASONS and its detail; None if it is."""
    if reply.failure:
        return reply.failure, reply.detail or "the engine does not say why"
    if reply.finish == REFUSED:
        return "refused", f"a filter held back {what}"
    if any(mark in reply.text for mark in THOUGHTS):
        return (
            "unparsable",
            f"{what} holds what the model thinks (<think>); generate.engine.template can say {{enable_thinking: false}}",
        )
    return ("cut_off", f"{what} reached max_tokens") if reply.finish == "length" else None


def answer_text(prompts: Prompts, question: Question, form: str, language: str) -> str:
    """The text of an answering call."""
    text = prompts.pack.answer[form].text  # type: ignore[index]
    return render(text, question=question.text, options=list(question.options), language=language)


async def likelihood(talk: ImageSession, pair: Pair) -> Score:
    """The geometric mean probability of the answer's tokens, as the answering call drew them; costs no call."""
    if wrong := fault(pair.reply, "the answer"):
        return Score(None, ": ".join(wrong))
    if not pair.reply.logprobs:
        return Score(None, pair.reply.detail or "the engine gave no log-probabilities")
    return Score(
        math.exp(_mean(pair.reply.logprobs)),
        None,
        {"tokens": len(pair.reply.logprobs), "worst": math.exp(min(pair.reply.logprobs))},
    )


async def agreement(talk: ImageSession, pair: Pair) -> Score:
    """Self-consistency (arXiv 2203.11171): mean similarity of the answer to answers sampled anew."""
    settings = talk.sampling
    seeds = [
        int(draw(talk.seed, "agree", pair.pair_id, str(number)) * 2**31) for number in range(settings.agree_samples)
    ]
    replies = await asyncio.gather(
        *(
            talk.answer(pair.question, pair.form, pair.language, seed=seed, temperature=settings.agree_temperature)
            for seed in seeds
        )
    )
    # A sample that was cut off is another answer than the pair's, which was not, and is compared as it stands.
    faults = (fault(reply, "a sample") for reply in replies)
    if wrong := next((one for one in faults if one and one[0] != "cut_off"), None):
        return Score(None, ": ".join(wrong))
    alike = [similarity(pair.reply.text, reply.text, pair.form) for reply in replies]
    return Score(
        _mean(alike),
        None,
        {"samples": [reply.text for reply in replies]},
        sum(reply.output_tokens for reply in replies),
    )


async def paraphrase(talk: ImageSession, pair: Pair) -> Score:
    """Similarity of the answer to the answer of the same question in other words."""
    prompt = talk.prompts.pack.paraphrase
    if prompt is None:
        return Score(None, f"prompt pack '{talk.prompts.name}' has no paraphrase prompt")
    text = render(prompt.text, question=pair.question.text, language=pair.language)
    other = await talk.say(Request("paraphrase", text, prompt.max_tokens))
    if wrong := fault(other, "the paraphrase"):
        return Score(None, ": ".join(wrong))
    if not other.text:
        return Score(None, "the paraphrase is empty")
    again = await talk.answer(replace(pair.question, text=other.text), pair.form, pair.language, seed=0)
    if wrong := fault(again, "the answer to the paraphrase"):
        return Score(None, ": ".join(wrong))
    detail = {"question": other.text, "answer": again.text}
    return Score(
        similarity(pair.reply.text, again.text, pair.form), None, detail, other.output_tokens + again.output_tokens
    )


async def image_gain(talk: ImageSession, pair: Pair) -> Score:
    """How much likelier a token of the answer is with the image than without, on average, in nats."""
    if wrong := fault(pair.reply, "the answer"):
        return Score(None, ": ".join(wrong))
    if not pair.reply.logprobs:
        return Score(None, pair.reply.detail or "the engine gave no log-probabilities")
    text = answer_text(talk.prompts, pair.question, pair.form, pair.language)
    blind = await talk.say_blind(Request("given", text, 1, given=pair.reply.text))
    if wrong := fault(blind, "the blind call"):
        return Score(None, ": ".join(wrong))
    unseen = blind.logprobs[:-1]  # the token that ends the reply is no part of what is said
    if not unseen:
        return Score(None, "the engine gave no log-probabilities of the answer without the image")
    seen = pair.reply.logprobs[: len(unseen)]
    return Score(_mean(seen) - _mean(unseen), None, {"with": _mean(seen), "without": _mean(unseen)})


async def question(talk: ImageSession, pair: Pair) -> Score:
    """The judge's expected label for the question: relevant, answerable, of the asked type."""
    return await _judged(talk, "question", {"question": _with_options(pair.question), "type": pair.type})


async def answer(talk: ImageSession, pair: Pair) -> Score:
    """The judge's expected label for the answer: correct, complete, grounded in the image."""
    return await _judged(
        talk, "answer", {"question": _with_options(pair.question), "answer": pair.reply.text, "type": pair.type}
    )


async def blind(talk: ImageSession, pair: Pair) -> Score:
    """1 where the answer without the image is another one, 0 where it is the same: whether the image is needed."""
    prompt = talk.prompts.pack.blind
    if prompt is None:
        return Score(None, f"prompt pack '{talk.prompts.name}' has no blind prompt")
    text = render(prompt.text, question=_with_options(pair.question), language=pair.language)
    reply = await talk.say_blind(Request("answer", text, prompt.max_tokens))
    if wrong := fault(reply, "the blind answer"):
        return Score(None, ": ".join(wrong))
    return Score(
        1.0 - similarity(pair.reply.text, reply.text, pair.form), None, {"answer": reply.text}, reply.output_tokens
    )


SCORERS: Mapping[str, Callable[[ImageSession, Pair], Awaitable[Score]]] = {
    "likelihood": likelihood,
    "agreement": agreement,
    "paraphrase": paraphrase,
    "image_gain": image_gain,
    "question": question,
    "answer": answer,
    "blind": blind,
}
OF_LOGPROBS = ("likelihood", "image_gain")  # made of the answering call's log-probabilities
NEEDS: Mapping[str, Capability] = {"image_gain": "given", "question": "labels", "answer": "labels"}


def shaping(name: str, pack: PackFile, sampling: SamplingConfig) -> Any:
    """What shapes the values of a score beyond the pair itself."""
    prompts = {
        "paraphrase": pack.paraphrase,
        "blind": pack.blind,
        "question": pack.judge.get("question"),
        "answer": pack.judge.get("answer"),
    }
    if name == "agreement":
        return sampling.model_dump(mode="json", include={"agree_temperature", "agree_samples"})
    prompt = prompts.get(name)
    return [pack.system, prompt.model_dump(mode="json")] if prompt else []


async def score(name: str, talk: ImageSession, pair: Pair) -> dict[str, Any]:
    """The row of one score of one pair."""
    found = await SCORERS[name](talk, pair)
    return {
        "pair_id": pair.pair_id,
        "assignment_id": pair.assignment_id,
        "value": found.value,
        "reason": found.reason,
        "detail": json.dumps(found.detail, ensure_ascii=False) if found.detail else None,
        "output_tokens": found.output_tokens,
    }


def similarity(one: str, other: str, form: str = "short") -> float:
    """Overlap of what two replies come to: F1 over their words, 1 for equal and 0 for nothing in common (as SQuAD does)."""
    mine, theirs = normal(decisive(one, form)).split(), normal(decisive(other, form)).split()
    if mine == theirs:
        return 1.0
    shared = sum((Counter(mine) & Counter(theirs)).values())
    return 2 * shared / (len(mine) + len(theirs)) if shared else 0.0


def decisive(reply: str, form: str) -> str:
    """The part of a reply that decides: the letter of a choice; the last line of an explanation, where the prompts want
    the answer. A list or a table has no such line and counts as a whole."""
    if form == "choice" and (letter := letter_of(reply)):
        return letter
    lines = [line for line in reply.splitlines() if line.strip()]
    if form in ("brief", "detailed") and len(lines) > 1 and not _LIST_ITEM.match(lines[-1]):
        return lines[-1]
    return reply


_LIST_ITEM = re.compile(r"\s*(?:[-*•+]\s|\d+[.)]\s|\|)")
_NUMBER = re.compile(r"[+\-]?\d+(?:\.\d+)*%?")
# Chinese, Japanese, Thai, Lao, Burmese, Khmer: written without blanks, so their characters are compared.
_UNSPACED = re.compile(
    "([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])"
)


def normal(text: str) -> str:
    """Text without case, English articles, punctuation and double blanks, as SQuAD compares answers (arXiv 1606.05250).

    Numbers keep their sign, point and percent. Scripts without blanks come out a character a word, as in MLQA (1910.07475).
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("\u2212", "-")
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain)
    plain = _UNSPACED.sub(r" \1 ", "".join(character if _is_kept(character) else " " for character in plain))
    words = [word for chunk in plain.split() for word in _words(chunk)]
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)


def _is_kept(character: str) -> bool:
    # Marks are the vowels of many scripts.
    return character.isalnum() or character in "+-.%" or unicodedata.category(character)[0] == "M"


def _words(chunk: str) -> list[str]:
    """A number as it is; signs and points inside or around anything else only part it."""
    bare = chunk.rstrip(".")
    return [bare] if _NUMBER.fullmatch(bare) else [word for word in re.split(r"[+\-.%]+", chunk) if word]


async def _judged(talk: ImageSession, name: str, values: dict[str, Any]) -> Score:
    """The expected label, 1 for the worst, from the probabilities of the labels; `mass` is how much of all they cover."""
    judge = talk.prompts.pack.judge.get(name)  # type: ignore[call-overload]
    if judge is None:
        return Score(None, f"prompt pack '{talk.prompts.name}' has no judge prompt '{name}'")
    reply = await talk.say(Request("judge", render(judge.text, **values), 1, labels=judge.labels))
    # Of a judgement one token is wanted, so it always comes cut off.
    if (wrong := fault(reply, "the judgement")) and wrong[0] != "cut_off":
        return Score(None, ": ".join(wrong))
    shares = [reply.labels.get(label, 0.0) for label in judge.labels]
    mass = sum(shares)
    if mass <= 0:
        return Score(None, f"the judge said {reply.text!r}, none of its labels")
    expected = sum(place * share for place, share in enumerate(shares, 1)) / mass
    return Score(expected, None, {"mass": round(mass, 4)}, 1)


def _with_options(question: Question) -> str:
    lines = [f"{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", question.options, strict=False)]
    return "\n".join([question.text, *lines])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
