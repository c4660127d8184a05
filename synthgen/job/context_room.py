"""Whether the longest prompts of a job fit the context of its model, as far as its files tell before it is loaded."""

from dataclasses import dataclass

from synthgen.config.pipeline import EngineConfig
from synthgen.config.prompt_pack import call_sizes
from synthgen.engines import ModelName
from synthgen.engines.image_tokens import SETTING, bound_images, images_of
from synthgen.engines.kinds import kind_of
from synthgen.engines.model_files import read_model_files
from synthgen.stages.contract import Job

CHARACTERS_A_TOKEN = 3.0  # of English at least; the texts of a pack are mostly English


@dataclass(frozen=True)
class ContextRoom:
    """The tokens of the longest call with an image, and those that the context holds.

    Attributes:
        image: Most tokens of an image.
        text: Tokens of the texts, about.
        reply: Most tokens of the reply.
    """

    image: int
    text: int
    reply: int
    context: int

    @property
    def fault(self) -> str | None:
        """One line on what does not fit; None if everything does."""
        whole = self.image + self.text + self.reply
        if whole <= self.context:
            return None
        return (
            f"the longest call does not fit the context of {self.context:,} tokens: the image up to {self.image:,}, "
            f"the text about {self.text:,}, the reply up to {self.reply:,}; lower {SETTING}, or raise "
            "engine.options.max_model_len"
        )


def context_faults(job: Job, *, may_download: bool = False) -> list[str]:
    """Return a line for each generating model whose longest calls do not fit its context.

    Args:
        job: The job.
        may_download: Whether the hub is asked for files that its local cache lacks.
    """
    rooms = ((model, _room(job, model, engine, may_download)) for model, engine in job.engines)
    return [f"model {model.model}: {room.fault}" for model, room in rooms if room and room.fault]


def image_notes(job: Job) -> list[str]:
    """Return lines on the tokens of images and the contexts of a job's models, as far as their files are here."""
    lines = []
    for model, engine in job.engines:
        if room := _room(job, model, engine, may_download=False):
            bound = images_of(model, engine, may_download=False)
            counted = f"an image takes up to {room.image:,} tokens of a context of {room.context:,}"
            lines.append(f"model {model.model}: {bound.note or counted}")
    return lines + context_faults(job)


def _room(job: Job, model: ModelName, engine: EngineConfig, may_download: bool) -> ContextRoom | None:
    """Return the room in the context of a model; None if its files are not here or do not tell."""
    files = read_model_files(model, may_download=may_download) if kind_of(engine).bounds_images else None
    if files is None:
        return None
    wanted = engine.options.get("max_model_len")
    context = wanted if isinstance(wanted, int) and wanted > 0 else files.context
    image = bound_images(files, engine).most
    if context is None or image is None:
        return None
    only_asks = job.asking is not None and (model, engine) == job.engines[0]
    sizes = call_sizes(job.definitions.prompts)
    calls = [(int(size.characters / CHARACTERS_A_TOKEN), size.reply) for size in sizes if size.is_ask or not only_asks]
    text, reply = max(calls, key=sum, default=(0, 0))
    return ContextRoom(image, text, reply, context)
