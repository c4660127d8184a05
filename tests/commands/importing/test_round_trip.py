"""A run that was exported, imported from the export, and exported again tells the same as the run."""

from pathlib import Path

import pytest

from synthgen.cli import imports
from synthgen.commands.export import FORMS as EXPORTS
from synthgen.commands.export import export
from synthgen.config.source import ImagesConfig
from synthgen.ingest.sources import read_objects
from synthgen.ingest.sources.instructions import FORMS
from synthgen.ingest.sources.objects import ObjectRef
from synthgen.store import RunFolder
from synthgen.tables import object_row
from tests.fixtures.exporting import Run, Told, image, run
from tests.fixtures.importing import Imported
from tests.fixtures.instructions import listed, source_of, turns_of

__all__ = ["run"]

WITHOUT_TURNS = {"vlmevalkit", "lmms-eval", "csv"}  # for benchmarks and tables; no training set is published so


def told(samples: list[Told]) -> list[tuple[bytes, tuple[tuple[str, str], ...]]]:
    """Return what samples tell but for their ids, which are those of the run."""
    return sorted((sample.image, sample.turns) for sample in samples)


def test_the_forms_that_help_names_are_those_that_are_read() -> None:
    assert ", ".join(FORMS) == imports.SET_FORMS


def test_what_is_exported_for_training_can_be_imported() -> None:
    assert set(EXPORTS) - set(FORMS) == WITHOUT_TURNS


@pytest.mark.parametrize("form", sorted(set(EXPORTS) & set(FORMS)))
def test_an_export_is_recognised_and_read_word_for_word(form: str, run: Run) -> None:
    target, _ = run.export(form, f"read-{form}")
    assert told(_samples(target)) == told(run.told(upright=True))


@pytest.mark.parametrize("form", ["sharegpt", "trl", "webdataset"])
def test_an_import_exports_what_the_run_told(form: str, run: Run, tmp_path: Path) -> None:
    target, _ = run.export(form, f"whole-{form}")
    again = Imported(target, tmp_path / "out", "select.same_pair=null")
    report = again.run()
    assert (report.kept, report.dropped) == (report.rows, {})
    export(RunFolder(again.out), str(tmp_path / "again"), form)
    assert told(_samples(tmp_path / "again")) == told(_samples(target)) == told(run.told(upright=True))


def _samples(place: Path) -> list[Told]:
    """Return what the rows of a set tell."""
    rows = listed(place)
    refs = [ObjectRef(object_row(**vars(row))["object_id"], row.uri, row.version, row.row) for row in rows]
    read = {ref.object_id: data for ref, data in read_objects(refs, source_of(place), ImagesConfig())}
    samples = []
    for row, ref in zip(rows, refs, strict=True):
        data = read[ref.object_id]
        assert isinstance(data, bytes)
        samples.append(Told("", image(data, True), tuple(turns_of(row))))
    return samples
