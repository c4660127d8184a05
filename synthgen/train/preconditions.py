"""What `synth train` checks before torch is loaded: packages, shards, the starting model and the output folder."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from synthgen.config.training import TrainConfig
from synthgen.engines.revision import folder_fault, is_hub_name
from synthgen.errors import UserMistake
from synthgen.store.patterns import expand_home
from synthgen.store.remote import path_errors
from synthgen.train import dataset
from synthgen.train.schedule import Schedule

BEFORE_THE_RECORD = ("lease", "feed")  # what a training writes before its record


def check(schedule: Schedule, model: str, out: Path) -> None:
    """Check the arguments of a training.

    Raises:
        UserMistake: A package is missing, there are no such shards, no such model, or `out` holds other files.
    """
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise missing_packages(name, f"No module named '{name}'")
    for stage in schedule.stages:
        _check_packages(stage.settings)
    find_model(model)
    places = [schedule.folder(out, number) for number in range(len(schedule.stages))]
    for place in places:
        check_out(place)
    if places != [out]:
        check_out(out, ("recipe.json", *(place.name for place in places)))
    if not any((place / "training.json").is_file() for place in places):  # they have their own record of the shards
        for source in schedule.sources.values():
            dataset.find(source)


def _check_packages(settings: TrainConfig) -> None:
    if settings.lora and importlib.util.find_spec("peft") is None:
        raise UserMistake("train.lora needs peft; get it with: pip install peft")
    if needs_torchao(settings) and importlib.util.find_spec("torchao") is None:
        kind = (
            f"train.precision {settings.precision}" if settings.optimizer == "adamw" else "train.optimizer adamw_8bit"
        )
        raise UserMistake(f"{kind} needs torchao; get it with: pip install torchao")


def needs_torchao(settings: TrainConfig) -> bool:
    """Return whether the optimizer is not torch's own."""
    return settings.optimizer != "adamw" or settings.precision != "float32"


def missing_packages(name: str, why: str) -> UserMistake:
    """Return the error to raise where a package that training needs cannot be imported."""
    packages = "transformers accelerate" if name == "transformers" else "torch transformers accelerate"
    return UserMistake(f"synth train needs torch and transformers ({why}); get them with: pip install {packages}")


def find_model(name: str) -> Path | None:
    """Return the folder of a model; None for a hub name.

    Raises:
        UserMistake: The name is no model folder and no hub name.
    """
    with path_errors(f"--model {name}"):
        folder = expand_home(name)
        if folder.is_dir():
            if fault := folder_fault(folder):
                raise UserMistake(f"--model {name}: {fault}")
            return folder.resolve()
    if not is_hub_name(name):
        raise UserMistake(f"--model {name}: no such folder, and a hub name reads organisation/model")
    return None


def check_out(out: Path, own: Sequence[str] = ()) -> None:
    """Raise UserMistake if the output folder of a training holds other files.

    Args:
        out: The folder.
        own: Names in it that are no others, beside those of every training that has not begun.
    """
    with path_errors(f"--out {out}"):
        names = {path.name for path in out.iterdir()} if out.is_dir() else set()
        is_taken = out.is_file() or bool(names - {*BEFORE_THE_RECORD, *own})
        if is_taken and not (out / "training.json").is_file():
            raise UserMistake(f"--out {out}: holds other files; give a new or empty folder")
