"""The model that training starts from, and how the tuned one is written so that whatever served the first serves the second.

Comes in: a model folder or a hub name. Goes out: the model in float32 and its processor, remote code off; at the end, a
folder with the same files as at the start and other weights. Weights keep the names that they have in the starting files:
transformers 5 writes some under other names than it read (`vision_tower.embeddings` for `vision_tower.vision_model.embeddings`),
which it accepts itself and other servers do not.
"""

import json
import shutil
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from synthgen.errors import ModelUnavailable, UserMistake

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WEIGHT_SUFFIXES = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".gguf",
    ".onnx",
    ".h5",
    ".msgpack",
)
NOT_OURS = ("README.md", ".gitattributes")  # they speak of the model that training started from
VISION = ("vision_tower", "visual", "vision_model", "vision_encoder", "vision_embed_tokens")
JOINTS = ("multi_modal_projector", "merger", "connector", "mm_projector", "embed_vision")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A weight as a safetensors file declares it."""

    shape: Shape
    dtype: str


def model_folder(name: str) -> Path:
    """The folder of a model: itself, or where the hub's copy lies."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return _from_hub(name)
    if not (folder / "config.json").is_file():
        raise UserMistake(f"--model {name}: is a folder without config.json; give a model folder or a hub name")
    return folder.resolve()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if name.startswith(("/", "./", "../", "~")) or name.count("/") != 1:
        raise UserMistake(f"--model {name}: no such folder, and a hub name reads organisation/model")
    try:
        return Path(
            snapshot_download(name, ignore_patterns=["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack"])
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelUnavailable(
            f"--model {name}: not in the local cache and the hub does not give it ({_first_line(error)})"
        ) from error


def load_processor(name: str, folder: Path) -> Any:
    """The processor of a vision-language model, or one line on why this is none; reads no weights."""
    try:
        kind = AutoConfig.from_pretrained(folder).model_type
        if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise UserMistake(
                f"--model {name}: is no vision-language model that transformers knows (its type is {kind})"
            )
        loader: Any = AutoProcessor  # untyped
        processor = loader.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelUnavailable(
            f"--model {name}: cannot be read by transformers without remote code ({_first_line(error)})"
        ) from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise UserMistake(
            f"--model {name}: has no processor for images beside its tokenizer; take the files of the original model along"
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise UserMistake(f"--model {name}: has no chat template; take chat_template.jinja of the original model along")
    if not processor.tokenizer.is_fast:
        raise UserMistake(
            f"--model {name}: has no fast tokenizer (tokenizer.json), which says where in a text each token lies"
        )
    return processor


def load_model(name: str, folder: Path) -> Any:
    """The model with all its weights, in float32: small steps would be lost in 16 bits."""
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelUnavailable(f"--model {name}: does not load ({_first_line(error)})") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelUnavailable(f"--model {name}: its files lack {len(missing)} weights, such as {missing[0]}")
    return model


def choose(model: Any, what: str) -> list[torch.nn.Parameter]:
    """Freezes what is not to be learned; the parameters that are."""
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        is_joint = any(part in JOINTS for part in parts)
        is_vision = any(part in VISION for part in parts) and not is_joint
        parameter.requires_grad = what == "all" or (is_joint if what == "projector" else not is_vision)
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not chosen:
        raise UserMistake(f"train.what {what}: this model has no part of a name that is known for that; use all")
    return chosen


def save(model: Any, start: Path, out: Path) -> list[str]:
    """Writes the tuned model as the folder `out`, complete or not at all; the names that other servers may not know."""
    aside = out.with_name(f".writing-{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    original = declared(start)
    # The parameters are cast where they are, so that tied ones stay tied: training is over.
    model.to(_usual_dtype(original)).save_pretrained(aside)
    renamed = original_names(declared(aside), original)
    for file in aside.glob("*.safetensors"):
        save_file(
            {renamed.get(name, name): tensor for name, tensor in load_file(file).items()},
            file,
            metadata={"format": "pt"},
        )
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    for file in aside.glob("*.safetensors.index.json"):
        index = json.loads(file.read_text())
        index["weight_map"] = {renamed.get(name, name): where for name, where in index["weight_map"].items()}
        file.write_text(json.dumps(index, indent=2, sort_keys=True))
    for file in start.iterdir():
        if file.is_file() and not file.name.endswith(WEIGHT_SUFFIXES) and file.name not in NOT_OURS:
            shutil.copyfile(file, aside / file.name)
    shutil.rmtree(out, ignore_errors=True)
    aside.rename(out)
    return sorted(declared(out).keys() - original.keys()) if original else []


def declared(folder: Path) -> dict[str, Tensor]:
    """Every weight in a folder's safetensors files, from their headers alone."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        found |= {
            name: Tensor(tuple(one["shape"]), one["dtype"]) for name, one in header.items() if name != "__metadata__"
        }
    return found


def original_names(saved: Mapping[str, Tensor], original: Mapping[str, Tensor]) -> dict[str, str]:
    """New name → the name in the starting files, for weights that were renamed: same shape and most alike, seen from both."""
    new = {name: saved[name].shape for name in saved.keys() - original.keys()}
    old = {name: original[name].shape for name in original.keys() - saved.keys()}
    found: dict[str, str] = {}
    while True:  # those that are certain leave fewer choices for the others
        to_old, to_new = _most_alike(new, old), _most_alike(old, new)
        certain = {name: match for name, match in to_old.items() if to_new.get(match) == name}
        if not certain:
            return found
        found |= certain
        new = {name: shape for name, shape in new.items() if name not in certain}
        old = {name: shape for name, shape in old.items() if name not in certain.values()}


def _most_alike(names: Mapping[str, Shape], others: Mapping[str, Shape]) -> dict[str, str]:
    """For each name the other of its shape that shares most of its dotted path; none where two are equally near."""
    found = {}
    for name, shape in names.items():
        near = sorted(
            ((_likeness(name.split("."), other.split(".")), other) for other in others if others[other] == shape),
            reverse=True,
        )
        if near and (len(near) == 1 or near[0][0] > near[1][0]):
            found[name] = near[0][1]
    return found


def _likeness(one: list[str], other: list[str]) -> tuple[float, float]:
    """The share of parts that both have, then the share that both have in the same order."""
    shared = (Counter(one) & Counter(other)).total()
    return 2 * shared / (len(one) + len(other)), SequenceMatcher(None, one, other, autojunk=False).ratio()


def _usual_dtype(original: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype of most starting weights; float32 where they are not in safetensors."""
    counted = Counter(tensor.dtype for tensor in original.values() if tensor.dtype in DTYPES)
    return DTYPES[counted.most_common(1)[0][0]] if counted else torch.float32


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
