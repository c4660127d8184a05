"""Why the process of an engine did not start: vLLM's own error says "see root cause above", and above is a log that nobody sees.

Comes in: what the processes of a worker wrote to stdout and stderr, which Ray keeps in files. Goes out: the line of the first
exception after the news that a process failed; those that follow only say that another one did. None where there is none.
"""

import os
import re
import stat

TAIL_BYTES = 256 * 1024
MOST = 300  # characters of a cause
SPEAKER = re.compile(
    r"^(?:\(\w+[^)]*\) ?)*(?:(?:ERROR|CRITICAL) [\d-]+ [\d:.]+ \[[^\]]*\] ?)?"
)  # who says it, and vLLM's own mark
FAILED = re.compile(r"failed to start|^Process \S+:$", re.MULTILINE)
RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)(?:: .+)?$")
HINT = "SYNTH_RAY_LOGS=1 before the command shows all that vLLM says"


def in_short(said: str) -> str:
    """vLLM's error with its root cause in place of the words that point to it, and where more is to be seen."""
    if "root cause" not in said:
        return said[:MOST]
    return f"{(root_cause(own_logs()) or said.partition('. See root cause')[0])[:MOST].rstrip('.')}; {HINT}"


def root_cause(log: str) -> str | None:
    """The first exception in a log after a process failed that does not point to another."""
    text = "\n".join(SPEAKER.sub("", line) for line in log.splitlines())
    failed = FAILED.search(text)
    lines = text[failed.end() :].splitlines() if failed else []
    return next((line.strip() for line in lines if RAISED.match(line) and "root cause" not in line), None)


def own_logs() -> str:
    """The end of what this process and its children wrote, where that goes into files."""
    texts = []
    for descriptor in (2, 1):
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                with open(f"/proc/self/fd/{descriptor}", "rb") as file:  # noqa: PTH123 - a new open file, whose place is its own
                    file.seek(max(0, os.fstat(descriptor).st_size - TAIL_BYTES))
                    texts.append(file.read().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)
