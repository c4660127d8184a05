"""`synth train`: shards in, a tuned vision-language model out; a first honest loop that one can read from top to bottom.

Begin with loop.py, the training itself. dataset.py says which rows come in which order, encode.py makes them into what the
model takes, with labels on the answers alone, and pretrained.py loads the model and saves it in the layout that it came in.
"""

from synthgen.errors import UserMistake

try:
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ImportError as error:
    lacking = "transformers accelerate" if error.name == "transformers" else "torch transformers accelerate"
    raise UserMistake(
        f"synth train needs torch and transformers ({error}); get them with: pip install {lacking}"
    ) from error

from synthgen.train.loop import TrainingResult, train

__all__ = ["TrainingResult", "train"]
