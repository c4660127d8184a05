"""Resolves the name of a model to an exact revision before any engine starts.

The revision changes whenever the weights do: it is the commit of a hub model or a digest of local files, and
"unverified" where nobody can tell, as for an endpoint, which may serve anything. It is part of every pair's recipe, so
a new checkpoint under an old path is noticed.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from synthgen.config.generation import GenerateConfig
from synthgen.engines.hub import hub_reason
from synthgen.engines.protocol import ModelName
from synthgen.errors import UserMistake
from synthgen.store.patterns import expand_home

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")  # a model folder for vLLM holds one of these
DIGESTED = (
    *WEIGHTS,
    ".pth",
    ".json",
    ".jinja",
    ".model",
    ".txt",
)  # also open_clip weights, configs, tokenizers, templates


def local_path(model: str, home: Path) -> Path:
    """Return the path that a model has if it is local; a relative one starts from `home`."""
    return home / expand_home(model)


def is_hub_name(model: str) -> bool:
    """Return whether a name reads organisation/model, and not like a path."""
    return model.count("/") == 1 and not model.startswith(("/", "./", "../", "~"))


def resolve_weights(settings: GenerateConfig, named_at: str, home: Path) -> ModelName:
    """Return the digest of a model folder, or the commit of a hub model.

    Args:
        settings: Names the model and, optionally, its revision on the hub.
        named_at: The setting that names the model, for messages.
        home: The folder that relative paths start from.

    Raises:
        UserMistake: The name is neither a usable folder nor a model that the hub or its local cache has.
    """
    folder = local_path(settings.model, home)
    if folder.is_dir():
        if fault := folder_fault(folder):
            raise UserMistake(f"{named_at} {settings.model}: {fault}")
        return _digested(folder)
    if not is_hub_name(settings.model):
        where = "" if settings.model.startswith(("/", "~")) else f" in {home.absolute()}"
        raise UserMistake(
            f"{named_at} {settings.model}: no such folder{where}, and a hub name reads organisation/model"
        )
    return ModelName(settings.model, _hub_commit(settings.model, settings.revision, named_at))


def resolve_own(settings: GenerateConfig, named_at: str, home: Path) -> ModelName:
    """Return the digest of local files, else the revision as configured: the hub need not have the model."""
    path = local_path(settings.model, home)
    return _digested(path) if path.exists() else ModelName(settings.model, settings.revision or "unverified")


def resolve_unverified(settings: GenerateConfig, named_at: str, home: Path) -> ModelName:
    """Return the model under a revision that says that nobody can verify it."""
    return ModelName(settings.model, "unverified")


def _digested(path: Path) -> ModelName:
    return ModelName(str(path.resolve()), f"files:{folder_digest(path.resolve())}")


def folder_fault(folder: Path) -> str | None:
    """Return why a folder cannot be a model, as far as its files show without loading it."""
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
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        return f"lacks {lacking[0]}, which its index names{more}"
    for path in weights:
        if path.suffix == ".safetensors" and not _is_whole(path):
            return f"{path.name} is cut short"
    return None


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file is as long as its header says: a length, a JSON header, the tensors."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < 2**27 else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def folder_digest(folder: Path) -> str:
    """Return 16 hex digits of a SHA-256 over the names and bytes of a model folder's files, or of one file.

    Files of unchanged size and time are read once in a process.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix in DIGESTED] if folder.is_dir() else [folder]
    return _digest(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@cache
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Return the digest of files, given with their sizes in bytes and the times of their last change."""
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _hub_commit(model: str, revision: str | None, named_at: str) -> str:
    """Return the commit that a hub model has now; offline, or for a fixed revision, the one in the local cache."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError as error:
        raise UserMistake(f"{named_at} {model}: no such folder here, and it is not a valid hub name") from error
    if isinstance(cached, str) and (constants.HF_HUB_OFFLINE or revision):
        return Path(cached).parent.name
    try:
        return str(HfApi().model_info(model, revision=revision).sha)
    except Exception as error:  # the hub's own errors, those of its HTTP library, a name that it refuses
        if isinstance(cached, str):
            return Path(cached).parent.name
        wanted = f"{model}@{revision}" if revision else model
        reason = hub_reason(error)
        raise UserMistake(
            f"{named_at} {wanted}: no such folder here, not in the local cache, and not from the hub ({reason}); "
            "name a local folder, or serve the model and take kind: endpoint"
        ) from error
