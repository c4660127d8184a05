"""How much host memory the workers' images can take, known before a run starts.

Comes in: the limits and settings of a pipeline. Goes out: bytes for one worker of a stage, worst case: every decoder at an image
of the largest size that is allowed, every buffer full. Each of the summands is bounded where it arises (ingest/sources/fetch.py,
ingest/images/child_process.py, stages/generate/admission.py), so what is printed here is kept; ordinary images take a small part of it.
The model and its engine come on top and say themselves what they need.
"""

from synthgen.config.pipeline import Pipeline
from synthgen.console import note
from synthgen.engines.kinds import kind_of
from synthgen.ingest.images.pool import cores, peak_bytes
from synthgen.ingest.images.shared_memory import BYTES_PER_PIXEL
from synthgen.ingest.sources.fetch import BUFFER_BYTES, THREADS

PROCESS = 600 * 2**20  # an actor without its images: Python, Ray, Arrow, numpy
FETCHED_AHEAD = 8  # decoded images of a piece of work that wait in a queue
AT_ITS_ENDS = 2  # more of them: one on its way into the queue, one taken out and without a place yet
IN_HAND = 2  # pieces of work that a worker holds
PACKED_AT_ONCE = 64  # images that a shard's writer holds while they are put in order
PACKED_PIXEL = 20  # bytes a pixel of an image that becomes a PNG; one with transparency takes 17
MEGABYTE = 2**20


def tag_bytes(pipeline: Pipeline) -> int:
    """Of one tagging worker: decoders on every core, a batch of images."""
    images, seen = pipeline.images, pipeline.images.model_pixels * BYTES_PER_PIXEL
    return PROCESS + _arriving(pipeline) + peak_bytes(images, cores()) + (pipeline.tag.batch + cores()) * seen


def generate_bytes(pipeline: Pipeline) -> int:
    """Of one generating worker: one decoder, what waits, and the conversations in flight."""
    images, seen = pipeline.images, pipeline.images.model_pixels * BYTES_PER_PIXEL
    in_flight = max(seen, pipeline.generate.engine.host_megabytes * MEGABYTE)
    by_engine = kind_of(pipeline.generate.engine).images_in_memory * seen
    waiting = IN_HAND * (FETCHED_AHEAD + AT_ITS_ENDS) * seen
    return PROCESS + _arriving(pipeline) + peak_bytes(images, 1) + waiting + in_flight + by_engine


def pack_bytes(pipeline: Pipeline) -> int:
    """Of one packing worker: some images as files, one of them decoded, the shard being written and its last revision.

    The shard and its last revision count twice: as bytes, and as Arrow's columns.
    """
    images, pack = pipeline.images, pipeline.pack
    held = PACKED_AT_ONCE * images.max_bytes + PACKED_PIXEL * images.max_pixels
    shard = 2 * (2 * pack.shard_megabytes + pack.row_group_megabytes) * MEGABYTE
    return PROCESS + _arriving(pipeline) + held + shard


def _arriving(pipeline: Pipeline) -> int:
    """Of objects being fetched: what waits, once more while the pieces of an answer are joined, and the one that is handed on."""
    of_urls = THREADS * pipeline.images.max_bytes if pipeline.source.hosts else 0  # their size is not known beforehand
    return 2 * BUFFER_BYTES + pipeline.images.max_bytes + of_urls


def note_workers(stage: str, workers: int, size: int) -> None:
    """Report how many workers a stage has, and the host memory of each in bytes; nothing if it has none."""
    if workers:
        note(
            f"{stage}: {workers} worker{'s' if workers > 1 else ''}, each with at most {size / 1e9:.1f} GB of host "
            "memory for its images"
        )
