"""Settings of tagging and planning: which tags an image has, and which questions it is asked."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from synthgen.config.families import Sensitive
from synthgen.config.fields import FormShares, Shares, Taggers, Uri
from synthgen.config.library import Section
from synthgen.config.where import Where


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
    where: Where | None = None  # the licences and sources of the images that are asked about
    allow: tuple[Sensitive, ...] = ()  # kinds of sensitive types that are asked; medical needs a second model
    seed: int = 0


class LearnConfig(Section):
    """`synth learn`, before the stages: a mapping learned from a seed data set."""

    find_types: Literal["text", "model"] = "text"  # how to find the type of a question whose type the seed lacks
    top_k: int = Field(default=8, gt=0)  # types per tag
    temperature: float = Field(default=1.0, ge=0.01)  # near 0 a tag asks only its strongest type; high: all equally
    min_support: int = Field(default=3, gt=0)  # fewest images with a tag and a type for the pair to count
    merge_twins: bool = False  # merge types that differ only by name
