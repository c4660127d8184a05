"""What `synth train` checks before torch is loaded: packages, shards, the starting model and the output folder."""

import importlib.util
from pathlib import Path

from synthgen.config.training import TrainConfig
from synthgen.engines.revision import folder_fault, is_hub_name
from synthgen.errors import UserMistake
from synthgen.store.patterns import expand_home
from synthgen.store.remote import path_errors
from synthgen.train import dataset


def check(shards: str, model: str, out: Path, settings: TrainConfig) -> None:
    """Check the arguments of a training.

    Raises:
        UserMistake: A package is missing, there are no such shards, no such model, or `out` holds other files.
    """
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise missing_packages(name, f"No module named '{name}'")
    if settings.lora and importlib.util.find_spec("peft") is None:
        raise UserMistake("train.lora needs peft; get it with: pip install peft")
    if needs_torchao(settings) and importlib.util.find_spec("torchao") is None:
        kind = (
            f"train.precision {settings.precision}" if settings.optimizer == "adamw" else "train.optimizer adamw_8bit"
        )
        raise UserMistake(f"{kind} needs torchao; get it with: pip install torchao")
    find_model(model)
    check_out(out)
    if not (out / "training.json").is_file():  # what was started has its own record of the shards
        dataset.find(shards)


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


def check_out(out: Path) -> None:
    """Raise UserMistake if the output folder of a training holds other files."""
    with path_errors(f"--out {out}"):
        is_taken = out.is_file() or (out.is_dir() and any(path.name != "lease" for path in out.iterdir()))
        if is_taken and not (out / "training.json").is_file():
            raise UserMistake(f"--out {out}: holds other files; give a new or empty folder")
