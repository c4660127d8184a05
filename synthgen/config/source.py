"""Settings of the images: where they come from, and which are read."""

import re
from collections.abc import Mapping

from pydantic import Field, field_validator, model_validator

from synthgen.config.fields import ImageFormat, SourceName, Uri
from synthgen.config.library import Section
from synthgen.config.rows import RowsConfig


class PlaceConfig(Section):
    """One place of images: a folder, a glob, a prefix of a store, Parquet files, manifest:FILE or urls:FILE."""

    uri: Uri | None = None  # usually given on the command line
    hosts: tuple[str, ...] = ()  # for urls:FILE and manifest:FILE: allowed hosts, as example.org or *.example.org
    path_column: str | None = None  # for manifest:FILE; by default the first that is there of those that are usual
    root: Uri | None = None  # for manifest:FILE: where its paths start and must stay; by default its own folder
    suffixes: tuple[str, ...] = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
    image_column: str = "image"  # for Parquet: bytes, or the datasets library's struct of bytes and path
    meta_columns: tuple[str, ...] = ()  # for Parquet and manifest:FILE: columns kept as source_meta
    max_pages: int = Field(default=1000, gt=0)  # of a PDF; one with more is one object, which tagging quarantines
    use_reserved: bool = False  # also images that their file, metadata or server reserves from AI
    sidecar: str | None = None  # suffix of a JSON file beside each image (".json": x.json or x.jpg.json)
    rows: RowsConfig | None = None  # for instructions:SET: how its rows are read
    group_by: str | None = None  # images of one sample: a pattern of uris with a group named `set`, or a column
    group_most: int = Field(default=8, ge=2, le=32)  # images of one set; a larger one is left out, and counted

    @field_validator("sidecar")
    @classmethod
    def _check_sidecar(cls, value: str | None) -> str | None:
        if value and "." not in value:
            raise ValueError(f"is no suffix, which has a dot; did you mean '.{value}'?")
        return value

    @field_validator("group_by")
    @classmethod
    def _check_group_by(cls, value: str | None) -> str | None:
        if not value or "(" not in value:
            return value or None
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if "set" not in groups:
            raise ValueError("names no set; write (?P<set>…) around the part of a uri that images of a set share")
        return value


class SourceConfig(PlaceConfig):
    """The place of the images, or several places by name, each with settings of its own."""

    named: Mapping[SourceName, PlaceConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_one_or_several(self) -> "SourceConfig":
        if not self.named:
            return self
        for name, field in PlaceConfig.model_fields.items():
            if getattr(self, name) != field.default:
                raise ValueError(f"{name} stands beside named sources; give each of them its own, below its name")
        if missing := [name for name, place in self.named.items() if not place.uri]:
            raise ValueError(f"the source '{missing[0]}' has no uri")
        return self

    @property
    def places(self) -> dict[str | None, "SourceConfig"]:
        """Each place as a source alone, by its name; a source without names is one, and has none."""
        if not self.named:
            return {None: self}
        return {name: SourceConfig(**place.model_dump()) for name, place in self.named.items()}

    @property
    def most_images(self) -> int:
        """How many images an object can have; more than 1 where a place makes sets of images."""
        return max([1, *(place.group_most for place in self.places.values() if place.group_by)])

    def place(self, name: str | None) -> "SourceConfig":
        """Return the place that an object was listed from.

        Where its name is gone, or it was listed without one, it is a place with the default settings, and the hosts of
        all.
        """
        if not self.named:
            return self
        hosts = dict.fromkeys(host for place in self.named.values() for host in place.hosts)
        return self.places.get(name, SourceConfig(hosts=tuple(hosts)))


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
