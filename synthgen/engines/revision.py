"""Which exact model a name stands for, found out before any engine starts.

Comes in: what the user wrote as the model. Goes out: the same with a revision that changes whenever the weights do: the
commit of a hub model, the digest of a local folder's files, or "unverified" for an endpoint, which can serve what it
likes. The revision is part of every pair's recipe, so a new checkpoint under an old path is noticed.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from synthgen.config.pipeline import GenerateConfig
from synthgen.engines import ModelName
from synthgen.errors import UserMistake

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")  # of which one makes a folder a model for vLLM
DIGESTED = (
    *WEIGHTS,
    ".pth",
    ".json",
    ".jinja",
    ".model",
    ".txt",
)  # those, open_clip's third kind, configs, tokenizers, templates


def resolve(settings: GenerateConfig, said_at: str = "generate.model") -> ModelName:
    """The model of these settings with its revision; `said_at` is where the user named it, for messages."""
    if settings.engine.kind != "vllm":
        return ModelName(settings.model, "unverified" if settings.engine.kind == "endpoint" else "scripted")
    folder = Path(settings.model).expanduser()
    if folder.is_dir():
        if fault := folder_fault(folder):
            raise UserMistake(f"{said_at} {settings.model}: {fault}")
        return ModelName(str(folder.resolve()), f"files:{folder_digest(folder.resolve())}")
    if settings.model.startswith(("/", "./", "../", "~")) or settings.model.count("/") != 1:
        where = "" if settings.model.startswith(("/", "~")) else f" in {Path.cwd()}"
        raise UserMistake(f"{said_at} {settings.model}: no such folder{where}, and a hub name reads organisation/model")
    return ModelName(settings.model, _hub_commit(settings.model, settings.revision, said_at))


def folder_fault(folder: Path) -> str | None:
    """Why a folder cannot be a model, as far as its files tell without loading it: a copy cut short, mostly."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return "is a folder without config.json; give a model folder or a hub name"
    except ValueError as error:
        return f"its config.json is not JSON ({error})"
    if not isinstance(config, dict) or not config.get("architectures"):
        return "its config.json names no architecture"
    weights = [path for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS]
    if not weights:
        return "holds no weights (*.safetensors or *.bin)"
    index = folder / "model.safetensors.index.json"
    listed = set(json.loads(index.read_bytes())["weight_map"].values()) if index.is_file() else set()
    if lacking := sorted(listed - {path.name for path in weights}):
        return f"lacks {lacking[0]}, which its index names" + (f" (and {len(lacking) - 1} more)" if lacking[1:] else "")
    return next(
        (f"{path.name} is cut short" for path in weights if path.suffix == ".safetensors" and not _is_whole(path)), None
    )


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says: a length, a JSON header, the tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < 2**27 else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


@cache
def folder_digest(folder: Path) -> str:
    """The first 64 bits of a SHA-256 over the names and bytes of a model folder's files, or of one file."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        if path.suffix in DIGESTED or path == folder:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _hub_commit(model: str, revision: str | None, said_at: str) -> str:
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError as error:
        raise UserMistake(f"{said_at} {model}: no such folder here, and no hub has a model of that name") from error
    if isinstance(cached, str) and (constants.HF_HUB_OFFLINE or revision):
        return Path(cached).parent.name
    try:
        return str(HfApi().model_info(model, revision=revision).sha)
    except Exception as error:  # the hub's own errors, those of whatever it connects with, a name that it does not take
        if isinstance(cached, str):
            return Path(cached).parent.name
        wanted = f"{model}@{revision}" if revision else model
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserMistake(
            f"{said_at} {wanted}: no such folder here, not in the local cache, and the hub does not give it ({reason})"
        ) from error
