"""`synth train`: fine-tune a vision-language model on Parquet shards.

Read loop.py first; command.py is what surrounds it. A row takes this way from Parquet to the loss:

    row_store.py      {"images": [{"bytes": …}], "messages": [{"role": …, "content": […]}]}, in whatever form (forms.py)
    stream.py         the same rows, of all data sets, in an order fixed by a seed
    conversation.py   the text of the messages, and the span of each answer in it
    encode.py         (text tokens,) ids, with the image processor (batch, tokens) int64 input_ids and labels,
                      and float32 pixel_values, (images, 3, height, width) in most models
    loader.py         the same tensors, encoded in threads ahead of time, then on the model's device
    packing.py        where asked for, (1, tokens) of several rows in place of padded ones
    loss.py           (batch, positions, vocabulary) logits, and the losses of the answer tokens
    loop.py           their mean () float32, and the step

Before it, preconditions.py checks what needs no torch, and schedule.py says which stages there are. feed.py has the
data sets: dataset.py their files, row_index.py what is known of their rows, held_out.py which of these are not
trained on. Beside the loop, record.py keeps settings and log, checkpoints.py what a killed training continues from,
pretrained.py loads and saves the model, image_size.py bounds its images, lora.py adds adapters to it, optimizer.py
has the optimizer, and monitor.py tells what is learned (turns.py: of which answers; measure.py: of rows that are held
out). seen.py and finished.py leave the losses of each pair for the plan (reducible.py), mixture.py moves the weights of
types by them, and methods/ has what few trainings need. Where several processes train (group.py), ray_train.py starts
them, sharding.py spreads the model over them, and agreement.py has them take the same steps; trials.py has rows that
are tried or stand in for others. Afterwards uses.py and sightings.py tell which model has seen an image.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.engines.kernel_notes import silence_kernel_notes
from synthgen.train.preconditions import check, missing_packages
from synthgen.train.schedule import Schedule

if TYPE_CHECKING:
    from synthgen.config.training import TrainConfig
    from synthgen.train.command import TrainingResult

__all__ = ["train", "train_stages"]

silence_kernel_notes()


def train(shards: str, model: str, out: Path, settings: "TrainConfig") -> "TrainingResult":
    """Train on one data set, without a recipe; see `train_stages`."""
    return train_stages(Schedule.plain(shards, settings), model, out)


def train_stages(schedule: Schedule, model: str, out: Path) -> "TrainingResult":
    """Train as `command.train` does, once what can be checked without torch, which loads for seconds, is right."""
    check(schedule, model, out)
    try:
        from synthgen.train import command
    except ImportError as error:
        raise missing_packages(error.name or "torch", str(error)) from error
    return command.train(schedule, model, out)
