"""Everything that a tagging worker needs to know, and the resources that it takes."""

from dataclasses import dataclass

from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.stages.contract import Job
from synthgen.store import Folder
from synthgen.taggers import ClipTaggerFile, CustomTaggerFile, TaggerSpec, VlmTaggerFile


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
    """Return (cpus, gpus) of a worker: those configured, or those that its VLM needs if they are more.

    `gpus` is None where nothing is configured and a tagger may use one: then it is a share of one.
    """
    served = [spec.file.serve for spec in context.taggers if isinstance(spec.file, VlmTaggerFile)]
    needed = max([0.0, *(engine.gpus for engine in served if engine.kind == "vllm")])
    may_share = any(isinstance(spec.file, ClipTaggerFile | CustomTaggerFile) for spec in context.taggers)
    is_open = gpus is None and not needed and may_share
    return max([1.0, *(engine.cpus for engine in served)]), None if is_open else max(gpus or 0.0, needed)
