"""The host memory that the images of a worker can take, known before a run starts.

It is the worst case for one worker of a stage: every decoder works on an image of the largest allowed size, and every
buffer is full. Each term is limited where its memory is allocated (ingest/sources/fetch.py,
ingest/images/child_process.py, stages/generate/admission.py, stages/pack/images.py), so the printed number holds;
ordinary images take a small part of it. The model and its engine are not included and report their own memory.
"""

from synthgen.config.engine import EngineConfig
from synthgen.config.pipeline import Pipeline
from synthgen.config.source import SourceConfig
from synthgen.console import note, pluralize
from synthgen.engines.kinds import kind_of
from synthgen.ingest.images.pool import cores, peak_bytes
from synthgen.ingest.images.shared_memory import BYTES_PER_PIXEL
from synthgen.ingest.sources import kind_of_source
from synthgen.ingest.sources.fetch import BUFFER_BYTES, THREADS
from synthgen.ingest.sources.location import PDF
from synthgen.workers import TASKS_PER_ACTOR

PROCESS_BYTES = 600 * 2**20  # an actor without its images: Python, Ray, Arrow, numpy
QUEUED_IMAGES = 8  # decoded images of a task in its queue
UNQUEUED_IMAGES = 2  # one that waits to enter the queue, and one that left it and waits for its turn
PACK_WAITING_BYTES = 256 * 2**20  # of files that were fetched and wait in memory for their turn in a shard
PACK_BYTES_PER_PIXEL = 20  # of an image that becomes a PNG; one with transparency takes 17
PNG_BYTES_PER_PIXEL = 3.1  # of a PNG that does not compress
GROUP_COPIES = 4  # of the row group that is written: rows, Arrow columns, pages and compressed pages
MEGABYTE = 10**6  # of every setting in megabytes


def tag_bytes(pipeline: Pipeline) -> int:
    """Return the bytes of a tagging worker: decoders on every core, and a batch of images."""
    images, decoded = pipeline.images, pipeline.images.model_pixels * BYTES_PER_PIXEL
    batch = (pipeline.tag.batch + cores()) * decoded
    return PROCESS_BYTES + _fetching_bytes(pipeline) + peak_bytes(images, cores()) + batch


def generate_bytes(pipeline: Pipeline, engine: EngineConfig | None = None) -> int:
    """Return the bytes of a generating worker: a decoder, waiting images, and the conversations in flight."""
    images, decoded = pipeline.images, pipeline.images.model_pixels * BYTES_PER_PIXEL
    engine = engine or pipeline.generate.answerer.engine
    in_flight = max(decoded, engine.host_megabytes * MEGABYTE)
    by_engine = kind_of(engine).images_in_memory * decoded
    waiting = TASKS_PER_ACTOR * (QUEUED_IMAGES + UNQUEUED_IMAGES) * decoded
    return PROCESS_BYTES + _fetching_bytes(pipeline) + peak_bytes(images, 1) + waiting + in_flight + by_engine


def pack_bytes(pipeline: Pipeline) -> int:
    """Return the bytes of a packing worker: waiting files, one image that is encoded, and a shard.

    The shard counts three times: twice while it is written (its buffer, and the copy that a store is given), and once
    as its last revision. An image that is larger than a row group or a shard is one alone.
    """
    images, pack = pipeline.images, pipeline.pack
    waiting = PACK_WAITING_BYTES + images.max_bytes
    pixels = pipeline.source.most_images * images.max_pixels
    largest = max(images.max_bytes, int(PNG_BYTES_PER_PIXEL * pixels))
    group = max(pack.row_group_megabytes * MEGABYTE, largest)
    shard = max(pack.shard_megabytes * MEGABYTE, largest)
    encoding = PACK_BYTES_PER_PIXEL * images.max_pixels
    return PROCESS_BYTES + _fetching_bytes(pipeline) + waiting + encoding + GROUP_COPIES * group + 3 * shard


def _fetching_bytes(pipeline: Pipeline) -> int:
    """Return the bytes of objects being fetched.

    They are the buffer, its copy while the pieces of a response are joined, the object that is handed on, and one for
    each thread where sizes are not known beforehand.
    """
    most = pipeline.images.max_bytes
    unsized = THREADS * most if any(map(_holds_unsized, pipeline.source.places.values())) else 0
    return 2 * BUFFER_BYTES + most + unsized


def _holds_unsized(source: SourceConfig) -> bool:
    """Return whether a thread that reads can hold an object that nothing has made room for."""
    has_documents = PDF in (suffix.lower() for suffix in source.suffixes)  # the file of the pages that it gives
    is_known = not has_documents and not source.hosts and not source.group_by
    return not is_known or not kind_of_source(source.uri).knows_sizes


def note_workers(stage: str, workers: int, size: int) -> None:
    """Report how many workers a stage has, and the host memory of each in bytes; nothing if it has none."""
    if workers:
        note(
            f"{stage}: {pluralize(workers, 'worker')}, {'each ' if workers > 1 else ''}with at most "
            f"{size / 1e9:.1f} GB of host memory, and that only if every image were as large as the limits allow"
        )
