"""What a pipeline file may say: its sections, their defaults, how it is loaded and what may be set from the command line.

Comes in: the name of a pipeline and `key=value` overrides. Goes out: a frozen Pipeline. Sections stand in the order of
the stages and have their names. Settings that shape rows are part of a table's fingerprint (`_shape` in job/job.py says
which); those that only say how fast or where (`workers`, `batch`, most of `engine`) can change between two starts of one run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from synthgen.config import library
from synthgen.config.fields import (
    AnswerForm,
    BaseUrls,
    Expressions,
    FormShares,
    ImageFormat,
    Language,
    Shares,
    Taggers,
    TemplateOptions,
    Uri,
    Variables,
)
from synthgen.config.library import Section
from synthgen.config.strict_yaml import Document, parse
from synthgen.errors import UserMistake, attempted
from synthgen.tables import ANSWER_FORMS


class SourceConfig(Section):
    """Where the images are: a folder, a glob, an s3:// or gs:// prefix, a Parquet file or a folder of them, or urls:FILE."""

    uri: Uri | None = None  # usually given on the command line
    hosts: tuple[str, ...] = ()  # of a list of URLs: what may be fetched from, as example.org or *.example.org
    suffixes: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
    image_column: str = "image"  # of Parquet: bytes, or the datasets library's struct of bytes and path
    meta_columns: tuple[str, ...] = ()  # of Parquet: carried along as source_meta
    sidecar: str | None = None  # suffix of a JSON file beside each image (".json"), carried along as source_meta


class ImagesConfig(Section):
    """What may be decoded, checked from the header before any pixel is, and what the models see of it."""

    formats: tuple[ImageFormat, ...] = Field(default=("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"), min_length=1)
    max_bytes: int = Field(default=64 * 2**20, gt=0)
    max_pixels: int = Field(default=100_000_000, gt=0)  # width x height of the file
    max_frames: int = Field(default=1000, gt=0)  # the first is taken
    min_side: int = Field(default=16, gt=0)
    max_aspect: float = Field(
        default=100.0, ge=1
    )  # longer side / shorter side; models refuse more, or see nothing in it
    decode_seconds: float = Field(default=20.0, gt=0)
    model_pixels: int = Field(default=1_003_520, gt=0)  # larger images are scaled down to this for the models


class TagConfig(Section):
    """Stage 1."""

    tagger: Taggers  # of several the tags are merged; each keeps its tagger's name
    workers: int = Field(default=1, gt=0)
    batch: int = Field(default=64, gt=0)
    gpus: float | None = Field(
        default=None, ge=0
    )  # per worker; without it an equal part of all GPUs, a quarter of one at most

    @property
    def taggers(self) -> tuple[str, ...]:
        """The names of all taggers."""
        return (self.tagger,) if isinstance(self.tagger, str) else self.tagger


class BalanceConfig(Section):
    """How strongly rare tags and types are favoured: 0 not at all, 1 in inverse proportion to their frequency."""

    tags: float = Field(
        default=0.0, ge=0, le=1
    )  # images with rare tags are asked more, others less; every image at least once
    types: float = Field(default=0.0, ge=0, le=1)  # each image is asked more of the rare types that suit it


class PlanConfig(Section):
    """Stage 2."""

    mapping: str
    per_image: int = Field(default=4, gt=0)  # questions; with balance.tags, of an image of ordinary tags
    per_type: int = Field(default=2, gt=0)  # at most so many questions of one type on one image
    forms: FormShares = Field(default_factory=lambda: {"short": 1.0, "brief": 1.0, "detailed": 1.0})
    languages: Shares = Field(default_factory=lambda: {"English": 1.0})
    near_duplicates: int = Field(default=4, ge=-1, le=16)  # perceptual hashes within so many bits; -1 keeps all
    balance: BalanceConfig = BalanceConfig()
    caps: Mapping[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict
    )  # type pattern -> at most so many questions in all
    share: float = Field(
        default=1.0, gt=0, le=1
    )  # of each type's questions, how many are kept; `synth plan --budget` finds it
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
    host_megabytes: int = Field(default=2048, gt=0)  # decoded images of the conversations in flight, per replica
    call_seconds: float = Field(default=600.0, gt=0)  # a call that takes longer has failed
    stall_seconds: float = Field(
        default=300.0, gt=0
    )  # without a reply to any of the calls in flight, after which the engine is replaced
    retries: int = Field(default=3, ge=0)
    template: TemplateOptions = Field(default_factory=dict)  # options of the chat template
    environment: Variables = Field(default_factory=dict)  # vllm: environment variables of the engine
    options: Mapping[str, Any] = Field(default_factory=dict)


class PriceConfig(Section):
    """What the engine costs, in any currency: machines by the hour, endpoints by the token. `synth plan` reads it."""

    currency: str = Field(default="USD", pattern="^[A-Za-z]{1,8}$")
    gpu_hour: float = Field(default=0.0, ge=0)  # of a replica, where it has no GPU
    prompt_million: float = Field(default=0.0, ge=0)  # tokens read that were not in the prefix cache
    cached_million: float = Field(default=0.0, ge=0)  # tokens read that were
    output_million: float = Field(default=0.0, ge=0)  # tokens written


class SamplingConfig(Section):
    """How replies are drawn. A temperature of 0 is greedy."""

    ask_temperature: float = Field(default=0.7, ge=0)
    answer_temperature: float = Field(default=0.0, ge=0)
    agree_temperature: float = Field(default=0.8, ge=0)
    agree_samples: int = Field(default=4, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)


class GenerateConfig(Section):
    """Stage 3."""

    model: str
    revision: str | None = None
    prompts: str
    engine: EngineConfig = EngineConfig()
    price: PriceConfig = PriceConfig()
    sampling: SamplingConfig = SamplingConfig()
    scores: tuple[str, ...] = ("likelihood",)


class Threshold(Section):
    """The values of a score that are kept."""

    min: float | None = None
    max: float | None = None
    forms: tuple[AnswerForm, ...] = ANSWER_FORMS  # to which answer forms it applies

    @model_validator(mode="after")
    def _in_order(self) -> "Threshold":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}, so no pair could be kept")
        return self


class SelectConfig(Section):
    """Stage 4."""

    keep: Mapping[str, Threshold] = Field(default_factory=dict)  # score name -> threshold
    min_question_characters: int = Field(default=6, ge=0)
    max_answer_characters: int = Field(default=8000, gt=0)
    forbidden: Expressions = ()  # regular expressions that no question or answer may match
    near_questions: float = Field(
        default=0.8, ge=0, le=1
    )  # Jaccard similarity from which one of an image is dropped; 1: equal only
    same_question: int | None = Field(default=None, gt=0)  # at most so many pairs with one wording over the whole set


class PackConfig(Section):
    """Stage 5."""

    workers: int = Field(default=1, gt=0)
    shard_megabytes: int = Field(default=400, gt=0)
    row_group_megabytes: int = Field(default=64, gt=0)
    images: Literal["original", "resized"] = "original"
    metadata: Literal["stripped", "kept"] = "stripped"  # EXIF and the like can tell where a photograph was taken
    max_turns: int = Field(default=16, gt=0)
    license: str | None = None  # of the data set; never guessed
    languages: tuple[Language, ...] = ()  # ISO 639 codes for the card; never guessed


class TrainConfig(Section):
    """After the stages: what `synth train` does with the shards."""

    what: Literal["all", "language", "projector"] = "all"  # what is learned; language: all but the vision tower
    steps: int = Field(default=300, gt=0)
    batch: int = Field(default=8, gt=0)  # samples a step
    micro_batch: int | None = Field(default=None, gt=0)  # samples at once on the device, where a batch does not fit
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(default=0.01, ge=0)
    max_tokens: int = Field(default=4096, gt=0)  # a longer sample is left out and counted
    model_pixels: int = Field(
        default=1_003_520, gt=0
    )  # larger images are scaled down to this before the model's own scaling
    seed: int = 0
    workers: int = Field(default=2, gt=0)  # threads that prepare batches
    checkpoint_every: int = Field(default=100, gt=0)  # steps


class LearnConfig(Section):
    """Before the stages: how `synth learn` makes a mapping of a seed set."""

    find_types: Literal["text", "model"] = "text"  # what sorts questions into types where the seed does not
    top_k: int = Field(default=8, gt=0)  # types a tag
    temperature: float = Field(
        default=1.0, ge=0.01
    )  # towards 0 a tag asks its strongest type alone, towards infinity all alike
    min_support: int = Field(default=3, gt=0)  # images from which on a tag and a type count as a pair
    merge_twins: bool = False  # make types one that differ by name alone


class Pipeline(Section):
    """A pipeline file."""

    about: str
    notice: str | None = None  # said before every run
    source: SourceConfig = SourceConfig()
    images: ImagesConfig = ImagesConfig()
    tag: TagConfig
    plan: PlanConfig
    generate: GenerateConfig
    select: SelectConfig = SelectConfig()
    pack: PackConfig = PackConfig()
    train: TrainConfig = TrainConfig()
    learn: LearnConfig = LearnConfig()


def load(name: str, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline of that name with `section.key=value` overrides, or all that is wrong with it."""
    return library.check(read(name, overrides), Pipeline)


def read(name: str, overrides: Sequence[str] = ()) -> Document:
    """The same, not yet checked; an override that cannot be applied is among the document's faults."""
    document = library.load("pipeline", name)
    for override in overrides:
        faults = list(document.faults)
        document = attempted(faults, partial(_with_override, document, override)) or replace(
            document, faults=tuple(faults)
        )
    return document


def _with_override(document: Document, override: str) -> Document:
    """The document with one key replaced; the value is read as YAML, as it would be in the file."""
    dotted, equals, text = override.partition("=")
    keys = tuple(dotted.split("."))
    if not equals or not all(keys):
        raise UserMistake(f"--set {override}: write it as section.key=value")
    try:
        parsed = parse(document.path, text)
        value = parsed.values if text else ""
    except UserMistake as error:
        raise UserMistake(f"--set {override}: the value is not YAML; put it in quotes if it is text") from error
    if parsed.faults:
        raise UserMistake(f"--set {unsigned(override)}: a key of the value is given twice")
    lines = {place: line for place, line in document.lines.items() if place[: len(keys)] != keys}
    for depth in range(1, len(keys) + 1):
        lines.setdefault(keys[:depth], f"--set {unsigned(override)}")
    return replace(document, values=_replaced(document.values, keys, value, override), lines=lines)


def unsigned(text: str) -> str:
    """What was typed, as a message may repeat it: without what stands where passwords and signatures do."""
    return re.sub(r"\?[^\s'\"\]]*", "?…", re.sub(r"://[^\s/@]+@", "://…@", text))


def _replaced(values: Any, keys: tuple[str, ...], value: Any, override: str) -> Any:
    if not keys:
        return value
    if not isinstance(values, Mapping):
        raise UserMistake(f"--set {override}: '{keys[0]}' cannot be set here, as what it would belong to holds no keys")
    return {**values, keys[0]: _replaced(values.get(keys[0], {}), keys[1:], value, override)}


def as_text(pipeline: Pipeline) -> str:
    """The pipeline with every default written out, as YAML."""
    return yaml.safe_dump(pipeline.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
