"""The file of a prompt pack: the templates of every call to a model, section by section."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from synthgen.config.families import Form
from synthgen.config.library import Section
from synthgen.config.manners import Manner
from synthgen.config.replies import Style

SystemUse = Literal["ask", "answer", "judge", "blind"]


class AskPrompt(Section):
    """The call that asks for questions of one type."""

    text: str
    parse: Style
    none: str | None = None  # with `lines`: the reply by which the model declines; JSON has an empty list
    max_tokens: int = Field(default=512, gt=0)

    @model_validator(mode="after")
    def _check_none(self) -> "AskPrompt":
        if self.none is not None and self.parse != "lines":
            raise ValueError(f"`none` needs `parse: lines`; with {self.parse} the model declines in its JSON")
        return self


class AnswerPrompt(Section):
    """The call that asks for the answer to a question, in one answer form."""

    text: str
    max_tokens: int = Field(gt=0)
    turn: str | None = None  # the user's words in the training sample; by default the question and its options
    wordings: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # language -> values of `wording` in `turn`

    @model_validator(mode="after")
    def _check_wordings(self) -> "AnswerPrompt":
        if empty := [language for language, texts in self.wordings.items() if not texts]:
            raise ValueError(f"wordings: no wording for {', '.join(empty)}")
        return self


class ReasoningPrompt(Section):
    """The call that works an answer out; its reply ends with a line `Answer: …`."""

    text: str
    max_tokens: int = Field(gt=0)


class UnanswerablePrompt(Section):
    """The answer to a question that its image cannot answer: a call, or whole replies that need none."""

    text: str | None = None
    max_tokens: int = Field(default=128, gt=0)
    replies: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # language -> replies, of which one is drawn

    @model_validator(mode="after")
    def _check_replies(self) -> "UnanswerablePrompt":
        if empty := [language for language, texts in self.replies.items() if not texts]:
            raise ValueError(f"replies: no reply for {', '.join(empty)}")
        if self.text is None and not self.replies:
            raise ValueError("give a text, by which the model answers, or replies")
        return self


class PlainPrompt(Section):
    """A call for a score whose reply is plain text."""

    text: str
    max_tokens: int = Field(default=128, gt=0)


class JudgePrompt(Section):
    """A call whose reply is read as the probabilities of labels, worst first, each one token."""

    text: str
    labels: tuple[str, ...] = Field(min_length=2)


def kind_of_judge(value: Any) -> str:
    """Return which prompt an entry of `judge` is: with labels, or one whose reply is read as text."""
    is_plain = isinstance(value, PlainPrompt) or (
        isinstance(value, Mapping) and "max_tokens" in value and "labels" not in value
    )
    return "PlainPrompt" if is_plain else "JudgePrompt"


class SystemTexts(Section):
    """System texts by what a call is for, where they differ. An image is computed anew for each that differs."""

    ask: str | None = None
    answer: str | None = None
    judge: str | None = None
    blind: str | None = None  # of calls without the image


class PackFile(Section):
    """The contents of prompts/NAME.yaml."""

    about: str
    families: tuple[str, ...] = Field(min_length=1)
    system: str | SystemTexts | None = None
    voices: tuple[Manner, ...] = ()  # who asks; `voice` in the asking prompts is one of those that suit the type
    levels: tuple[Manner, ...] = ()  # how hard the question is; `level` in the asking prompts is one that suits it
    ask: AskPrompt
    ask_choice: AskPrompt | None = None
    answer: dict[Form, AnswerPrompt]
    reasoning: ReasoningPrompt | None = None  # for types with `reasons`
    unanswerable: UnanswerablePrompt | None = None  # for negatives
    paraphrase: PlainPrompt | None = None
    judge: dict[
        str,
        Annotated[
            Annotated[JudgePrompt, Tag("JudgePrompt")] | Annotated[PlainPrompt, Tag("PlainPrompt")],
            Discriminator(kind_of_judge),
        ],
    ] = Field(default_factory=dict)  # by names that scores use; job/scores.py refuses others
    blind: PlainPrompt | None = None

    def system_for(self, use: SystemUse) -> str | None:
        """Return the system text of calls of this use."""
        return self.system if not isinstance(self.system, SystemTexts) else getattr(self.system, use)

    def score_prompt(self, key: str) -> JudgePrompt | PlainPrompt | None:
        """Return the prompt at `paraphrase`, `blind` or `judge.NAME`; None if the pack does not have it."""
        section, _, name = key.partition(".")
        if section == "judge":
            return self.judge.get(name)
        return {"paraphrase": self.paraphrase, "blind": self.blind}[key]
