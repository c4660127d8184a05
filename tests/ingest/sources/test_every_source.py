"""The same images from every kind of source are the same images, with the same tags, plan and samples."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.config.source import ImagesConfig, PlaceConfig, SourceConfig
from synthgen.ingest.images import pool
from synthgen.ingest.sources import list_objects
from synthgen.stages import pack, plan, select, tag
from synthgen.store import Folder, Lease, Receipt, RunFolder, TablePart
from synthgen.tables import GENERATE, PACK, PAIRS, PLAN, SELECT, TAG, pair_id, table
from tests.fixtures.hub import Hub, hub
from tests.fixtures.packing import pair, turn_text
from tests.fixtures.planning import World
from tests.fixtures.rows import rows_of
from tests.fixtures.stage_runs import commit_all, list_source
from tests.fixtures.tagging import write_sidecar
from tests.fixtures.tars import member, packed
from tests.fixtures.workspace import make_images

__all__ = ["hub"]
COUNT = 300  # images
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Put = Callable[[Path, list[Path]], Mapping[str, Any]]  # writes a source of these images, and returns its settings


def tags_of(path: Path) -> list[str]:
    tags: list[str] = json.loads(path.with_suffix(".json").read_text())["tags"]
    return tags


def folder(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    return {"uri": str(paths[0].parent), "sidecar": ".json"}


def tars(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    for number in range(2):
        own = paths[number::2]
        files = [member(file.name, file.read_bytes()) for path in own for file in (path, path.with_suffix(".json"))]
        (place / f"s-{number:03}.tar").write_bytes(packed(*files))
    return {"uri": f"{place}/s-{{000..001}}.tar"}


def rows(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    table = {"image": [path.read_bytes() for path in paths], "tags": [tags_of(path) for path in paths]}
    pq.write_table(pa.table(table), place / "p.parquet", row_group_size=3)
    return {"uri": str(place), "meta_columns": ("tags",)}


def lists(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    cells = [[{"bytes": path.read_bytes(), "path": None}] for path in paths]
    table = {"images": pa.array(cells, pa.list_(PICTURE)), "tags": [tags_of(path) for path in paths]}
    pq.write_table(pa.table(table), place / "p.parquet", row_group_size=3)
    return {"uri": str(place), "meta_columns": ("tags",), "image_column": "images"}


def csv_manifest(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    lines = "".join(f"{path.name},{tags_of(path)[0]}\n" for path in paths)
    (place / "list.csv").write_text(f"file_name,tags\n{lines}")
    return {"uri": f"manifest:{place}/list.csv", "root": str(paths[0].parent)}


def json_manifest(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    lines = (json.dumps({"path": str(path), "tags": tags_of(path)}) for path in paths)
    (place / "list.jsonl").write_text("\n".join(lines))
    return {"uri": f"manifest:{place}/list.jsonl", "root": str(paths[0].parent)}


def planned(out: Folder, source: SourceConfig) -> tuple[Any, Any]:
    """List, tag and plan a source; return the tags by image, and the questions by their id."""
    spec, run = write_sidecar(), RunFolder(out)
    with Lease.take(out) as lease:
        list_source(out, list_objects(source), lease)
        context = tag.TagContext(out, source, ImagesConfig(), (spec,), 4, "print")
        worker = tag.TagWorker(context)
        try:
            for task in tag.todo(run, context, is_update=False):
                run.commit(TAG, worker.do(task), lease)
        finally:
            worker._decoder.close()
        usual = World(out, taxonomy=("animal", "animal/cat", "animal/red_panda", "document", "document/invoice"))
        rules = "about: x\nrules:\n  - {tags: '**', ask: {look/a: 2, read/b: 1}}\n"
        planning = replace(usual.context(rules), taggers=(spec.name,))
        commit_all(run, PLAN, plan.plan_tasks(planning, plan.tasks_of(run, planning, "growth")), lease)
    image_of = {row["object_id"]: row["image_id"] for row in rows_of(out, TAG, "images")}
    tags = {
        image_of[row["object_id"]]: sorted(one["path"] for one in row["tags"])
        for row in rows_of(out, TAG, f"tags/{spec.name}")
    }
    questions = {
        row["assignment_id"]: (row["image_id"], row["type"], row["form"]) for row in rows_of(out, PLAN, "assignments")
    }
    return tags, questions


def named(place: Path, paths: list[Path]) -> Mapping[str, Any]:
    """Write half of the images as a tar and the others as rows, as two sources in one."""
    half = len(paths) // 2
    (place / "one").mkdir()
    (place / "two").mkdir()
    one, two = tars(place / "one", paths[:half]), rows(place / "two", paths[half:])
    return {"named": {"one": PlaceConfig(**one), "two": PlaceConfig(**two)}}


def samples_of(out: Folder, source: SourceConfig) -> dict[str, dict[str, Any]]:
    """Answer the questions of a planned folder, select and pack; return the samples without their places, by id."""
    run = RunFolder(out)
    with Lease.take(out) as lease:
        for partition in run.log(PLAN).partitions:
            asked = run.table(PLAN, partition, "assignments").to_pylist()
            pairs = [pair(row["image_id"], row["object_id"], row["ordinal"], **_of(row)) for row in asked]
            file = run.stage(GENERATE).write("pairs", partition, 1, table(pairs, PAIRS))
            run.commit(GENERATE, Receipt(partition, 1, {"pairs": TablePart((file,), "f")}, {}), lease)
        selection = select.prepare(run, SelectConfig())
        commit_all(run, SELECT, select.decide(selection, selection.todo), lease)
        context = pack.PackContext(out, source, ImagesConfig(), PackConfig(), (), turn_text, "wording")
        commit_all(run, PACK, [pack.write_shard(context, shard) for shard in pack.todo(run, context)], lease)
    data = [pq.read_table(path).to_pylist() for path in Path(out.path, "5-shards/data").glob("*.parquet")]
    places = ("object_id", "uris", "source_meta", "source")
    return {row["id"]: {key: row[key] for key in row if key not in places} for rows in data for row in rows}


def _of(row: Mapping[str, Any]) -> dict[str, Any]:
    asked = {name: row[name] for name in ("assignment_id", "type", "form", "language")}
    return {**asked, "pair_id": pair_id(row["assignment_id"], "recipe", 0)}


@pytest.fixture
def images(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(pool, "cores", lambda: 1)
    return make_images(workspace / "photos", COUNT)


def test_every_source_of_the_same_images_gives_the_same_images_tags_plan_and_samples(
    images: list[Path], tmp_path: Path, hub: Hub
) -> None:
    results = {}
    for put in (folder, tars, rows, lists, csv_manifest, json_manifest, named):
        place = tmp_path / put.__name__
        place.mkdir()
        out, source = Folder(f"{place}/out"), SourceConfig(**put(place, images))
        results[put.__name__] = (*planned(out, source), samples_of(out, source))
    hub.files["owner/set"] = {path.name: path.read_bytes() for path in (tmp_path / "tars").glob("*.tar")}
    out, source = Folder(str(tmp_path / "out")), SourceConfig(uri="hf://datasets/owner/set")
    results["hub"] = (*planned(out, source), samples_of(out, source))
    tags, questions, samples = results["folder"]
    assert len(tags) == COUNT and questions and {row["image_id"] for row in samples.values()} <= set(tags)
    assert len(samples) > COUNT * 0.9
    for name, result in results.items():
        assert result == (tags, questions, samples), name
