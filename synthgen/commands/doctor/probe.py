"""Imports of the libraries with compiled parts, in a process of their own.

Two builds that do not fit each other can take the interpreter down. When that happens, the library is named and the
rest are tried in a new process. A library that nothing uses is only looked for.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

IMPORT_SECONDS = 120.0
# Prints a line of JSON for each library: its version, its build, and the error if it does not import. It keeps its own
# stdout for these lines; the libraries print to stderr.
PROGRAM = """
import importlib, json, os, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for name in sys.argv[1:]:
    result = {"name": name}
    try:
        module = importlib.import_module(name)
        result["version"] = str(getattr(module, "__version__", ""))
        if name == "torch":
            result["build"] = "cuda" if module.version.cuda else "rocm" if module.version.hip else "cpu"
        if name == "vllm":
            from vllm.platforms import current_platform
            result["build"] = str(current_platform.device_type)
    except BaseException as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        result["error"] = f"{type(error).__name__}: {lines[0].strip() if lines else ''}"
        result["is_absent"] = isinstance(error, ModuleNotFoundError) and error.name == name
    print(json.dumps(result), file=out, flush=True)
"""


@dataclass(frozen=True)
class Probe:
    """The result of importing one library."""

    name: str
    version: str = ""
    build: str = ""  # of torch and vLLM: cuda, rocm or cpu
    error: str = ""
    is_absent: bool = False
    is_slow: bool = False
    is_unused: bool = False  # and therefore not imported


def probe(names: Sequence[str]) -> list[Probe]:
    """Return the result of importing each library, in order."""
    results: list[Probe] = []
    while pending := names[len(results) :]:
        imported, failure = _import(pending)
        results += imported
        if len(results) < len(names):
            error, is_slow = failure
            results.append(Probe(names[len(results)], error=error, is_slow=is_slow))
    return results


def find(names: Sequence[str]) -> list[Probe]:
    """Return whether each library is installed, without importing it."""
    absent = {name for name in names if importlib.util.find_spec(name) is None}
    return [
        Probe(name, error="not found" if name in absent else "", is_absent=name in absent, is_unused=True)
        for name in names
    ]


def _import(names: Sequence[str]) -> tuple[list[Probe], tuple[str, bool]]:
    """Import libraries in one process.

    Returns:
        The results up to the library that ended the process, if one did; and for that one the error, and whether it
        ran out of time.
    """
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *names],
            capture_output=True,
            text=True,
            env={**os.environ, **quiet},
            timeout=IMPORT_SECONDS,
            check=False,
        )
        output = done.stdout
        failure = (f"takes the interpreter down (exit status {done.returncode})", False)
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode()
        failure = (f"not within {IMPORT_SECONDS:.0f} s, on a busy machine", True)
    return [Probe(**json.loads(line)) for line in output.splitlines()], failure
