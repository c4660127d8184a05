"""Finds out why the process of an engine did not start.

vLLM's own error says "see root cause above", and above is a log that the user does not see: Ray keeps what the
processes of a worker wrote in files. The cause is the first exception after the report that a process failed; the
exceptions that follow only report that another process failed.
"""

import os
import re
import stat

from synthgen.errors import one_line

TAIL_BYTES = 256 * 1024
LONGEST_CAUSE = 300  # characters
# The process that writes a line, and vLLM's own mark of an error.
PREFIX = re.compile(r"^(?:\(\w+[^)]*\) ?)*(?:(?:ERROR|CRITICAL) [\d-]+ [\d:.]+ \[[^\]]*\] ?)?")
PROCESS_FAILED = re.compile(r"failed to start|^Process \S+:$", re.MULTILINE)
EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)(?:: .+)?$")
HINT = "SYNTH_RAY_LOGS=1 before the command shows all that vLLM says"


def explain(message: str) -> str:
    """Return vLLM's message as one line; where it points to a root cause in a log, that cause and how to see it all."""
    if "root cause" not in message:
        return one_line(message, LONGEST_CAUSE)
    cause = root_cause(own_logs()) or message.partition(". See root cause")[0]
    return f"{one_line(cause, LONGEST_CAUSE).rstrip('.')}; {HINT}"


def cause_of(error: BaseException) -> str:
    """Return what an exception says, with its kind where that says nothing by itself; else what its cause says."""
    text = str(error)
    if isinstance(error, LookupError) or not text.strip():
        inner = error.__cause__ or error.__context__
        return cause_of(inner) if inner and not text.strip() else f"{type(error).__name__}: {text!r}"
    return text


def root_cause(log: str) -> str | None:
    """Return the first exception in a log after a process failed that does not point to another; None without one."""
    text = "\n".join(PREFIX.sub("", line) for line in log.splitlines())
    failed = PROCESS_FAILED.search(text)
    lines = text[failed.end() :].splitlines() if failed else []
    return next((line.strip() for line in lines if EXCEPTION.match(line) and "root cause" not in line), None)


def own_logs() -> str:
    """Return the end of what this process and its children wrote to stdout and stderr, where these are files."""
    tails = []
    for descriptor in (2, 1):
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                # Opened once more, so that reading does not move the position at which the process writes.
                with open(f"/proc/self/fd/{descriptor}", "rb") as file:  # noqa: PTH123
                    file.seek(max(0, status.st_size - TAIL_BYTES))
                    tails.append(file.read().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(tails)
