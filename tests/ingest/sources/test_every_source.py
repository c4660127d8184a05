"""The same images from every kind of source are the same images, with the same tags and the same plan."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.ingest.images import pool
from synthgen.ingest.sources import list_objects
from synthgen.stages import plan, tag
from synthgen.store import Folder, Lease, RunFolder
from synthgen.tables import PLAN, TAG
from tests.fixtures.hub import Hub, hub
from tests.fixtures.planning import World
from tests.fixtures.rows import rows_of
from tests.fixtures.stage_runs import commit_all, list_source
from tests.fixtures.tagging import write_sidecar
from tests.fixtures.tars import member, packed
from tests.fixtures.workspace import make_images

__all__ = ["hub"]
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


@pytest.fixture
def images(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(pool, "cores", lambda: 1)
    return make_images(workspace / "photos", 7)


def test_every_source_of_the_same_images_gives_the_same_images_tags_and_plan(
    images: list[Path], tmp_path: Path, hub: Hub
) -> None:
    results = {}
    for put in (folder, tars, rows, lists, csv_manifest, json_manifest):
        place = tmp_path / put.__name__
        place.mkdir()
        results[put.__name__] = planned(Folder(f"{place}/out"), SourceConfig(**put(place, images)))
    hub.files["owner/set"] = {path.name: path.read_bytes() for path in (tmp_path / "tars").glob("*.tar")}
    results["hub"] = planned(Folder(str(tmp_path / "out")), SourceConfig(uri="hf://datasets/owner/set"))
    tags, questions = results["folder"]
    assert len(tags) == 7 and questions
    for name, result in results.items():
        assert result == (tags, questions), name
