"""The stages of `synth train` from what was typed: a recipe with its data sets, or one data set without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthgen.config import recipe as recipes
from synthgen.config.recipe import DEFAULT_DATA
from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake
from synthgen.train.schedule import Schedule, of_recipe


@dataclass(frozen=True)
class TrainRequest:
    """What was typed.

    Attributes:
        shards: The data set without a name.
        data: Those with one, as `NAME=PLACE`.
        scale: Of the length of each stage.
        settings: `section.key=value`.
    """

    shards: str | None = None
    recipe: str | None = None
    data: tuple[str, ...] = ()
    scale: float = 1.0
    settings: tuple[str, ...] = ()


def schedule_of(request: TrainRequest, settings: TrainConfig) -> Schedule:
    """Return the stages of a training.

    Args:
        request: As typed.
        settings: The section `train` of the pipeline, with what was typed.

    Raises:
        UserMistake: There are no data, or options do not fit together.
        Mistakes: The recipe has mistakes.
    """
    if request.scale <= 0:
        raise UserMistake(f"--scale {request.scale:g}: must be above 0")
    if request.recipe is None:
        if request.data or request.scale != 1:
            option = f"--data {request.data[0]}" if request.data else f"--scale {request.scale:g}"
            raise UserMistake(f"{option}: is for the stages of a recipe; name one with --recipe")
        if not request.shards:
            raise UserMistake("missing: SHARDS, a run's output folder or a folder of shards; or a --recipe")
        return Schedule.plain(request.shards, settings)
    typed = {setting.split(".")[1].partition("=")[0] for setting in request.settings if setting.startswith("train.")}
    named = {**_places(request.data), **({DEFAULT_DATA: request.shards} if request.shards else {})}
    return of_recipe(recipes.load(request.recipe), settings, typed, named, request.scale)


def _places(typed: Sequence[str]) -> Mapping[str, str]:
    places = dict[str, str]()
    for each in typed:
        name, equals, place = each.partition("=")
        if not equals or not name or not place:
            raise UserMistake(f"--data {each}: write it as NAME=PLACE")
        if name in places:
            raise UserMistake(f"--data {name}: is given twice")
        places[name] = place
    return places
