"""Checks of `source.group_by`: whether sets of images are asked anything, and whether the engines take them."""

from collections.abc import Iterator

from synthgen.config.engine import EngineConfig
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.engines.kinds import kind_of


def faults(document: Document, pipeline: Pipeline, prompts: Prompts) -> Iterator[str]:
    """Yield what sets of images need and a pipeline lacks, with the line of the setting."""
    most = pipeline.source.most_images
    if most == 1:
        return
    place: KeyPath = ("source", "group_by")
    if not any(kind.of == "set" for kind in prompts.types.values()):
        yield (
            f"{document.where(place)}: source.group_by: no instruction type of prompt pack '{prompts.name}' has "
            "`of: set`, so sets would be asked nothing; use the pack and the mapping `sets`"
        )
    parts = {section: part.engine for section, part in pipeline.parts.items()}
    if pipeline.reask.engine:
        parts["reask"] = pipeline.reask.engine
    for section, engine in parts.items():
        yield from (f"{document.where((section,))}: {fault}" for fault in _engine_faults(section, engine, most))


def _engine_faults(section: str, engine: EngineConfig, most: int) -> Iterator[str]:
    kind = kind_of(engine)
    if "more" not in kind.capabilities:
        yield (
            f"{section}.engine: kind {kind.name} takes one image a call, and source.group_by makes sets of images; "
            "use another kind"
        )
    elif kind.bounds_images and (allowed := engine.images_of_a_call) < most:
        yield (
            f"{section}.engine.images: {allowed} in a call, and source.group_by makes sets of up to {most}; "
            f"set it to {most}, or source.group_most to {max(2, allowed)}"
        )
