"""Mixture files: which output folders become one data set, stage by stage, and how much of each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from synthgen.config import library
from synthgen.config.fields import Language, Uri
from synthgen.config.library import Section
from synthgen.config.selection import Quotas
from synthgen.config.where import Where
from synthgen.errors import Mistakes, attempt

STAGES = 99  # of a training, at most


def _check_name(name: str) -> str:
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError(f"'{name}' is no name of a set; use letters, digits, - and _")
    return name


SetName = Annotated[str, AfterValidator(_check_name)]


class MixedSet(Section):
    """An output folder of a run or an import, and how much of it is taken."""

    folder: Uri
    stage: int = Field(default=1, ge=1, le=STAGES)  # of the training
    weight: float | None = Field(default=None, gt=0)  # share of the samples of its stage; None: all of it
    most: int | None = Field(default=None, gt=0)  # samples
    types: tuple[str, ...] = ("**",)  # patterns of the instruction types that are taken


class MixturePack(Section):
    """The shards and their card."""

    shard_megabytes: int = Field(default=400, gt=0)
    row_group_megabytes: int = Field(default=64, gt=0, le=1000)
    license: str | None = None  # of the whole, for the card; never guessed
    languages: tuple[Language, ...] = ()  # ISO 639 codes for the card; never guessed


class MixtureFile(Section):
    """The contents of pipelines/mixtures/NAME.yaml."""

    about: str
    sets: Mapping[SetName, MixedSet] = Field(min_length=1)
    same_pair: int | None = Field(default=4, ge=0, le=16)  # bits, as of select; None: sets are not compared
    where: Where | None = None  # the licences and sources of the images that are taken, as of select
    quotas: Quotas = Quotas()  # of each stage
    seed: int = 0  # of what is drawn
    pack: MixturePack = MixturePack()


def load(name: str, home: Path = Path()) -> MixtureFile:
    """Load a mixture.

    Raises:
        Mistakes: Every mistake in its file.
    """
    document = library.load("mixture", name, home)
    faults: list[str] = []
    mixture = attempt(faults, lambda: library.check(document, MixtureFile))
    faults += [f"{document.where(('quotas',))}: {fault}" for fault in _quota_faults(mixture)] if mixture else []
    if faults:
        raise Mistakes(faults)
    assert mixture
    return mixture


def _quota_faults(mixture: MixtureFile) -> Iterator[str]:
    for kind, pattern, quota in mixture.quotas.all():
        if quota.by:
            yield f"quotas.{kind}s.{pattern}.by: the scores of several folders cannot be compared; leave it out"
