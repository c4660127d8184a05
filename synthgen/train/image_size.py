"""The size of images while training: tiles a side and tokens an image, as settings of a model and of its processor.

The tuned folder keeps the settings of the starting model: they bound what is learned from, not what is asked later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from synthgen.config.training import TrainConfig
from synthgen.engines.image_tokens import ImageRule, rule_of
from synthgen.engines.image_tokens.rule import OVERRIDES, PROCESSOR
from synthgen.engines.image_tokens.tiles import Canvases, FormTiles, LongSideTiles
from synthgen.engines.model_files import read_model_files
from synthgen.engines.protocol import ModelName
from synthgen.errors import UserMistake

OWN_TILES = Canvases.full  # of LLaVA-OneVision where nothing is said


@dataclass(frozen=True)
class ImageSize:
    """What a model and its processor are told.

    Attributes:
        processor: Settings of the processor.
        config: Settings of the model.
        tiles: From which on LLaVA-OneVision scales a canvas down to their tokens; None where nothing is said.
    """

    processor: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    tiles: int | None = None

    @property
    def ratio(self) -> str:
        """The tiles as LLaVA-OneVision spells them."""
        return f"anyres_max_{self.tiles}"


def image_size(folder: Path, settings: TrainConfig) -> ImageSize:
    """Return what a model is told.

    Args:
        folder: The files of the model.
        settings: `image_grid` and `image_tokens`.

    Raises:
        UserMistake: Its family has no such setting, or takes no fewer tokens.
    """
    if settings.image_grid is None and settings.image_tokens is None:
        return ImageSize()
    files = read_model_files(ModelName(str(folder), ""))
    rule = rule_of(files) if files else None
    if files is None or rule is None:
        family = files.family if files else "unknown"
        raise UserMistake(
            f"train.image_grid and train.image_tokens: how images of the family '{family}' become tokens is not known; "
            "leave them out, and use train.model_pixels"
        )
    bounded = _bounded(rule, settings, files.family)
    told = bounded.settings
    tiles = bounded.full if isinstance(bounded, Canvases) and bounded.full != OWN_TILES else None
    return ImageSize(_plain(told.get(PROCESSOR, {})), _plain(told.get(OVERRIDES, {})), tiles)


def _bounded(rule: ImageRule, settings: TrainConfig, family: str) -> ImageRule:
    grid, most = settings.image_grid, settings.image_tokens
    if grid is not None:
        rule = _with_grid(rule, grid, family)
    if most is None:
        return rule
    if isinstance(rule, Canvases):  # a canvas of more tiles is scaled down to so many
        return replace(rule, full=max(1, min(rule.full, most // rule.patches**2 - 1)))
    rule = rule.within(most)
    if rule.most > most:
        raise UserMistake(f"train.image_tokens {most}: the family '{family}' takes no fewer than {rule.most:,}")
    return rule


def _with_grid(rule: ImageRule, grid: int, family: str) -> ImageRule:
    if isinstance(rule, Canvases):
        kept = tuple(canvas for canvas in rule.canvases if max(canvas) <= grid * rule.side)
        return replace(rule, canvases=kept or (min(rule.canvases, key=max),))
    if isinstance(rule, FormTiles):
        tiles = min(rule.tiles, grid**2)
        return replace(rule, tiles=tiles, fewest=min(rule.fewest, tiles))
    if isinstance(rule, LongSideTiles):
        return replace(rule, longest=min(rule.longest, grid * rule.side))
    raise UserMistake(f"train.image_grid: the family '{family}' cuts images into no tiles; use train.image_tokens")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON has them: those for vLLM hold lists of a kind of their own."""
    return {
        name: [list(each) if isinstance(each, list) else each for each in value] if isinstance(value, list) else value
        for name, value in settings.items()
    }


def tell_processor(processor: Any, size: ImageSize) -> None:
    """Tell a processor that was loaded with `size.processor` the rest."""
    if size.tiles:
        processor.vision_aspect_ratio = size.ratio


def tell_model(model: Any, size: ImageSize) -> None:
    """Tell a model what its processor does."""
    for name, value in size.config.items():
        setattr(model.config, name, value)
    if size.tiles:
        model.forward = partial(model.forward, vision_aspect_ratio=size.ratio)
