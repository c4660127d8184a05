"""When vLLM does not start, the message names the cause from its log, and how to see the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen.engines import vllm_logs

MESSAGE = "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
LOG = """\
(EngineCore pid=71) INFO 11-21 10:00:00 [core.py:90] Initializing
ImportError: of something that does not matter
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] EngineCore failed to start.
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510]   File "vllm/worker.py", line 7, in load
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510]     raise ValueError("not this: a line of code")
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. Tried to get 20 GiB
(EngineCore pid=71) ERROR 11-21 10:00:01 [core.py:1510] RuntimeError: the worker failed
"""


def test_the_root_cause_is_the_first_exception_after_the_report_that_a_process_failed() -> None:
    assert vllm_logs.root_cause(LOG) == "torch.OutOfMemoryError: CUDA out of memory. Tried to get 20 GiB"


def test_an_exception_that_points_to_another_is_not_the_root_cause() -> None:
    pointer = "Exception: WorkerProc failed. See stack trace for root cause."
    log = f"(EngineCore pid=7) Process EngineCore:\n{pointer}\nOSError: no such device\n"
    assert vllm_logs.root_cause(log) == "OSError: no such device"


@pytest.mark.parametrize("log", ["", "ValueError: before anything failed\n", "EngineCore failed to start.\nKilled\n"])
def test_where_a_log_names_no_cause_there_is_none(log: str) -> None:
    assert vllm_logs.root_cause(log) is None


def test_a_pointer_to_a_log_is_replaced_by_the_cause_in_the_log(tmp_path: Path) -> None:
    """Run a process whose stdout and stderr are files, as those of a worker are."""
    lines = ("import sys", "from synthgen.engines import vllm_logs", "sys.stderr.write(sys.argv[1])")
    code = "\n".join([*lines, "open(3, 'w').write(vllm_logs.explain(sys.argv[2]))"])
    explained = []
    for log in (LOG, "nothing to see\n"):
        read, write = os.pipe()
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            program = f"import os; os.dup2({write}, 3)\n{code}"
            command = [sys.executable, "-c", program, log, MESSAGE]
            subprocess.run(command, stdout=out, stderr=err, pass_fds=(write,), check=True)
        os.close(write)
        with os.fdopen(read) as pipe:
            explained.append(pipe.read())
    hint = "SYNTH_RAY_LOGS=1 before the command shows all that vLLM says"
    assert explained[0] == f"torch.OutOfMemoryError: CUDA out of memory. Tried to get 20 GiB; {hint}"
    assert explained[1] == f"Engine core initialization failed; {hint}"


def test_a_message_that_points_to_no_log_stays_as_it_is() -> None:
    assert vllm_logs.explain("Value error, Model architectures ['X'] are not supported") == (
        "Value error, Model architectures ['X'] are not supported"
    )
