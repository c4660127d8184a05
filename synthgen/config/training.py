"""Settings of training and of evaluation."""

from typing import Literal

from pydantic import Field, model_validator

from synthgen.config.engine import EngineConfig
from synthgen.config.library import Section
from synthgen.config.training_methods import LengthsConfig, MixtureConfig, RetainConfig, RoutersConfig


class LoraConfig(Section):
    """Adapters of low rank beside frozen weights."""

    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0)  # the product of the two matrices counts alpha / rank


class TrainConfig(Section):
    """`synth train`, after the stages: training on the shards."""

    what: Literal["all", "language", "projector"] = "all"  # trained parameters; language: all but the vision tower
    lora: LoraConfig | None = None  # train adapters of that part in place of its weights
    steps: int = Field(default=300, gt=0)
    batch: int = Field(default=8, gt=0)  # samples per step
    micro_batch: int | None = Field(default=None, gt=0)  # samples on the device at once, where a batch does not fit
    pack_tokens: int | None = Field(default=None, gt=0)  # join samples into sequences up to this length, unpadded
    precision: Literal["float32", "bfloat16"] = "float32"  # of the weights; bfloat16 is rounded at random
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"  # 8bit: its two moments take a byte each
    recompute: bool = False  # activations in the backward pass: a third more time, far less memory
    hold_out: float = Field(default=0.0, ge=0, lt=1)  # share of the pictures that are never trained on
    hold_out_bits: int = Field(default=4, ge=0, le=16)  # differing bits of near pictures, which are held out together
    held_out_rows: int = Field(default=128, ge=0)  # of these pictures, on which accuracy is measured during training
    held_out_every: int = Field(default=100, gt=0)  # steps
    bucket_batches: int = Field(default=1, gt=0)  # batches among which rows are sorted by length
    shuffle_gigabytes: float = Field(default=8.0, gt=0)  # of a data set whose rows are shuffled together
    scratch: str | None = None  # folder for copies of shards on each machine; by default in --out
    image_grid: int | None = Field(default=None, gt=0)  # tiles a side that an image is cut into, at most
    image_tokens: int | None = Field(default=None, gt=0)  # of an image, at most
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)  # share of the steps
    weight_decay: float = Field(default=0.01, ge=0)
    max_tokens: int = Field(default=4096, gt=0)  # longer samples are skipped and counted
    # Larger images are scaled down to this before the model's own scaling.
    model_pixels: int = Field(default=1_003_520, gt=0, le=10**8)
    seed: int = 0
    workers: int = Field(default=2, gt=0)  # threads that prepare batches, in each process
    processes: int = Field(default=1, gt=0)  # that share a training, on Ray; each on a GPU where there are any
    checkpoint_every: int = Field(default=100, gt=0)  # steps
    score_after: int = Field(default=0, ge=0)  # samples that the finished model is tried on, for synth plan
    mixture: MixtureConfig | None = None  # move weights of types with what is still to be learned
    retain: RetainConfig | None = None  # keep an old skill
    lengths: LengthsConfig | None = None  # learn from pieces of conversations
    new_tokens: int | None = Field(default=None, gt=0)  # train these last tokens of the vocabulary alone
    routers: RoutersConfig | None = None  # keep those of a model of experts at work

    @model_validator(mode="after")
    def _check_methods(self) -> "TrainConfig":
        for name in ("retain", "new_tokens"):
            if getattr(self, name) and self.lora:
                raise ValueError(f"{name} and lora both say which weights may move; give one of them")
            if getattr(self, name) and self.processes > 1:
                raise ValueError(f"{name} is for one process; leave processes at 1")
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> "TrainConfig":
        if self.pack_tokens and self.micro_batch:
            raise ValueError("micro_batch and pack_tokens both say what is on the device at once; give one of them")
        if self.processes > 1 and (self.precision, self.optimizer) == ("bfloat16", "adamw_8bit"):
            raise ValueError(
                "precision bfloat16 with optimizer adamw_8bit is for one process; several share weights and moments, "
                "so use one of the two"
            )
        return self


class EvaluateConfig(Section):
    """`synth evaluate`, after the stages: a model is asked questions whose answers are known."""

    engine: EngineConfig | None = None  # of the models; by default that of `generate`
    wording: Literal["own", "plain", "lmms-eval", "vlmevalkit", "bare"] = "own"  # own: of shards as packed, else plain
    max_tokens: int = Field(default=256, gt=0)  # of a reply
    rotations: bool = True  # ask multiple choice under every rotation of the options (ShiftCheck)
    controls: tuple[Literal["blind", "swapped"], ...] = ("blind", "swapped")  # without the image, and with another one
    tolerance: float = Field(default=0.05, ge=0, lt=1)  # by which a number may be off, as a share of it
    seen: bool = False  # whether questions on images that a model was tuned on count
    resamples: int = Field(default=2000, ge=100, le=100_000)  # of the bootstrap over images
    seed: int = 0  # of the bootstrap, and of the images that are swapped
