"""What `nvidia-smi` says of the GPUs of this machine; where there is no driver, nothing."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LOOK_SECONDS = 0.5


@dataclass
class Memory:
    """The memory of the first GPU in MB: all of it, and the most that was in use at once."""

    total: int = 0
    most: int = 0


@contextmanager
def sampled_memory() -> Iterator[Memory]:
    """Look at the memory of the first GPU until the block ends; both figures are 0 where there is none."""
    seen, ended = Memory(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(seen, ended), daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def _watch(seen: Memory, ended: threading.Event) -> None:
    while lines := nvidia_smi("memory.total,memory.used"):
        seen.total, used = (int(field) for field in lines[0].split(","))
        seen.most = max(seen.most, used)
        if ended.wait(LOOK_SECONDS):
            return


def gpu() -> str | None:
    """Return the first GPU's name and memory; None if there is none."""
    lines = nvidia_smi("name,memory.total")
    return lines[0] if lines else None


def nvidia_smi(fields: str) -> list[str]:
    """Return a line a GPU with some fields; none without a driver."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
