"""When vLLM does not start: the message names the cause that stands in a log, and how to see the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen.engines import vllm_logs

SAID = "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
LOG = """\
(EngineCore pid=71) INFO 11-21 10:00:00 [core.py:90] Initializing
ImportError: of something that does not matter
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] EngineCore failed to start.
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510]   File "vllm/worker.py", line 7, in load
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510]     raise ValueError("not this: a line of code")
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] RuntimeError: the worker failed
"""


def test_the_root_cause_is_the_first_exception_after_the_news_that_a_process_failed() -> None:
    assert vllm_logs.root_cause(LOG) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB"


def test_an_exception_that_points_to_another_is_not_the_root_cause() -> None:
    log = "(EngineCore pid=7) Process EngineCore:\nException: WorkerProc failed. See stack trace for root cause.\nOSError: no such device\n"
    assert vllm_logs.root_cause(log) == "OSError: no such device"


@pytest.mark.parametrize("log", ["", "ValueError: before anything failed\n", "EngineCore failed to start.\nKilled\n"])
def test_where_a_log_names_no_cause_there_is_none(log: str) -> None:
    assert vllm_logs.root_cause(log) is None


def test_vllms_pointer_to_a_log_is_replaced_by_what_the_log_says(tmp_path: Path) -> None:
    """In a process of its own, whose stdout and stderr are files, as those of a worker are."""
    lines = ("import sys", "from synthgen.engines import vllm_logs", "sys.stderr.write(sys.argv[1])")
    code = "\n".join([*lines, "open(3, 'w').write(vllm_logs.in_short(sys.argv[2]))"])
    told = []
    for log in (LOG, "nothing to see\n"):
        read, write = os.pipe()
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            program = f"import os; os.dup2({write}, 3)\n{code}"
            command = [sys.executable, "-c", program, log, SAID]
            subprocess.run(command, stdout=out, stderr=err, pass_fds=(write,), check=True)
        os.close(write)
        with os.fdopen(read) as pipe:
            told.append(pipe.read())
    hint = "SYNTH_RAY_LOGS=1 before the command shows all that vLLM says"
    assert told[0] == f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB; {hint}"
    assert told[1] == f"Engine core initialization failed; {hint}"


def test_what_points_nowhere_is_said_as_it_is() -> None:
    assert vllm_logs.in_short("Value error, Model architectures ['X'] are not supported") == (
        "Value error, Model architectures ['X'] are not supported"
    )
