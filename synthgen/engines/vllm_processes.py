"""The processes of vLLM end with the worker that started them.

vLLM's engine runs in processes of its own, which hold the memory of the GPU. Where the worker is killed together with
the part of Ray that would end them, they would wait for it for ever, and the next run would find the GPU full. So a
small process waits for the end of the worker, and then kills what it left behind.
"""

import os
import secrets
import subprocess
import sys

MARK = "SYNTH_WORKER"  # a variable that everything that this process starts inherits
# Waits for the process that its first argument names, then kills every process with the mark of the second. It is the
# child of a child that stays: a worker of Ray kills its children as it ends, but not theirs, and adopts orphans.
KEEPER = """
import contextlib, os, select, signal, sys
from pathlib import Path
if os.fork():
    os.wait()
    os._exit(0)
os.write(1, b".")  # it watches from here on
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
with contextlib.suppress(ProcessLookupError):  # it has ended already
    ended = select.poll()
    ended.register(os.pidfd_open(int(sys.argv[1])), select.POLLIN)
    ended.poll()
for entry in Path("/proc").iterdir():
    try:
        if entry.name.isdigit() and sys.argv[2].encode() in (entry / "environ").read_bytes().split(b"\\0"):
            os.kill(int(entry.name), signal.SIGKILL)
    except OSError:
        pass
"""


def end_with_this_process() -> None:
    """Have every process that this one starts from now on killed when it ends, however it ends; on Linux only."""
    if not hasattr(os, "pidfd_open") or MARK in os.environ:
        return
    mark = secrets.token_hex(8)
    words = [sys.executable, "-I", "-S", "-c", KEEPER, str(os.getpid()), f"{MARK}={mark}"]
    keeper = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert keeper.stdout is not None
    with keeper.stdout:
        keeper.stdout.read(1)
    os.environ[MARK] = mark
