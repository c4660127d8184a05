"""What `synth train` is asked for: the stages of a training, each with its settings and data. No torch is loaded."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from synthgen.config.recipe import DEFAULT_DATA, RecipeFile, settings_of
from synthgen.config.training import TrainConfig
from synthgen.errors import UserMistake, listed, nearest


@dataclass(frozen=True)
class Stage:
    """A stage of a training.

    Attributes:
        name: Empty where the training has no other stage.
        settings: The settings of `train`.
        weights: By data set, how often a row is taken from each.
    """

    name: str
    settings: TrainConfig
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Schedule:
    """The stages of a training.

    Attributes:
        stages: In order; each starts from the model of the one before.
        sources: The data sets by name: a run's output folder, or a folder, glob or file of Parquet.
    """

    stages: tuple[Stage, ...]
    sources: Mapping[str, str]

    @staticmethod
    def plain(shards: str, settings: TrainConfig) -> "Schedule":
        """Return the schedule of a training on one data set, without a recipe."""
        return Schedule((Stage("", settings, {DEFAULT_DATA: 1.0}),), {DEFAULT_DATA: shards})

    def folder(self, out: Path, number: int) -> Path:
        """Return the output folder of a stage, counted from 0."""
        name = self.stages[number].name
        return out / f"{number + 1}-{name}" if name else out


def of_recipe(
    recipe: RecipeFile, pipeline: TrainConfig, typed: Collection[str], sources: Mapping[str, str], scale: float
) -> Schedule:
    """Return the schedule of a recipe.

    Args:
        recipe: The recipe.
        pipeline: The section `train` of the pipeline, with what the command line sets.
        typed: The settings that the command line names.
        sources: The data sets that the command line names.
        scale: Of the length of each stage.

    Raises:
        UserMistake: A data set has no place, no stage takes from one, or settings do not fit together.
    """
    needed = recipe.needed
    if foreign := [name for name in sources if name not in needed]:
        if foreign == [DEFAULT_DATA]:
            raise UserMistake(f"the recipe names its data sets; give each by name: {_example(needed)}")
        raise UserMistake(f"--data {foreign[0]}: no stage of the recipe takes from it: {nearest(foreign[0], needed)}")
    places = {**recipe.data, **sources}
    if missing := [name for name in needed if name not in places]:
        raise UserMistake(f"the recipe takes from {listed(missing, 6)}, which have no place; give {_example(missing)}")
    stages = list[Stage]()
    for stage in recipe.stages:
        try:
            settings = settings_of(recipe, stage, pipeline, typed, scale)
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserMistake(f"stage {stage.name}: {why}") from error
        stages.append(Stage(stage.name, settings, stage.data))
    return Schedule(tuple(stages), {name: places[name] for name in needed})


def _example(names: Collection[str]) -> str:
    return " ".join("SHARDS" if name == DEFAULT_DATA else f"--data {name}=PLACE" for name in names)
