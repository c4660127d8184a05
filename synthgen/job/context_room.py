"""Whether the longest prompts of a job fit the context of its model, as far as its files tell before it is loaded."""

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass

from synthgen.config.engine import EngineConfig
from synthgen.config.prompt_pack import CallSize, call_sizes
from synthgen.engines import ModelName
from synthgen.engines.image_tokens import ImageRule, bound_images, images_of
from synthgen.engines.kinds import kind_of
from synthgen.engines.model_files import read_model_files
from synthgen.job.job import WITH_MODELS
from synthgen.stages.contract import Job
from synthgen.stages.generate.scoring import call_keys
from synthgen.tables import GENERATE, SCORE

ASPECTS = (1 / 4, 1 / 2, 3 / 4, 1, 4 / 3, 2, 4)  # width / height of images of a set
CHARACTERS_A_TOKEN = 3.0  # of English at least; the texts of a pack are mostly English


@dataclass(frozen=True)
class ContextRoom:
    """The tokens of the longest call with an image, and those that the context holds.

    Attributes:
        image: Most tokens of an image, or of the images of a set together.
        text: Tokens of the texts, about.
        reply: Most tokens of the reply.
        section: Of the pipeline, with the settings of the engine.
    """

    image: int
    text: int
    reply: int
    context: int
    section: str = "generate.engine"
    images: int = 1

    @property
    def fault(self) -> str | None:
        """One line on what does not fit; None if everything does."""
        whole = self.image + self.text + self.reply
        if whole <= self.context:
            return None
        return (
            f"the longest call does not fit the context of {self.context:,} tokens: "
            f"{self._images} up to {self.image:,}, "
            f"the text about {self.text:,}, the reply up to {self.reply:,}; "
            f"lower {self.section}.image_tokens, or raise {self.section}.options.max_model_len"
        )

    @property
    def _images(self) -> str:
        return "the image" if self.images == 1 else f"the {self.images} images of a set"


def context_faults(job: Job, stages: Container[str] = WITH_MODELS, *, may_download: bool = False) -> list[str]:
    """Return a line for each model whose longest calls do not fit its context.

    Args:
        job: The job.
        stages: Whose models are looked at.
        may_download: Whether the hub is asked for files that its local cache lacks.
    """
    rooms = ((calls.model, _room(calls, may_download)) for calls in _calls(job, stages))
    return [f"model {model.model}: {room.fault}" for model, room in rooms if room and room.fault]


def image_notes(job: Job) -> list[str]:
    """Return lines on the tokens of images and the contexts of a job's models, as far as their files are here."""
    lines = []
    for calls in _calls(job, WITH_MODELS):
        if room := _room(calls, may_download=False):
            bound = images_of(calls.model, calls.engine, may_download=False)
            what = "an image takes" if room.images == 1 else f"the {room.images} images of a set take"
            counted = f"{what} up to {room.image:,} tokens of a context of {room.context:,}"
            lines.append(f"model {calls.model.model}: {bound.note or counted}")
    return lines + context_faults(job)


@dataclass(frozen=True)
class _Calls:
    """The calls that one engine gets, and the section of the pipeline with its settings."""

    model: ModelName
    engine: EngineConfig
    sizes: tuple[CallSize, ...]
    section: str = "generate.engine"
    images: int = 1  # of a set at most
    pixels: int = 1  # that these share


def _calls(job: Job, stages: Container[str]) -> Iterator[_Calls]:
    """Yield the calls to each model of a job; two that work with one engine settings are two."""
    sizes = tuple(call_sizes(job.definitions.prompts))
    images, pixels = job.pipeline.source.most_images, job.pipeline.images.model_pixels
    asking = tuple(size for size in sizes if size.is_ask)
    for number, (model, engine) in enumerate(job.engines if GENERATE.typed in stages else ()):
        own = asking if job.asking and number == 0 else sizes
        yield _Calls(model, engine, own, images=images, pixels=pixels)
    for judge in job.passes if SCORE.typed in stages else ():
        keys = {key for name in judge.settings.scores for key in call_keys(name)}
        own = tuple(size for size in call_sizes(judge.prompts) if size.key in keys)
        has_own = job.pipeline.score[judge.name].engine is not None
        section = f"score.{judge.name}.engine" if has_own else "generate.engine"
        yield _Calls(judge.model, judge.settings.engine, own, section, images, pixels)


def _room(calls: _Calls, may_download: bool) -> ContextRoom | None:
    """Return the room in the context of a model; None if its files are not here or do not tell."""
    model, engine = calls.model, calls.engine
    files = read_model_files(model, may_download=may_download) if kind_of(engine).bounds_images else None
    if files is None:
        return None
    wanted = engine.options.get("max_model_len")
    context = wanted if isinstance(wanted, int) and wanted > 0 else files.context
    bound = bound_images(files, engine)
    image = bound.most
    if context is None or image is None or bound.rule is None:
        return None
    image = max(image, _most_of_a_set(bound.rule, calls.images, calls.pixels))
    sizes = [(int(size.characters / CHARACTERS_A_TOKEN), size.reply) for size in calls.sizes]
    text, reply = max(sizes, key=sum, default=(0, 0))
    return ContextRoom(image, text, reply, context, calls.section, calls.images)


def _most_of_a_set(rule: ImageRule, images: int, pixels: int) -> int:
    """Return the most tokens of so many images that share so many pixels, of usual aspects."""
    share = pixels / images
    sizes = ((int(math.sqrt(share * aspect)), int(math.sqrt(share / aspect))) for aspect in ASPECTS)
    return images * max(rule.tokens(max(1, width), max(1, height)) + rule.around for width, height in sizes)
