"""The page on served models is true: its server starts in this environment, and a run of its pipeline works on it."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from synthgen.commands.doctor.models import models_of
from synthgen.config import library
from synthgen.tables import GENERATE
from tests.fixtures.runs import assignments, rows, synth
from tests.fixtures.workspace import ROOT

PAGE = ROOT / "docs/served_models.md"
START_SECONDS = 500.0


def documented_server() -> tuple[list[str], dict[str, str]]:
    """Return the arguments of the Python that serves the nano model on the page, and the variables that it exports."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    (command,) = [words[1:] for words in lines if words[0] == "python"]
    exported = [word.split("=", 1) for words in lines if words[0] == "export" for word in words[1:]]
    return command, dict(exported)


def documented_pipeline(port: int) -> str:
    """Return the pipeline of the page as its reader has it, at another port."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = [text for text in blocks if "nano-vlm" in text]
    pipeline = yaml.safe_load(library.find("pipeline", "demo").read_text())
    return yaml.safe_dump({**pipeline, **yaml.safe_load(block.replace(":8000", f":{port}"))})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start the server of the page at a free port, and return the pipeline that asks it."""
    tmp_path = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, exported = documented_server()
    (tmp_path / "nano.yaml").write_text(documented_pipeline(port))
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **exported},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not is_answering(port) and server.poll() is None and time.monotonic() < until:
            time.sleep(0.5)
        assert is_answering(port), (tmp_path / "log").read_text()[-3000:]
        yield tmp_path / "nano.yaml"
    finally:
        server.terminate()
        server.wait(60)


def is_answering(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.engine
def test_a_run_of_the_pages_pipeline_asks_the_pages_server_and_makes_nearly_the_pairs_of_the_engine_here(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    findings = list(models_of(str(served), []))
    assert [finding.level for finding in findings] == ["ok"] * len(findings) and len(findings) == 3, findings
    greedy = ("generate.sampling.ask_temperature=0", "generate.scores=[likelihood]", "score={}", "select.keep={}")
    options = ["--limit", "6", "--until", "generate", *(word for each in greedy for word in ("--set", each))]
    for side, pipeline in (("here", "demo"), ("there", str(served))):
        words = ("run", "demo/images", "--out", str(tmp_path / side), "--pipeline", pipeline, *options)
        done = synth(*words, patience=START_SECONDS)
        assert re.search(r"^generate +\d+ +[1-9]\d* ", done.stdout, re.MULTILINE), done.stdout
    plans = [set(assignments(tmp_path / side)) for side in ("here", "there")]
    here, there = (rows(tmp_path / side, GENERATE, "pairs") for side in ("here", "there"))
    assert plans[0] == plans[1] == set(here) == set(there)
    said = [
        {key: (row["question"], row["answer"], row["reason"]) for key, row in side.items()} for side in (here, there)
    ]
    same = sum(words == said[1][key] for key, words in said[0].items())
    # In other batches floats are added in another order, so a choice between two words can differ.
    assert same >= 0.95 * len(here) > 10
    assert {row["revision"] for row in there.values()} == {"unverified"}
