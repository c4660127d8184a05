"""A finding about this machine, the report of several, and the pip commands that fix a missing package."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# note: runs work without it, or may; missing: a run of the pipeline cannot work.
Level = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One fact about this machine, and the command that fixes it."""

    name: str
    level: Level
    detail: str
    fix: str = ""


def text(findings: Sequence[Finding]) -> str:
    """Return the findings as lines for a terminal, each with its fix below."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.name:<14} {finding.detail}")
        if finding.fix:
            prefix = "→" if finding.level == "missing" else "to change that:"
            lines.append(f"{'':<8} {'':<14} {prefix} {finding.fix}")
    levels = [finding.level for finding in findings]
    if missing := levels.count("missing"):
        lines.append(f"{missing} missing: the lines with → show the command to type")
    else:
        lines.append(
            "nothing is missing" + ("; a note concerns only the runs that it names" if "note" in levels else "")
        )
    return "\n".join(lines)


def pip() -> str:
    """Return the command that starts this environment's pip."""
    return f"{python()} -m pip"


def python() -> str:
    """Return the command that starts this environment's Python."""
    return shlex.quote(sys.executable)


def install(requirement: str) -> str:
    """Return the command that installs a requirement into this environment."""
    return f"{pip()} install {shlex.quote(requirement)}"
