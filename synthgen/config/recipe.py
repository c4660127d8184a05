"""Recipes: a training in stages, as a file of `pipelines/recipes/`.

A stage is the section `train` of a pipeline, with a name and with the data sets that it takes rows from, by weight.
What a stage does not name is as the recipe's `train` says, and what that does not name as the pipeline says. Settings
of the command line come before all of these.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from synthgen.config import library
from synthgen.config.fields import Uri
from synthgen.config.library import Section
from synthgen.config.training import TrainConfig

DEFAULT_DATA = "shards"  # the data set that the command line names without a name
OF_ALL_STAGES = (
    "hold_out",
    "hold_out_bits",
    "seed",
    "scratch",
    "shuffle_gigabytes",
)  # settings of the data rather than of a stage

Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$")]
Weight = Annotated[float, Field(gt=0)]


class StageConfig(TrainConfig):
    """A stage of a recipe."""

    name: Name
    data: Mapping[Name, Weight] = Field(default_factory=lambda: {DEFAULT_DATA: 1.0}, min_length=1)
    samples: int | None = Field(default=None, gt=0)  # in place of steps: so many rows

    @model_validator(mode="after")
    def _check_stage(self) -> "StageConfig":
        if self.samples and "steps" in self.model_fields_set:
            raise ValueError("steps and samples both say how long a stage is; give one of them")
        for name in OF_ALL_STAGES:
            if name in self.model_fields_set:
                raise ValueError(f"{name} holds for all stages; name it in `train` of the recipe")
        return self


class RecipeFile(Section):
    """The contents of pipelines/recipes/NAME.yaml."""

    about: str
    train: TrainConfig = TrainConfig()  # settings of all stages
    data: Mapping[Name, Uri] = Field(default_factory=dict)  # the places of data sets; --data names the others
    stages: tuple[StageConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> "RecipeFile":
        names = [stage.name for stage in self.stages]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise ValueError(f"two stages are called '{twice[0]}'")
        return self

    @property
    def needed(self) -> list[str]:
        """The names of the data sets that the stages take rows from."""
        return list(dict.fromkeys(name for stage in self.stages for name in stage.data))


def load(name: str) -> RecipeFile:
    """Return a recipe by name. Raises Mistakes with every mistake in its file."""
    return library.check(library.load("recipe", name), RecipeFile)


def settings_of(
    recipe: RecipeFile, stage: StageConfig, pipeline: TrainConfig, typed: Collection[str], scale: float = 1.0
) -> TrainConfig:
    """Return the settings of a stage.

    Args:
        recipe: The recipe.
        stage: One of its stages.
        pipeline: The section `train` of the pipeline, with what the command line sets.
        typed: The settings that the command line names.
        scale: Of the length of the stage.

    Raises:
        ValueError: They do not fit together.
    """
    named = {name: getattr(recipe.train, name) for name in recipe.train.model_fields_set}
    named |= {name: getattr(stage, name) for name in stage.model_fields_set & TrainConfig.model_fields.keys()}
    values: dict[str, Any] = {name: getattr(pipeline, name) for name in TrainConfig.model_fields}
    values |= {name: value for name, value in named.items() if name not in typed}
    if stage.samples and "steps" not in typed:
        values["steps"] = -(-stage.samples // values["batch"])
    values["steps"] = max(1, round(scale * values["steps"]))
    return TrainConfig.model_validate(values)
