"""`synth train`: fine-tune a vision-language model on Parquet shards.

Read loop.py first. A row takes this way from Parquet to the loss:

    dataset.py        {"images": [{"bytes": …}], "messages": [{"role": …, "content": […]}]}, in an order fixed by a seed
    conversation.py   the text of the messages, and the span of each answer in it
    encode.py         (text tokens,) ids, with the image processor (batch, tokens) int64 input_ids and labels,
                      and float32 pixel_values, (images, 3, height, width) in most models
    loader.py         the same tensors, encoded in threads ahead of time, then on the model's device
    loop.py           (batch, positions, vocabulary) logits, and the loss () float32

Beside it, record.py keeps the output folder (settings, log, checkpoints), and pretrained.py loads and saves the model.
"""

from synthgen.errors import UserMistake

try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ImportError as error:
    packages = "transformers accelerate" if error.name == "transformers" else "torch transformers accelerate"
    raise UserMistake(
        f"synth train needs torch and transformers ({error}); get them with: pip install {packages}"
    ) from error

from synthgen.train.loop import TrainingResult, train

__all__ = ["TrainingResult", "train"]
