"""Checks of the machine and its environment: memory, disk, GPUs, Ray's cluster, object stores, credentials, model hub.

The values of credentials are never read, only whether their names are set.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from synthgen.commands.doctor.finding import Finding, install
from synthgen.console import pluralize

GIB = 2**30
MANY_FILES = 65536
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HF_TOKEN",
    "OPENAI_API_KEY",
)


def interpreter() -> Finding:
    """Report the Python that runs synthgen."""
    return Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")


def gpu_names() -> list[str]:
    """Return the GPUs that the NVIDIA driver shows."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU \d+: (.+?) \(", done.stdout, re.MULTILINE) if done.returncode == 0 else []


def memory() -> Finding:
    """Check the memory that is free now; the limit of a container is not seen."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    table = Path("/proc/meminfo")
    if table.is_file() and (line := re.search(r"MemAvailable: +(\d+) kB", table.read_text())):
        free = int(line[1]) * 1024
    detail = f"{free / GIB:.0f} GiB available; Ray, a tagger and vLLM need 6 or more"
    return Finding("memory", "ok" if free > 6 * GIB else "note", detail)


def shared_memory() -> Finding:
    """Check the shared memory, where Ray keeps its objects."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", "note", "no /dev/shm: Ray keeps its objects on disk, slowly")
    size = shutil.disk_usage(folder).total
    if size < 2 * GIB:
        detail = f"{size / GIB:.1f} GiB in /dev/shm; Ray needs 2 or more"
        return Finding("shared memory", "note", detail, "docker run --shm-size=4g …")
    return Finding("shared memory", "ok", f"{size / GIB:.0f} GiB in /dev/shm")


def disk(folder: Path) -> Finding:
    """Check the room for results below a folder."""
    free = shutil.disk_usage(folder).free
    detail = f"{free / GIB:.0f} GiB free in the working folder; shards hold the images again"
    return Finding("disk", "ok" if free > 5 * GIB else "note", detail)


def open_files() -> Finding:
    """Check how many files a process may hold open; Ray holds thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 4096:
        limit = MANY_FILES if hard < 0 or hard >= MANY_FILES else hard
        detail = f"at most {soft}; Ray runs out of them on large machines"
        return Finding("open files", "note", detail, f"ulimit -n {limit}")
    return Finding("open files", "ok", f"at most {soft:,}" if soft >= 0 else "no limit")


def cluster() -> Finding:
    """Report where Ray's workers will run, and check that a token for their cluster is used."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("ray cluster", "ok", "RAY_ADDRESS is not set: workers start on this machine")
    if "RAY_AUTH_MODE" not in os.environ and (Path.home() / ".ray/auth_token").is_file():
        detail = (
            f"RAY_ADDRESS={address}; there is a token in ~/.ray, "
            "and without RAY_AUTH_MODE it is not shown to the cluster"
        )
        return Finding("ray cluster", "note", detail, "export RAY_AUTH_MODE=token")
    return Finding("ray cluster", "ok", f"RAY_ADDRESS={address}")


def stores() -> Iterator[Finding]:
    """Check the packages that read object stores."""
    for prefix, module in (("s3://", "s3fs"), ("gs://", "gcsfs")):
        if importlib.util.find_spec(module):
            yield Finding(prefix, "ok", f"{module} {importlib.metadata.version(module)}")
        else:
            yield Finding(prefix, "note", f"{module} is not installed; only {prefix} needs it", install(module))


def credentials() -> Finding:
    """Report which credentials are set, by name."""
    files = (Path.home() / ".aws/credentials", Path.home() / ".config/gcloud/application_default_credentials.json")
    names = [name for name in CREDENTIALS if os.environ.get(name)]
    names += [f"~/{path.relative_to(Path.home())}" for path in files if path.is_file()]
    if not names:
        return Finding("credentials", "ok", "none is set; public buckets, local folders and machine roles need none")
    return Finding("credentials", "ok", f"set (values not read): {', '.join(names)}")


def model_hub() -> Finding:
    """Report whether models may be fetched by name, and where they are kept."""
    cache = os.environ.get("HF_HUB_CACHE") or str(Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    folder = Path(cache).expanduser()
    models = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    kept = f"{pluralize(models, 'model')} kept in {cache}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        # The user chose it, and nothing that comes with synthgen is fetched, so there is nothing to fix.
        detail = f"not used, because HF_HUB_OFFLINE is set; give a model folder or one of the {kept}"
        return Finding("model hub", "ok", detail)
    return Finding("model hub", "ok", f"used for models that are not folders; {kept}")
