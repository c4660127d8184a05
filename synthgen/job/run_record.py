"""The run record: the pipeline and settings that an output folder was last made with, the latest file in `frozen/`.

It holds the pipeline, the settings that shaped each table, the hub commits of the models that tag, the folder that the
run was started in, and the changes that are not finished. Names in it can be relative to the folder that the run was
started in, so a source is spelled in full here.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthgen.config import library
from synthgen.config.pipeline import Pipeline
from synthgen.config.source import PlaceConfig, SourceConfig
from synthgen.config.strict_yaml import Document
from synthgen.errors import Damaged, UserMistake, one_line
from synthgen.ingest.sources import spell_out_uri
from synthgen.ingest.sources.location import spell_out_path
from synthgen.store import Record, RunFolder
from synthgen.store.run_folder import MIXTURE, REPAIR_RECORD
from synthgen.tables import score_name


def record_of(folder: RunFolder) -> Record:
    """Return the record of a folder that must have one.

    Raises:
        UserMistake: The folder holds no synth run, or only one that was killed before it stored a record.
    """
    check_is_run(folder)
    check_is_no_mixture(folder)
    if not folder.record:
        raise UserMistake(
            f"{folder.out.url}: a run was killed here before it stored its settings; start `synth run` again"
        )
    return folder.record


def check_whole(folder: RunFolder) -> None:
    """Check that the record of a folder, if it has one, has everything that every command needs.

    Raises:
        Damaged: It lacks something.
    """
    if record := folder.record:
        for key in ("pipeline", "shape", "started_in", "started_with"):
            _ = record[key]


def check_is_no_mixture(folder: RunFolder) -> None:
    """Raise UserMistake if `synth mix` wrote a folder, which has shards alone."""
    if mixture := (folder.record or {}).get(MIXTURE):
        raise UserMistake(
            f"{folder.out.url}: holds the mixture '{mixture['name']}', which has shards alone; this command needs a run"
        )


def check_is_run(folder: RunFolder) -> None:
    """Check that a synth run made the folder, also one that was killed before it stored a record.

    Raises:
        UserMistake: None did.
    """
    if folder.record is None:
        raise UserMistake(f"{folder.out.url}: holds no synth run")


def pipeline_of(folder: RunFolder) -> Pipeline:
    """Return the pipeline of the last run, with a source that is valid in any working folder.

    Raises:
        UserMistake: It has a setting that this synth no longer takes.
    """
    place = f"{folder.out.url}: the pipeline of its last run (another `synth run` replaces it)"
    record = record_of(folder)
    pipeline = library.check(Document(Path(), record["pipeline"], {(): place}), Pipeline)
    return pipeline.model_copy(update={"source": spell_out(pipeline.source, Path(record["started_in"]))})


def source_of(record: Record) -> SourceConfig:
    """Return the source of the last run, with uris that are valid in any working folder."""
    try:
        source = SourceConfig.model_validate(record["pipeline"].get("source") or {})
    except ValidationError as error:
        first = error.errors()[0]
        raise Damaged(
            f"the run record of {record['started_in']}: its pipeline has no source that can be read "
            f"({'.'.join(map(str, first['loc']))}: {one_line(first['msg'])}); {REPAIR_RECORD}"
        ) from error
    return spell_out(source, Path(record["started_in"]))


def spell_out(source: SourceConfig, home: Path) -> SourceConfig:
    """Return a source whose uris and roots are spelled in full, so that one place has one spelling."""
    named = {name: place.model_copy(update=_spelled_out(place, home)) for name, place in source.named.items()}
    return source.model_copy(update={**_spelled_out(source, home), "named": named})


def _spelled_out(place: PlaceConfig, home: Path) -> dict[str, str | None]:
    uri = spell_out_uri(place.uri, home) if place.uri else None
    root = spell_out_path(place.root, home) if place.root else None
    return {"uri": uri, "root": root}


def unfinished_changes(folder: RunFolder) -> dict[str, str]:
    """Return the changes that are not in all rows yet.

    A stage → "edit" or "redraw", "purge" → "edit", "retry" → the reasons that are tried again, "repair" → the
    partitions that are redone, both with commas.
    """
    changes: dict[str, str] = dict((folder.record or {}).get("unfinished", {}))
    return changes


def start_change(folder: RunFolder, name: str, change: str) -> None:
    """Record that a change has started, so that after a kill it is known that some rows are old and some new."""
    record = record_of(folder)
    folder.write_record({**record, "unfinished": {**unfinished_changes(folder), name: change}})


def finish_change(folder: RunFolder, name: str) -> None:
    """Record that a change is in all rows; nothing is written if none was started."""
    changes = unfinished_changes(folder)
    if name in changes:
        remaining = {other: change for other, change in changes.items() if other != name}
        folder.write_record({**record_of(folder), "unfinished": remaining})


def unfinished_names(folder: RunFolder, name: str) -> frozenset[str]:
    """Return the reasons of a "retry" or the partitions of a "repair" that is not finished; none if there is none."""
    return frozenset(filter(None, unfinished_changes(folder).get(name, "").split(",")))


def start_names(folder: RunFolder, name: str, wanted: frozenset[str]) -> None:
    """Record the reasons of a "retry" or the partitions of a "repair", unless they are on record."""
    if not wanted:
        finish_change(folder, name)
    elif wanted != unfinished_names(folder, name):
        start_change(folder, name, ",".join(sorted(wanted)))


def unfinished_purge(folder: RunFolder) -> str | None:
    """Return how to finish a purge that was cut short, with an image removed from only some tables, or None."""
    if "purge" not in unfinished_changes(folder):
        return None
    return f"a purge was cut short here; finish it with: {finishing_purge(folder)}"


def finishing_purge(folder: RunFolder) -> str:
    """Return the command that finishes a purge."""
    return f"synth purge {folder.out.url}"


def stored_model(record: Record) -> Any:
    """Return the model in the record that answers: [name, commit], a digest, or None."""
    return record.get("shape", {}).get("generated", {}).get("model")


def stored_asking_model(record: Record) -> Any:
    """Return the model in the record that asks, where another one answers: [name, commit], a digest, or None."""
    return record.get("shape", {}).get("generated", {}).get("ask_model")


def scores_of_passes(record: Record) -> list[str]:
    """Return the scores that the scoring passes of the last run have, as PASS.SCORE."""
    passes = record.get("pipeline", {}).get("score") or {}
    return [score_name(name, score) for name, settings in passes.items() for score in settings["scores"]]


def stored_pass_models(record: Record) -> dict[str, Any]:
    """Return the models in the record that score in passes: the name of the pass → [name, commit] or a digest."""
    passes = record.get("shape", {}).get("passes", {})
    return {name: shape.get("model") for name, shape in passes.items()}
