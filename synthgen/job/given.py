"""Checks of pipelines whose source brings the pairs: what is asked, planned or scored while asking is for others."""

from collections.abc import Iterator

from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.config.strict_yaml import Document
from synthgen.errors import UserMistake
from synthgen.ingest.sources import kind_of_source
from synthgen.stages.given.labels import TYPE


def faults(document: Document, pipeline: Pipeline, prompts: Prompts) -> Iterator[str]:
    """Yield the settings of a pipeline that do not go with an imported set, with their lines."""
    if not _has_pairs(pipeline):
        return
    if pipeline.generate.scores:
        where = document.where(("generate", "scores"))
        yield (
            f"{where}: generate.scores: the pairs come with the set, and nothing is asked that could score them; write "
            "scores: [], and name scores in a pass (section score)"
        )
    if pipeline.plan.negatives:
        where = document.where(("plan", "negatives"))
        yield f"{where}: plan.negatives: nothing is planned for an imported set; write 0"
    if TYPE not in prompts.types:
        where = document.where(("generate", "prompts"))
        yield f"{where}: generate.prompts: pack '{prompts.name}' lacks the type {TYPE}; add the family imported to it"


def _has_pairs(pipeline: Pipeline) -> bool:
    try:
        return kind_of_source(pipeline.source.uri).has_pairs
    except UserMistake:  # it is reported where the source is listed
        return False


def check_is_asked(out: str, has_pairs: bool, command: str) -> None:
    """Raise UserMistake if the pairs of a folder were imported, so that a command has nothing to ask."""
    if has_pairs:
        raise UserMistake(
            f"{out}: its pairs were imported, so synth {command} has nothing to ask; see docs/importing.md"
        )
