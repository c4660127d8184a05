"""What is kept of a benchmark set: hashes and thumbnails of its images and of crops of them, and its questions.

Of the images themselves a grey miniature is stored, from which a cropped copy is told. Crops are hashed because an
image that was cropped has another hash than the whole one: 60 prints an image find most that lost up to a fifth of a
side.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from synthgen.config.source import ImagesConfig
from synthgen.errors import Failure
from synthgen.ingest.benchmark_sets import BenchmarkSet, read_items
from synthgen.ingest.benchmark_tables import BenchmarkItem, Columns
from synthgen.ingest.images import DECODING, Decoded, DecoderPool, perceptual_hash
from synthgen.ingest.images.thumbnail import thumbnail
from synthgen.store import Folder
from synthgen.tables import IMAGES, TAG, make_id

VERSION = "3"  # of the crops, and of how sets are read; raise it when these change
FOLDER = "benchmarks"  # of the output folder
CROPS = (  # what stays of a side, and where it can begin, as a share of the rest
    (0.95, (0.0, 0.5, 1.0)),
    (0.9, (0.0, 0.5, 1.0)),
    (0.85, (0.0, 0.33, 0.67, 1.0)),
    (0.8, (0.0, 0.25, 0.5, 0.75, 1.0)),
)
CROP_PIXELS = 256  # longest side of the image that crops are made from
MINIATURE = 128  # pixels of an edge: as many as tell one line of text from the next
IMAGES_AT_ONCE = 64  # whose prints are written together
PRINTS = pa.schema(
    [
        ("item", pa.string()),  # name of the row or file
        ("is_crop", pa.bool_()),
        ("edges", pa.list_(pa.float32(), 4)),  # of a crop: left, right, top, bottom, as shares of the sides
        ("miniature", pa.binary()),  # of a whole image; its crops follow it
        *(IMAGES.field(name) for name in ("phash", "thumbnail", "flat_share", "embedding")),
        ("question", pa.string()),  # null for an image
        ("failure", pa.string()),  # why an image cannot be used
    ]
)


def digest_of(benchmark: BenchmarkSet, columns: Columns, limits: ImagesConfig) -> str:
    """Return a hash of everything that shapes the prints of a set."""
    pixels = str(limits.model_pixels)
    return make_id("prints", VERSION, DECODING, pixels, benchmark.digest, *columns.images, "", *columns.questions)


def prints_of(out: Folder, benchmark: BenchmarkSet, columns: Columns, limits: ImagesConfig) -> pa.Table:
    """Return PRINTS of a set; they are made once, and stored in the output folder."""
    if benchmark.run:
        return _prints_of_run(benchmark)
    folder, name = out.child(FOLDER), f"{benchmark.name}-{digest_of(benchmark, columns, limits)[:16]}.parquet"
    if name in folder.names(".parquet") and (known := _read(folder.read(name))) is not None:
        return known
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, PRINTS, compression="zstd") as writer:
        for rows in _make(read_items(benchmark, columns, limits.max_bytes), limits):
            writer.write_table(rows)
    folder.write(name, sink.getvalue())
    return pq.read_table(pa.BufferReader(sink.getvalue()), schema=PRINTS)


def _read(data: bytes) -> pa.Table | None:
    """Return stored PRINTS; None if they are damaged, so that they are made again."""
    try:
        return pq.read_table(pa.BufferReader(data), schema=PRINTS)
    except (pa.ArrowException, OSError):
        return None


def _make(items: Iterator[BenchmarkItem], limits: ImagesConfig) -> Iterator[pa.Table]:
    """Yield PRINTS of items, in their order, some images at a time."""
    with DecoderPool[int](limits) as pool:
        batch = list[BenchmarkItem]()
        for item in items:
            batch.append(item)
            if len(batch) >= IMAGES_AT_ONCE:
                yield _prints(batch, pool)
                batch = []
        yield _prints(batch, pool)


def _prints(items: Sequence[BenchmarkItem], pool: DecoderPool[int]) -> pa.Table:
    rows: dict[int, list[dict[str, Any]]] = {}
    files = ((number, item.file) for number, item in enumerate(items) if item.file is not None)
    for number, image in pool.decode_many(files):
        name = items[number].name
        if isinstance(image, Failure):
            rows[number] = [{"item": name, "failure": image.reason}]
        else:
            rows[number] = [{"item": name, **one} for one in prints_of_image(image)]
    for number, item in enumerate(items):
        if item.question is not None:
            rows[number] = [{"item": item.name, "question": item.question}]
    return pa.Table.from_pylist([row for number in sorted(rows) for row in rows[number]], schema=PRINTS)


def prints_of_image(image: Decoded) -> Iterator[dict[str, Any]]:
    """Yield what PRINTS has of an image and of each of its crops."""
    share = image.flat_share
    grey = image.image.convert("L")
    miniature = grey.resize((MINIATURE, MINIATURE), Image.Resampling.BOX).tobytes()
    whole = {"phash": image.phash, "thumbnail": image.thumbnail, "flat_share": share}
    yield {**whole, "is_crop": False, "edges": [0, 1, 0, 1], "miniature": miniature}
    grey.thumbnail((CROP_PIXELS, CROP_PIXELS), Image.Resampling.LANCZOS)
    for side, places in CROPS:
        for x in places:
            for y in places:
                left, top = (1 - side) * x, (1 - side) * y
                edges = [left, left + side, top, top + side]
                crop = _crop(grey, edges)
                seen = perceptual_hash(crop), thumbnail(crop)
                yield {"is_crop": True, "edges": edges, "phash": seen[0], "thumbnail": seen[1], "flat_share": share}


def _crop(grey: Image.Image, edges: Sequence[float]) -> Image.Image:
    left, right, top, bottom = edges
    box = left * grey.width, top * grey.height, right * grey.width, bottom * grey.height
    return grey.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]


def _prints_of_run(benchmark: BenchmarkSet) -> pa.Table:
    """Return PRINTS of the tagged images of an output folder, with embeddings and without crops."""
    assert benchmark.run
    log, tables = benchmark.run.log(TAG), [PRINTS.empty_table()]
    columns = ["object_id", "outcome", "phash", "thumbnail", "flat_share", "embedding"]
    for partition in log.partitions:
        rows = benchmark.run.table(TAG, partition, "images", columns)
        rows = rows.filter(pc.equal(rows.column("outcome"), "tagged"))
        made = {name: rows.column(name) for name in columns[2:]}
        made |= {"item": rows.column("object_id"), "is_crop": pa.array([False] * rows.num_rows, pa.bool_())}
        without = "edges", "miniature", "question", "failure"
        nothing = {name: pa.nulls(rows.num_rows, PRINTS.field(name).type) for name in without}
        tables.append(pa.table({name: {**made, **nothing}[name] for name in PRINTS.names}, schema=PRINTS))
    return pa.concat_tables(tables)
