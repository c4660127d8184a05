"""Settings of the images: where they come from, and which are read."""

from pydantic import Field

from synthgen.config.fields import ImageFormat, Uri
from synthgen.config.library import Section


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
