"""Whether the longest prompts of a job fit the context of its model, as far as its files tell before it is loaded."""

from dataclasses import dataclass

from synthgen.config.prompt_pack import call_sizes
from synthgen.engines.image_tokens import SETTING, images_of
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
            "generate.engine.options.max_model_len"
        )


def context_room(job: Job, *, may_download: bool = False) -> ContextRoom | None:
    """Return the room in the context of a job's model; None if its files are not here or do not tell.

    Args:
        job: The job.
        may_download: Whether the hub is asked for files that its local cache lacks.
    """
    engine = job.pipeline.generate.engine
    files = read_model_files(job.model, may_download=may_download) if kind_of(engine).bounds_images else None
    if files is None:
        return None
    wanted = engine.options.get("max_model_len")
    context = wanted if isinstance(wanted, int) and wanted > 0 else files.context
    image = images_of(job.model, engine, may_download=may_download).most
    if context is None or image is None:
        return None
    calls = [(int(characters / CHARACTERS_A_TOKEN), reply) for characters, reply in call_sizes(job.definitions.prompts)]
    text, reply = max(calls, key=sum, default=(0, 0))
    return ContextRoom(image, text, reply, context)


def image_notes(job: Job) -> list[str]:
    """Return lines on the tokens of images and the context of a job's model, where its files are here."""
    engine, room = job.pipeline.generate.engine, context_room(job)
    if room is None:
        return []
    bound = images_of(job.model, engine, may_download=False)
    counted = f"an image takes up to {room.image:,} tokens of a context of {room.context:,}"
    return [line for line in (bound.note or counted, room.fault) if line]
