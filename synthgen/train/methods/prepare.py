"""What the methods of this package do to a model before its training starts."""

from typing import Any

from synthgen.config.training import TrainConfig
from synthgen.train.methods.upcycling import guide_routers
from synthgen.train.methods.vocabulary import train_only_new_tokens


def prepare(model: Any, processor: Any, settings: TrainConfig) -> None:
    """Make a model ready for the methods that the settings name; a plain training changes nothing.

    Raises:
        UserMistake: The model is not of the form that a method needs.
    """
    if settings.new_tokens:
        train_only_new_tokens(model, processor.tokenizer, settings.new_tokens)
    if settings.routers:
        guide_routers(model, settings.routers.balance, settings.routers.max_z)
