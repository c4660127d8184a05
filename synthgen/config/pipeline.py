"""Pipeline files: their sections in the order of the stages, every setting with its default, and `--set` overrides.

Settings that shape rows are part of a table's fingerprint (`_shape` in job/job.py lists them). The others only decide
speed and place (`workers`, `batch`, most of `engine`) and can change between two starts of one run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from synthgen.config import library
from synthgen.config import overrides as overriding
from synthgen.config.deduplication import (
    DecontaminateConfig,
    NearAnswersConfig,
    NearQuestionsConfig,
    OpeningsConfig,
)
from synthgen.config.families import Sensitive
from synthgen.config.fields import (
    AnswerForm,
    BaseUrls,
    Expressions,
    FormShares,
    ImageFormat,
    Language,
    PassName,
    Scores,
    Shares,
    Taggers,
    TemplateOptions,
    Uri,
    Variables,
)
from synthgen.config.library import Section
from synthgen.config.selection import (
    PLAIN_SELECTION,
    AnswerBalance,
    Functions,
    KeepRule,
    Quotas,
    Threshold,
    ViewName,
)
from synthgen.config.strict_yaml import Document
from synthgen.config.training_methods import LengthsConfig, MixtureConfig, RetainConfig, RoutersConfig
from synthgen.errors import attempt, nearest
from synthgen.tables import ANSWER_FORMS

UNANSWERABLE_SCORE = "unanswerable"  # by which negatives are verified


REASKED = (  # reasons of `select`, or what stands before their colon, that another answer can change
    *("score", "rank", "user", "rule:meta", "rule:loops", "rule:repeats_question", "rule:wrong_language"),
    *("rule:broken_choice", "rule:wrong_key", "rule:broken_places", "rule:not_as_planned", "rule:answer_too_long"),
)


class SourceConfig(Section):
    """The place of the images: a folder, a glob, a prefix of a store, Parquet files, manifest:FILE or urls:FILE."""

    uri: Uri | None = None  # usually given on the command line
    hosts: tuple[str, ...] = ()  # for urls:FILE and manifest:FILE: allowed hosts, as example.org or *.example.org
    path_column: str | None = None  # for manifest:FILE; by default the first that is there of those that are usual
    root: Uri | None = None  # for manifest:FILE: where its paths start and must stay; by default its own folder
    suffixes: tuple[str, ...] = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
    image_column: str = "image"  # for Parquet: bytes, or the datasets library's struct of bytes and path
    meta_columns: tuple[str, ...] = ()  # for Parquet and manifest:FILE: columns kept as source_meta
    sidecar: str | None = None  # suffix of a JSON file beside each image (".json": x.json or x.jpg.json)


class ImagesConfig(Section):
    """Limits on images, checked in the file's header before any pixel is decoded, and the size that models see."""

    formats: tuple[ImageFormat, ...] = Field(default=("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"), min_length=1)
    max_bytes: int = Field(default=64 * 2**20, gt=0, le=2**32)  # of the file
    max_pixels: int = Field(default=100_000_000, gt=0)  # width x height
    max_frames: int = Field(default=1000, gt=0)  # of an animation, of which only the first frame is used
    min_side: int = Field(default=16, gt=0)  # pixels
    max_aspect: float = Field(default=100.0, ge=1)  # longer / shorter side; models refuse or misread longer images
    decode_seconds: float = Field(default=20.0, gt=0, le=86_400)  # then the decoder is killed
    model_pixels: int = Field(default=1_003_520, gt=0, le=10**8)  # larger images are scaled down to this for the models


class TagConfig(Section):
    """Stage 1, tag: which tags each image has."""

    tagger: Taggers  # the tags of several taggers are merged; each tag keeps the name of its tagger
    workers: int = Field(default=1, gt=0)  # Ray actors
    batch: int = Field(default=64, gt=0)  # images per call of the tagger
    gpus: float | None = Field(default=None, ge=0)  # per worker; by default an equal share of all GPUs, at most 0.25

    @property
    def taggers(self) -> tuple[str, ...]:
        """The names of all taggers."""
        return (self.tagger,) if isinstance(self.tagger, str) else self.tagger


class BalanceConfig(Section):
    """How strongly rare tags and types are favoured: 0 not at all, 1 in inverse proportion to their frequency."""

    tags: float = Field(default=0.0, ge=0, le=1)  # more questions for images with rare tags; at least one for each
    types: float = Field(default=0.0, ge=0, le=1)  # more questions of the rare types that suit an image


class PlanConfig(Section):
    """Stage 2, plan: which instruction types each image is asked."""

    mapping: str
    per_image: int = Field(default=4, gt=0)  # questions; with balance.tags, for an image with average tags
    per_type: int = Field(default=2, gt=0, le=1000)  # most questions of one type for one image
    forms: FormShares = Field(default_factory=lambda: {"short": 1.0, "brief": 1.0, "detailed": 1.0})
    languages: Shares = Field(default_factory=lambda: {"English": 1.0})
    near_duplicates: int = Field(default=4, ge=-1, le=16)  # differing bits of near hashes; -1 keeps all images
    semantic_duplicates: float | None = Field(default=None, gt=0, le=1)  # cosine of embeddings of near images
    against: tuple[Uri, ...] = ()  # output folders whose planned images come before all of this run
    balance: BalanceConfig = BalanceConfig()
    caps: Mapping[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)  # type pattern -> most questions
    share: float = Field(default=1.0, gt=0, le=1)  # part of each type's questions to keep; see `synth plan --budget`
    side_tags: float = Field(default=0.25, ge=0, le=1)  # least factor on a rule whose tags score below the image's best
    most_a_parent: int = Field(default=3, gt=0)  # leaf tags below one parent that rules see, the best of an image
    negatives: float = Field(default=0.0, ge=0, le=0.5)  # part of all questions that their image cannot answer
    allow: tuple[Sensitive, ...] = ()  # kinds of sensitive types that are asked; medical needs a second model
    seed: int = 0


class EngineConfig(Section):
    """What serves the model. `options` go to vLLM's engine arguments, or into the calls of an endpoint, as they are."""

    kind: str = "vllm"  # the kinds, and which settings each needs: engines/kinds.py
    urls: BaseUrls = ()  # of endpoints
    key_env: str = "OPENAI_API_KEY"  # endpoint: the environment variable that holds the key, if there is one
    script: str | None = None  # the earlier spelling of kind: module:Class, with kind: scripted
    replicas: int = Field(default=1, gt=0)
    gpus: float = Field(default=1, ge=0)  # per replica; above 1 means tensor parallel
    cpus: float = Field(default=1, ge=0)
    in_flight: int | None = Field(default=None, gt=0)  # conversations at once; by default from the KV cache
    image_tokens: int | None = Field(default=1280, ge=200)  # vllm: of an image at most; None: the model's own settings
    host_megabytes: int = Field(default=2048, gt=0)  # decoded images of the conversations in flight, per replica
    call_seconds: float = Field(default=600.0, gt=0)  # then the call has failed
    stall_seconds: float = Field(default=300.0, gt=0)  # without a reply to any call; then the engine is replaced
    retries: int = Field(default=3, ge=0)
    template: TemplateOptions = Field(default_factory=dict)  # options of the chat template
    environment: Variables = Field(default_factory=dict)  # vllm: environment variables of the engine
    options: Mapping[str, Any] = Field(default_factory=dict)


class PriceConfig(Section):
    """The price of the engine for `synth plan`, in any currency: by the GPU-hour, by the token, or both."""

    currency: str = Field(default="USD", pattern="^[A-Za-z]{1,8}$")
    gpu_hour: float = Field(default=0.0, ge=0)  # per replica-hour where a replica has no GPU
    prompt_million: float = Field(default=0.0, ge=0)  # prompt tokens that are not in the prefix cache
    cached_million: float = Field(default=0.0, ge=0)  # prompt tokens that are
    output_million: float = Field(default=0.0, ge=0)  # tokens written


class SamplingConfig(Section):
    """The sampling of replies. A temperature of 0 is greedy."""

    ask_temperature: float = Field(default=0.7, ge=0)
    answer_temperature: float = Field(default=0.0, ge=0)
    agree_temperature: float = Field(default=0.8, ge=0)
    agree_samples: int = Field(default=4, gt=0, le=1000)
    agree_forms: tuple[AnswerForm, ...] = ANSWER_FORMS  # whose answers are sampled again
    top_p: float = Field(default=1.0, gt=0, le=1)


class PartConfig(Section):
    """Another model for one part of stage 3; without an engine or a price of its own it has those of `generate`."""

    model: str
    revision: str | None = None
    engine: EngineConfig | None = None
    price: PriceConfig | None = None


class GenerateConfig(Section):
    """Stage 3, generate: questions, answers and scores from a model, or from one that asks and one that answers."""

    model: str  # not needed where both `ask` and `answer` name one
    revision: str | None = None
    prompts: str
    engine: EngineConfig = EngineConfig()
    price: PriceConfig = PriceConfig()
    sampling: SamplingConfig = SamplingConfig()
    scores: tuple[str, ...] = ("likelihood",)
    gate: Mapping[str, Threshold] = Field(default_factory=dict)  # score of a question -> range in which it is answered
    unanswerable: float = Field(default=0.7, ge=0, le=1)  # least of this score with which a negative is answered
    ask: PartConfig | None = None  # writes the questions in place of `model`
    answer: PartConfig | None = None  # answers and scores in place of `model`

    @model_validator(mode="before")
    @classmethod
    def _fill_unused_model(cls, values: Any) -> Any:
        """Let the model that answers stand for `model` where another asks, so that `model` itself serves nothing."""
        named = values if isinstance(values, Mapping) else {}
        ask, answer = (named.get(part) for part in ("ask", "answer"))
        if isinstance(ask, Mapping) and isinstance(answer, Mapping) and {"model"} <= ask.keys() & answer.keys():
            return {"model": answer["model"], **named}
        return values

    @model_validator(mode="after")
    def _check_currencies(self) -> "GenerateConfig":
        _check_one_currency([self.asker.price, self.answerer.price])
        return self

    @property
    def asker(self) -> "GenerateConfig":
        """This section as it is for the model that asks."""
        return self._of(self.ask)

    @property
    def answerer(self) -> "GenerateConfig":
        """This section as it is for the model that answers and scores."""
        return self._of(self.answer)

    @property
    def is_split(self) -> bool:
        """Whether one engine asks and another answers, each in a pass of its own."""
        ask, answer = self.asker, self.answerer
        return (ask.model, ask.revision, ask.engine) != (answer.model, answer.revision, answer.engine)

    def _of(self, part: PartConfig | None) -> "GenerateConfig":
        if part is None:
            return self.model_copy(update={"ask": None, "answer": None})
        own = {"engine": part.engine or self.engine, "price": part.price or self.price}
        return self.model_copy(
            update={"model": part.model, "revision": part.revision, **own, "ask": None, "answer": None}
        )


def _check_one_currency(prices: Sequence[PriceConfig]) -> None:
    currencies = list(dict.fromkeys(price.currency for price in prices))
    if len(currencies) > 1:
        raise ValueError(f"the prices are in {' and '.join(currencies)}, which cannot be added; use one currency")


class PassConfig(Section):
    """A model that measures scores of pairs that are there; what it does not name is as in `generate`."""

    model: str
    revision: str | None = None
    scores: Scores = Field(min_length=1)
    prompts: str | None = None
    engine: EngineConfig | None = None
    price: PriceConfig | None = None
    sampling: SamplingConfig | None = None


class ReaskConfig(Section):
    """`synth reask`, after the stages: another answer, along a stronger path, for pairs that `select` dropped."""

    reasons: tuple[str, ...] = ("score", "rank")  # of `select`; with the name behind the colon, or all of a kind
    model: str | None = None  # by default the one that answers
    revision: str | None = None
    engine: EngineConfig | None = None
    price: PriceConfig | None = None
    samples: int = Field(default=5, gt=0)  # answers, of which that is taken which most of them give

    @field_validator("reasons")
    @classmethod
    def _check_reasons(cls, reasons: tuple[str, ...]) -> tuple[str, ...]:
        for reason in reasons:
            if not any(reason == known or reason.startswith(f"{known}:") for known in REASKED):
                raise ValueError(f"'{reason}' is no reason that another answer can change: {nearest(reason, REASKED)}")
        return reasons


class SelectConfig(Section):
    """Stage 4, select: which pairs are kept."""

    keep: Mapping[str, KeepRule] = Field(default_factory=dict)  # score, or PASS.SCORE -> range, share of the lowest
    min_question_characters: int = Field(default=6, ge=0)
    max_answer_characters: int = Field(default=8000, gt=0)
    forbidden: Expressions = ()  # regular expressions that no question or answer may match
    languages: tuple[str, ...] = ()  # of pairs that are kept; all where none is named
    functions: Functions = ()  # module:function, of your own; each says what it drops
    near_questions: float = Field(default=0.8, ge=0, le=1)  # Jaccard similarity that drops the second; 1: equal only
    # Of two questions on one image with the same short answer, the share of words that both have and that drops one.
    same_answer: float | None = Field(default=None, gt=0, le=1)
    same_question: int | None = Field(default=None, gt=0)  # most pairs with the same question in the whole data set
    global_questions: NearQuestionsConfig | None = None  # near questions of the whole set
    global_answers: NearAnswersConfig | None = None  # near answers of the whole set
    openings: OpeningsConfig | None = None  # questions that begin with the same words
    survivor: str | None = None  # score by which one of several duplicates is kept, the higher; then the id decides
    earlier_first: bool = True  # what an earlier selection decided on comes first, whatever its score
    against: tuple[Uri, ...] = ()  # output folders whose kept pairs come before all of this run
    decontaminate: DecontaminateConfig | None = None  # benchmark sets that no pair may come from
    balance: Mapping[str, AnswerBalance] = Field(default_factory=dict)  # type pattern -> of yes and no
    letters: float | None = Field(default=None, ge=1)  # most pairs with a letter of choice for each with the rarest
    quotas: Quotas = Quotas()

    @property
    def scores(self) -> list[tuple[str, str]]:
        """The scores that it reads, each with the place below `select` that names it."""
        by = [(f"balance.{pattern}.by", rule.by) for pattern, rule in self.balance.items()]
        by += [(f"quotas.{kind}s.{pattern}.by", quota.by) for kind, pattern, quota in self.quotas.all()]
        by += [("survivor", self.survivor)]
        return [*(("keep", name) for name in self.keep), *((place, name) for place, name in by if name)]


class PackConfig(Section):
    """Stage 5, pack: the kept pairs as shards of training samples."""

    workers: int = Field(default=1, gt=0)  # Ray actors
    shard_megabytes: int = Field(default=400, gt=0)
    row_group_megabytes: int = Field(default=64, gt=0, le=1000)  # readers cannot read 2 GB of images at once
    images: Literal["original", "resized"] = "original"
    metadata: Literal["stripped", "kept"] = "stripped"  # EXIF can reveal where a photograph was taken
    max_turns: int = Field(default=16, gt=0)  # pairs per sample
    worked: float = Field(default=0.0, ge=0, le=1)  # share of worked-out answers that samples show with the working
    license: str | None = None  # for the data set card; never guessed
    languages: tuple[Language, ...] = ()  # ISO 639 codes for the data set card; never guessed


class LoraConfig(Section):
    """Adapters of low rank beside frozen weights."""

    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0)  # the product of the two matrices counts alpha / rank


class TrainConfig(Section):
    """`synth train`, after the stages: training on the shards."""

    what: Literal["all", "language", "projector"] = "all"  # trained parameters; language: all but the vision tower
    lora: LoraConfig | None = None  # train adapters of that part in place of its weights
    steps: int = Field(default=300, gt=0)
    batch: int = Field(default=8, gt=0)  # samples per step
    micro_batch: int | None = Field(default=None, gt=0)  # samples on the device at once, where a batch does not fit
    pack_tokens: int | None = Field(default=None, gt=0)  # join samples into sequences up to this length, unpadded
    precision: Literal["float32", "bfloat16"] = "float32"  # of the weights; bfloat16 is rounded at random
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"  # 8bit: its two moments take a byte each
    recompute: bool = False  # activations in the backward pass: a third more time, far less memory
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(default=0.01, ge=0)
    max_tokens: int = Field(default=4096, gt=0)  # longer samples are skipped and counted
    # Larger images are scaled down to this before the model's own scaling.
    model_pixels: int = Field(default=1_003_520, gt=0, le=10**8)
    seed: int = 0
    workers: int = Field(default=2, gt=0)  # threads that prepare batches, in each process
    processes: int = Field(default=1, gt=0)  # that share a training, on Ray; each on a GPU where there are any
    checkpoint_every: int = Field(default=100, gt=0)  # steps
    score_after: int = Field(default=0, ge=0)  # samples that the finished model is tried on, for synth plan
    mixture: MixtureConfig | None = None  # move weights of types with what is still to be learned
    retain: RetainConfig | None = None  # keep an old skill
    lengths: LengthsConfig | None = None  # learn from pieces of conversations
    new_tokens: int | None = Field(default=None, gt=0)  # train these last tokens of the vocabulary alone
    routers: RoutersConfig | None = None  # keep those of a model of experts at work

    @model_validator(mode="after")
    def _check_methods(self) -> "TrainConfig":
        for name in ("retain", "new_tokens"):
            if getattr(self, name) and self.lora:
                raise ValueError(f"{name} and lora both say which weights may move; give one of them")
            if getattr(self, name) and self.processes > 1:
                raise ValueError(f"{name} is for one process; leave processes at 1")
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> "TrainConfig":
        if self.pack_tokens and self.micro_batch:
            raise ValueError("micro_batch and pack_tokens both say what is on the device at once; give one of them")
        if self.processes > 1 and (self.precision, self.optimizer) == ("bfloat16", "adamw_8bit"):
            raise ValueError(
                "precision bfloat16 with optimizer adamw_8bit is for one process; several share weights and moments, "
                "so use one of the two"
            )
        return self


class EvaluateConfig(Section):
    """`synth evaluate`, after the stages: a model is asked questions whose answers are known."""

    engine: EngineConfig | None = None  # of the models; by default that of `generate`
    wording: Literal["own", "plain", "lmms-eval", "vlmevalkit", "bare"] = "own"  # own: of shards as packed, else plain
    max_tokens: int = Field(default=256, gt=0)  # of a reply
    rotations: bool = True  # ask multiple choice under every rotation of the options (ShiftCheck)
    controls: tuple[Literal["blind", "swapped"], ...] = ("blind", "swapped")  # without the image, and with another one
    tolerance: float = Field(default=0.05, ge=0, lt=1)  # by which a number may be off, as a share of it
    seen: bool = False  # whether questions on images that a model was tuned on count
    resamples: int = Field(default=2000, ge=100, le=100_000)  # of the bootstrap over images
    seed: int = 0  # of the bootstrap, and of the images that are swapped


class LearnConfig(Section):
    """`synth learn`, before the stages: a mapping learned from a seed data set."""

    find_types: Literal["text", "model"] = "text"  # how to find the type of a question whose type the seed lacks
    top_k: int = Field(default=8, gt=0)  # types per tag
    temperature: float = Field(default=1.0, ge=0.01)  # near 0 a tag asks only its strongest type; high: all equally
    min_support: int = Field(default=3, gt=0)  # fewest images with a tag and a type for the pair to count
    merge_twins: bool = False  # merge types that differ only by name


class Pipeline(Section):
    """The contents of pipelines/NAME.yaml."""

    about: str
    notice: str | None = None  # printed before every run
    source: SourceConfig = SourceConfig()
    images: ImagesConfig = ImagesConfig()
    tag: TagConfig
    plan: PlanConfig
    generate: GenerateConfig
    score: Mapping[PassName, PassConfig] = Field(default_factory=dict)  # name of a pass -> its model and scores
    select: SelectConfig = SelectConfig()
    views: Mapping[ViewName, SelectConfig] = Field(default_factory=dict)  # name -> what differs from `select`
    view: str | None = None  # the current one
    pack: PackConfig = PackConfig()
    reask: ReaskConfig = ReaskConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    learn: LearnConfig = LearnConfig()

    @model_validator(mode="after")
    def _check_currencies(self) -> "Pipeline":
        _check_one_currency([self.generate.answerer.price, *(judge.price for judge in self.passes.values())])
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that the model which answers measures: those of `generate`, and that which verifies negatives."""
        own = self.generate.scores
        return (*own, UNANSWERABLE_SCORE) if self.plan.negatives and UNANSWERABLE_SCORE not in own else own

    @property
    def gate(self) -> dict[str, Threshold]:
        """The ranges of scores in which a question is answered."""
        bound = Threshold(min=self.generate.unanswerable)
        return {**self.generate.gate, **({UNANSWERABLE_SCORE: bound} if self.plan.negatives else {})}

    @property
    def reasker(self) -> GenerateConfig:
        """The section `generate` as it is for the model of `reask`."""
        own, settings = self.generate.answerer, self.reask
        named: dict[str, Any] = {"engine": settings.engine or own.engine, "price": settings.price or own.price}
        if settings.model:
            named |= {"model": settings.model, "revision": settings.revision}
        return own.model_copy(update=named)

    @property
    def parts(self) -> dict[str, GenerateConfig]:
        """The section `generate` as it is for each model, by the section of the file that names the model."""
        own = self.generate
        parts = {"generate.ask": own.asker, "generate.answer": own.answerer} if own.is_split else {}
        passes = {f"score.{name}": judge for name, judge in self.passes.items()}
        return {**(parts or {"generate": own.answerer}), **passes}

    @property
    def passes(self) -> dict[str, GenerateConfig]:
        """The scoring passes by name, each as the section `generate` would be for its model."""
        return {name: _as_generate(self.generate, settings) for name, settings in self.score.items()}

    @field_validator("view")
    @classmethod
    def _check_view(cls, name: str | None, info: ValidationInfo) -> str | None:
        known = info.data.get("views", {})
        if name in (None, PLAIN_SELECTION):
            return None
        if name not in known and "views" in info.data:
            raise ValueError(f"no view is called '{name}': {nearest(str(name), known)}")
        return name

    @field_serializer("views")
    def _dump_views(self, views: Mapping[str, SelectConfig]) -> dict[str, Any]:
        """Return the views with the settings that they name alone: the others are those of `select`."""
        return {name: view.model_dump(mode="json", include=view.model_fields_set) for name, view in views.items()}

    @property
    def selection(self) -> SelectConfig:
        """The settings of the current view."""
        return self.selection_of(self.view)

    def selection_of(self, view: str | None) -> SelectConfig:
        """Return the settings of a view: those that it names, each whole, and else those of `select`."""
        if view is None:
            return self.select
        own = self.views[view]
        return self.select.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _as_generate(generate: GenerateConfig, settings: PassConfig) -> GenerateConfig:
    """Return the section `generate` as it is for the model of a pass."""
    inherited = ("prompts", "engine", "price", "sampling")
    named = {name: getattr(settings, name) or getattr(generate, name) for name in inherited}
    own = {"model": settings.model, "revision": settings.revision, "scores": settings.scores}
    return generate.model_copy(update={**named, **own, "ask": None, "answer": None})


def second_model(pipeline: Pipeline) -> bool:
    """Return whether another model than the one that asks answers the questions."""
    return pipeline.generate.is_split


def load(name: str, overrides: Sequence[str] = ()) -> Pipeline:
    """Load a pipeline with `section.key=value` overrides.

    Raises:
        Mistakes: Every mistake in its file and in the overrides.
    """
    return library.check(read(name, overrides), Pipeline)


def read(name: str, overrides: Sequence[str] = ()) -> Document:
    """Read a pipeline unchecked; an override that cannot be applied is among the document's faults.

    Raises:
        UserMistake: There is no such file, or overrides name another kind of engine alone, or a model without a part.
    """
    document = library.load("pipeline", name)
    for override in overrides:
        faults = list(document.faults)
        edited = attempt(faults, partial(overriding.with_override, document, override))
        document = edited or replace(document, faults=tuple(faults))
    overriding.check_model_is_used(document, overrides)
    overriding.check_engine_kind(library.load("pipeline", name), document, EngineConfig().kind)
    return document
