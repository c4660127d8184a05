"""One real engine a family, started at the first check that asks for it; and the table of family by check."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.workspace import ROOT
from tests.zoo.checkpoints import FAMILIES, checkpoint

EVERY = "SYNTH_ZOO_EVERY"  # set by `make zoo`: every family has an engine of its own
FEW = ("gemma3",)  # for the usual run of the tests, in which the everyday pipeline runs with Qwen2.5-VL
NO_ENGINE = ("no-system-role", "string-content")  # their templates are looked at without one
# Families that vLLM's CPU build loads and does not serve: https://github.com/vllm-project/vllm/pull/41025 brought their
# linear attention to the CPU in bfloat16; it wants chunked prefill, with which a seeded request ends the engine.
NOT_SERVED = {"minicpm-v-4.6": "vLLM on the CPU: CPU Generator does not use offset (vllm-project/vllm#41025)"}
INTERVIEW_SECONDS = 800


def families_with_engine() -> list[str]:
    """Return the families whose checkpoint is loaded by vLLM in this run."""
    return [name for name in FAMILIES if name not in NO_ENGINE] if os.environ.get(EVERY) else list(FEW)


@pytest.fixture(scope="session")
def interviewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that gives what a family's engine answered; see interview.py."""
    folder = tmp_path_factory.mktemp("interviews")

    @cache
    def ask(family: str) -> dict[str, Any]:
        checkpoint(family)
        path, log = folder / f"{family}.json", folder / f"{family}.log"
        command = [sys.executable, "-m", "tests.zoo.interview", family, str(path)]
        with log.open("wb") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
            try:
                process.wait(INTERVIEW_SECONDS)
            except subprocess.TimeoutExpired:
                return {"failed": f"no interview within {INTERVIEW_SECONDS} s: {_tail(log)}"}
            finally:
                _end(process.pid)
        if not path.exists():
            return {"failed": f"the process ended with {process.returncode}: {_tail(log)}"}
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    yield ask


def _end(group: int) -> None:
    """Kill the processes of an interview, the engine's among them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


@pytest.fixture(params=families_with_engine(), scope="session")
def family(request: pytest.FixtureRequest) -> str:
    """Return the name of each family that has an engine in this run."""
    return str(request.param)


@pytest.fixture
def found(family: str, interviewed: Any) -> dict[str, Any]:
    """Return what the engine of a family answered; the check fails where there is no engine."""
    answers: dict[str, Any] = interviewed(family)
    if "failed" in answers and family in NOT_SERVED:
        pytest.xfail(NOT_SERVED[family])
    if "failed" in answers:
        pytest.fail(f"{family}: {answers['failed']}", pytrace=False)
    return answers


# --- the table --------------------------------------------------------------------------------------------------------

LONGEST_REASON = 150  # characters
outcomes: dict[tuple[str, str], str] = {}  # family and check to what is shown for it
reasons: dict[str, int] = {}  # why a cell is red, to its number


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Enter the outcome of a check that is made of each family."""
    check, _, parameter = report.nodeid.rpartition("::")[2].partition("[")
    family = parameter.rstrip("]")
    if family not in FAMILIES or (report.when != "call" and report.passed):
        return
    outcomes[family, check] = _cell(report)


def _cell(report: pytest.TestReport) -> str:
    if report.passed:
        return "ok"
    if report.skipped and not hasattr(report, "wasxfail"):
        return "-"
    text = getattr(report, "wasxfail", "") or str(getattr(report.longrepr, "reprcrash", report.longrepr))
    reason = " ".join(text.removeprefix("reason: ").split())[:LONGEST_REASON]
    return f"{'known' if report.skipped else 'RED'} {reasons.setdefault(reason, len(reasons) + 1)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the families by the checks, and what the numbers of red cells mean."""
    if not os.environ.get(EVERY) or not outcomes:
        return
    names = [name for name in FAMILIES if any(family == name for family, _ in outcomes)]
    terminalreporter.section("the zoo: family by check")
    width = max(len(check) for _, check in outcomes)
    for number, name in enumerate(names, 1):
        terminalreporter.line(f"{number:>3} {name}")
    terminalreporter.line(" " * width + "".join(f"{number:>10}" for number in range(1, len(names) + 1)))
    for check in dict.fromkeys(check for _, check in outcomes):
        cells = "".join(f"{outcomes.get((name, check), ''):>10}" for name in names)
        terminalreporter.line(f"{check:<{width}}{cells}")
    for reason, number in reasons.items():
        terminalreporter.line(f"{number:>3} {reason}")
