"""The contract of a stage: its module has both functions, and a run of it keeps its epoch while it commits."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from synthgen.stages.contract import StageRun
from synthgen.store import Folder, Lease, Receipt, RunFolder
from synthgen.tables import GENERATE, STAGES, StageSpec
from synthgen.workers import StopSignals
from tests.fixtures.stage_runs import job_with


@pytest.mark.parametrize("spec", STAGES, ids=[spec.name for spec in STAGES])
def test_every_stage_of_the_table_has_the_two_functions_of_the_contract(spec: StageSpec) -> None:
    module = import_module(spec.module)
    assert list(inspect.signature(module.pending).parameters) == ["run"]
    assert list(inspect.signature(module.results).parameters) == ["run", "tasks"]


def test_the_epoch_of_a_run_stays_while_it_commits(tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    with Lease.take(out) as lease:
        folder = RunFolder(out)
        folder.commit(GENERATE, Receipt("e001-00000", 1, {}, epoch=4), lease)
        run = StageRun(GENERATE, job_with(out), folder, lease, StopSignals())
        assert run.epoch == 5
        folder.commit(GENERATE, Receipt("e001-00000", 2, {}, epoch=run.epoch), lease)
        assert run.epoch == 5 and folder.log(GENERATE).next_epoch == 6
    assert run.strikes.path == f"{out.path}/3-generated/strikes"


@pytest.mark.parametrize(("change", "is_update"), [("growth", False), ("edit", True), ("redraw", True)])
def test_a_run_with_a_change_is_an_update(change: str, is_update: bool, tmp_path: Path) -> None:
    out = Folder(str(tmp_path))
    with Lease.take(out) as lease:
        run = StageRun(GENERATE, job_with(out), RunFolder(out), lease, StopSignals(), change)  # type: ignore[arg-type]
    assert run.is_update is is_update
