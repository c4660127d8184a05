"""Settings of packing: the kept pairs as shards."""

from typing import Literal

from pydantic import Field

from synthgen.config.fields import Language
from synthgen.config.library import Section


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
