"""The tokens that an image takes, bounded: `generate.engine.image_tokens` turned into the settings of each family.

A family has a rule (`rule.py`), which counts the tokens of an image of any size under its settings, and lowers these
settings until no image takes more than so many. What stands in `generate.engine.options` comes first: a pipeline that
names one of these settings itself is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from synthgen.config.engine import EngineConfig
from synthgen.engines.image_tokens.families import FAMILIES
from synthgen.engines.image_tokens.rule import OVERRIDES, PROCESSOR, Arguments, ImageRule
from synthgen.engines.model_files import ModelFiles, read_model_files
from synthgen.engines.protocol import ModelName

__all__ = [
    "FAMILIES",
    "PROCESSOR",
    "SETTING",
    "Arguments",
    "ImageBound",
    "ImageRule",
    "bound_images",
    "images_of",
    "rule_of",
    "with_bound",
]

SETTING = "engine.image_tokens"


@dataclass(frozen=True)
class ImageBound:
    """What holds for the images of one model.

    Attributes:
        family: The model's `model_type`.
        wanted: The most tokens of an image that the settings ask for; None: whatever the model takes.
        rule: The rule with the settings that it will have; None: the family is not known.
        arguments: What vLLM is told beside the options of the pipeline.
        is_own: Whether the pipeline names settings of the family itself, which are left alone.
    """

    family: str
    wanted: int | None
    rule: ImageRule | None
    arguments: Arguments
    is_own: bool = False

    @property
    def most(self) -> int | None:
        """The most tokens that an image adds to a prompt; None if nobody can tell."""
        return self.rule.most + self.rule.around if self.rule else None

    @property
    def note(self) -> str | None:
        """One line on what cannot be held; None if everything is."""
        if self.wanted is None:
            return None
        if self.rule is None:
            family = f"how images of the family '{self.family}' become tokens is not known"
            cause = family if self.family else "its configuration cannot be read"
            return f"{cause}, so {SETTING} ({self.wanted:,}) changes nothing; the first images are measured"
        if self.rule.most <= self.wanted:
            return None
        least = f"the family '{self.family}' takes no less"
        cause = f"engine.options.{PROCESSOR} allows it" if self.is_own else least
        return f"an image takes up to {self.rule.most:,} tokens, more than {SETTING} ({self.wanted:,}): {cause}"


def rule_of(files: ModelFiles) -> ImageRule | None:
    """Return the rule of a model as its files are; None if its family is not known, or they are not as usual."""
    family = FAMILIES.get(files.family)
    try:
        return family(files) if family else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def bound_images(files: ModelFiles, settings: EngineConfig) -> ImageBound:
    """Return the bound that the settings of an engine ask for, in the settings of the model's family."""
    own, wanted = _own_settings(settings.options), settings.image_tokens
    rule = rule_of(replace(files, config={**files.config, **own[OVERRIDES]}, image={**files.image, **own[PROCESSOR]}))
    if rule is None or wanted is None:
        return ImageBound(files.family, wanted, rule, {})
    if rule.keys & {*own[PROCESSOR], *own[OVERRIDES]}:
        return ImageBound(files.family, wanted, rule, {}, is_own=True)
    bounded = rule.within(wanted)
    return ImageBound(files.family, wanted, bounded, {} if bounded == rule else bounded.settings)


def images_of(name: ModelName, settings: EngineConfig, *, may_download: bool = True) -> ImageBound:
    """Return what holds for the images of a model, read from its files; see `read_model_files`."""
    files = read_model_files(name, may_download=may_download)
    return bound_images(files, settings) if files else ImageBound("", settings.image_tokens, None, {})


def with_bound(options: Mapping[str, Any], bound: ImageBound) -> dict[str, Any]:
    """Return the options of an engine with the settings that bound its images; what stands there comes first."""
    merged = {name: {**settings, **(options.get(name) or {})} for name, settings in bound.arguments.items()}
    return {**options, **merged}


def _own_settings(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of processor and model that a pipeline names itself, those of images alone among them."""
    own = {name: options.get(name) for name in (PROCESSOR, OVERRIDES)}
    found = {name: dict(value) if isinstance(value, Mapping) else {} for name, value in own.items()}
    images = found[PROCESSOR].pop("images_kwargs", {})
    return {**found, PROCESSOR: {**found[PROCESSOR], **(images if isinstance(images, Mapping) else {})}}
