"""Everything that a tagging worker needs to know, and the resources that it takes."""

from dataclasses import dataclass

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.stages.contract import Job
from synthgen.store import Folder
from synthgen.taggers import TaggerSpec


@dataclass(frozen=True)
class TagContext:
    """Everything that a tagging worker needs to know."""

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    taggers: tuple[TaggerSpec, ...]
    batch: int
    images_fingerprint: str
    retry: frozenset[str] = frozenset()  # reasons of quarantine that are tried again


def context_of(job: Job, retry: frozenset[str] = frozenset()) -> TagContext:
    """Return the context of a job."""
    pipeline = job.pipeline
    return TagContext(
        job.out,
        pipeline.source,
        pipeline.images,
        job.definitions.taggers,
        pipeline.tag.batch,
        job.fingerprint("images"),
        retry,
    )


def resources(context: TagContext, gpus: float | None) -> tuple[float, float | None]:
    """Return (cpus, gpus) of a worker: the pipeline's `tag.gpus`, or what a tagger needs if that is more.

    A `gpus` of None, given or returned, is an equal share of all GPUs.
    """
    needs = [spec.file.resources() for spec in context.taggers]
    cpus = max([1.0, *(need.cpus for need in needs)])
    needed = max([0.0, *(need.gpus or 0.0 for need in needs)])
    takes_share = gpus is None and not needed and any(need.gpus is None for need in needs)
    return cpus, None if takes_share else max(gpus or 0.0, needed)
