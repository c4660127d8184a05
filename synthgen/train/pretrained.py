"""The model that training starts from, and the tuned model as a folder that the same servers load.

Remote code is off. The tuned folder has the files of the starting one with other weights, under the names that the
weights have there: transformers 5 writes some under other names than it read (`vision_tower.embeddings` for
`vision_tower.vision_model.embeddings`), and accepts both, which other servers do not.
"""

import json
import shutil
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from synthgen.config.training import TrainConfig
from synthgen.errors import ModelUnavailable, UserMistake, one_line
from synthgen.train.checkpoints import whole
from synthgen.train.image_size import ImageSize, image_size, tell_processor
from synthgen.train.preconditions import find_model

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack")
WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json", ".bin.index.json", *OTHER_FORMATS)
NOT_COPIED = ("README.md", ".gitattributes")  # they describe the starting model
# Parts of weight names, as the models of transformers spell them.
VISION = ("vision_tower", "visual", "vision_model", "vision_encoder", "vision_embed_tokens")
PROJECTORS = ("multi_modal_projector", "merger", "connector", "mm_projector", "embed_vision")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightSpec:
    """The shape and dtype of a weight in the header of a safetensors file; the dtype is a key of DTYPES or another."""

    shape: Shape
    dtype: str


# --- the starting model -----------------------------------------------------------------------------------------------


def model_folder(name: str) -> Path:
    """Return the folder of a model; a hub name is downloaded unless it is in the local cache.

    Raises:
        UserMistake: The name is no model folder and no hub name.
        ModelUnavailable: The hub does not deliver the model.
    """
    return find_model(name) or _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, ignore_patterns=[f"*{suffix}" for suffix in OTHER_FORMATS]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelUnavailable(
            f"--model {name}: not in the local cache, and the hub does not give it ({one_line(error)})"
        ) from error


def load_processor(name: str, folder: Path, settings: TrainConfig | None = None) -> Any:
    """Return the processor of a vision-language model; reads no weights.

    Args:
        name: The model as typed, for messages.
        folder: Its files.
        settings: Bound the size of images.

    Raises:
        UserMistake: The model cannot be trained here: no vision, no chat template, no fast tokenizer.
        ModelUnavailable: transformers cannot read its files.
    """
    try:
        model_type = AutoConfig.from_pretrained(folder).model_type
        if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise UserMistake(
                f"--model {name}: is not a vision-language model that transformers knows (its type is {model_type})"
            )
        loader: Any = AutoProcessor  # untyped
        size = image_size(folder, settings) if settings else ImageSize()
        processor = loader.from_pretrained(folder, **size.processor)
        tell_processor(processor, size)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelUnavailable(
            f"--model {name}: cannot be read by transformers without remote code ({one_line(error)})"
        ) from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise UserMistake(
            f"--model {name}: has no image processor beside its tokenizer; copy the files of the original model into it"
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise UserMistake(
            f"--model {name}: has no chat template; copy chat_template.jinja of the original model into it"
        )
    if not processor.tokenizer.is_fast:
        raise UserMistake(
            f"--model {name}: has no fast tokenizer (tokenizer.json), which gives the offsets of tokens in the text"
        )
    return processor


def load_model(name: str, folder: Path, precision: str = "float32") -> Any:
    """Return the model with all its weights, on the CPU.

    Args:
        name: The model as typed, for messages.
        folder: Its files.
        precision: The dtype of every weight, whatever the files have.

    Raises:
        ModelUnavailable: The files cannot be loaded, or lack weights.
    """
    dtype = getattr(torch, precision)
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelUnavailable(f"--model {name}: does not load ({one_line(error)})") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelUnavailable(f"--model {name}: its files lack {len(missing)} weights, such as {missing[0]}")
    for parameter in model.parameters():  # also those that transformers keeps in float32; not the buffers of positions
        parameter.data = parameter.data.to(dtype)
    return model


def set_trainable(model: Any, part: str) -> list[torch.nn.Parameter]:
    """Freeze all weights outside a part of the model and return the others.

    Args:
        model: The model.
        part: `all`, `language` (all but the vision tower) or `projector`.

    Raises:
        UserMistake: The model has no weights under a name known for that part.
    """
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        is_projector = any(word in PROJECTORS for word in parts)
        is_vision = any(word in VISION for word in parts) and not is_projector
        parameter.requires_grad = part == "all" or (is_projector if part == "projector" else not is_vision)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise UserMistake(f"train.what {part}: this model has no weights under a name known for that; use all")
    return trainable


# --- the tuned model --------------------------------------------------------------------------------------------------


def save(model: Any, weights: Mapping[str, torch.Tensor], start: Path, out: Path) -> None:
    """Write the tuned model as a folder, complete or not at all.

    Args:
        model: The model.
        weights: All its weights by name, on the CPU.
        start: The folder of the starting model.
        out: The folder to write.
    """
    temporary = out.with_name(f".writing-{out.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    original = read_specs(start)
    dtype = _usual_dtype(original)
    with whole(temporary):
        model.config.dtype = dtype
        cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        model.save_pretrained(temporary, state_dict=_without_tied(model, cast))
        _rename_weights(temporary, original_names(read_specs(temporary), original))
        for file in start.iterdir():
            if file.is_file() and not file.name.endswith(WEIGHT_SUFFIXES) and file.name not in NOT_COPIED:
                shutil.copyfile(file, temporary / file.name)
        shutil.rmtree(out, ignore_errors=True)
        temporary.rename(out)


def new_names(start: Path, out: Path) -> list[str]:
    """Return the names of weights that the starting model does not have; other servers may not know them."""
    original = read_specs(start)
    return sorted(read_specs(out).keys() - original.keys()) if original else []


def _without_tied(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights without those that are another one's under a second name, as files of models have them."""
    tied = dict(model._tied_weights_keys or {}) if model.config.tie_word_embeddings else {}
    return {name: tensor for name, tensor in weights.items() if tied.get(name) not in weights}


def _rename_weights(folder: Path, names: Mapping[str, str]) -> None:
    """Rename weights in the safetensors files of a folder and in their index; the tensors stay as they are."""
    for file in folder.glob("*.safetensors"):
        weights = {names.get(name, name): tensor for name, tensor in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    for file in folder.glob("*.safetensors.index.json"):
        index = json.loads(file.read_text())
        index["weight_map"] = {names.get(name, name): part for name, part in index["weight_map"].items()}
        file.write_text(json.dumps(index, indent=2, sort_keys=True))


def read_specs(folder: Path) -> dict[str, WeightSpec]:
    """Return every weight in a folder's safetensors files by name, from the headers alone."""
    specs: dict[str, WeightSpec] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header_bytes = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(header_bytes))
        header.pop("__metadata__", None)
        specs |= {name: WeightSpec(tuple(entry["shape"]), entry["dtype"]) for name, entry in header.items()}
    return specs


def _usual_dtype(original: Mapping[str, WeightSpec]) -> torch.dtype:
    """Return the dtype of most starting weights; float32 where they are not in safetensors."""
    counts = Counter(spec.dtype for spec in original.values() if spec.dtype in DTYPES)
    return DTYPES[counts.most_common(1)[0][0]] if counts else torch.float32


# --- the names of weights ---------------------------------------------------------------------------------------------


def original_names(saved: Mapping[str, WeightSpec], original: Mapping[str, WeightSpec]) -> dict[str, str]:
    """Return the starting name of each renamed weight, by its new name.

    Two names are matched if their shapes are equal and each is the most similar name to the other. Matched names are
    removed, which decides further ones, until no pair is left that is certain.
    """
    new = {name: saved[name].shape for name in saved.keys() - original.keys()}
    old = {name: original[name].shape for name in original.keys() - saved.keys()}
    matches: dict[str, str] = {}
    while True:
        to_old, to_new = _most_similar(new, old), _most_similar(old, new)
        certain = {name: match for name, match in to_old.items() if to_new.get(match) == name}
        if not certain:
            return matches
        matches |= certain
        new = {name: shape for name, shape in new.items() if name not in certain}
        old = {name: shape for name, shape in old.items() if name not in certain.values()}


def _most_similar(names: Mapping[str, Shape], others: Mapping[str, Shape]) -> dict[str, str]:
    """Return for each name the most similar one of equal shape among the others; none if two are equally similar."""
    matches = {}
    for name, shape in names.items():
        candidates = [other for other in others if others[other] == shape]
        ranked = sorted(((_similarity(name.split("."), other.split(".")), other) for other in candidates), reverse=True)
        if ranked and (len(ranked) == 1 or ranked[0][0] > ranked[1][0]):
            matches[name] = ranked[0][1]
    return matches


def _similarity(path: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """Return the Sørensen-Dice coefficient of two paths' parts, then difflib's ratio, which depends on their order."""
    shared = (Counter(path) & Counter(other)).total()
    return 2 * shared / (len(path) + len(other)), SequenceMatcher(None, path, other, autojunk=False).ratio()
