"""Pairs whose image or question is in a benchmark set are dropped by name, and a dated report says what matched."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from synthgen import tables as schemas
from synthgen.config.selection import SelectConfig
from synthgen.config.source import ImagesConfig
from synthgen.errors import Mistakes
from synthgen.ingest.benchmark_prints import FOLDER
from synthgen.ingest.images import decode
from synthgen.stages import select
from synthgen.stages.contract import StageRun
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import SELECT, TAG
from synthgen.workers import StopSignals
from tests.fixtures.selecting import Output, Row, decide, generate, pair, pending, selection_of
from tests.fixtures.stage_runs import commit_all, job_with

QUESTION = "In which year was the tall lighthouse on the northern cape of the island first lit?"
OWN = "What is the colour of the bus that waits at the corner of the street?"


def scene(number: int) -> Image.Image:
    """Return slopes and shapes, others for each number."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(
        (320, 240), Image.Resampling.BICUBIC
    )
    for _ in range(5):
        x, y, side, *colour = rng.integers(0, [260, 180, 60, 256, 256, 256]).tolist()
        image.paste(tuple(colour), (x, y, x + side, y + side))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, **options)
    return file.getvalue()


def tag(out: Output, images: dict[str, Image.Image], embeddings: dict[str, list[float]] | None = None) -> None:
    """Commit these images as the tag stage does, each as an object of its own."""
    rows = list[Row]()
    for name, image in images.items():
        seen = decode(encoded(image, "JPEG", quality=80), ImagesConfig())
        row: Row = {"object_id": schemas.make_id(name), "image_id": name, "outcome": "tagged", "phash": seen.phash}
        row |= {"thumbnail": seen.thumbnail, "flat_share": seen.flat_share}
        embedding = (embeddings or {}).get(name)
        rows.append(row | {"embedding": None if embedding is None else np.array(embedding, np.float16)})
    rows.append({"object_id": schemas.make_id("bad"), "outcome": "quarantined", "reason": "corrupt"})
    stage = StageFolder(out[0], TAG)
    file = stage.write("images", "e001-00000", 1, schemas.table(rows, schemas.IMAGES))
    stage.commit(Receipt("e001-00000", 1, {"images": TablePart((file,), "f")}, {}, epoch=1), out[1])


def contaminated(out: Output) -> list[tuple[str, str, str, str]]:
    folder = RunFolder(out[0])
    names = ("pair_id", "by", "set", "item")
    return [
        tuple(row[name] for name in names)
        for part in folder.log(SELECT).partitions
        for row in folder.table(SELECT, part, "contaminated").to_pylist()
    ]


def reports(out: Output) -> list[dict[str, Any]]:
    folder = out[0].child(FOLDER)
    return [json.loads(folder.read(name)) for name in folder.names(".json")]


@pytest.fixture
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder of 5 images, the first of which nobody can read."""
    folder = tmp_path_factory.mktemp("sets") / "MMTest"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"\x89PNG but no image")
    for number in range(1, 5):
        (folder / f"{number}.png").write_bytes(encoded(scene(number)))
    yield folder


def config(*sets: Path, **settings: Any) -> SelectConfig:
    return SelectConfig.model_validate({"decontaminate": {"sets": [str(path) for path in sets], **settings}})


def test_copies_of_benchmark_images_are_dropped_and_others_kept(out: Output, benchmark: Path) -> None:
    draw = random.Random(0)
    x, y = draw.uniform(0, 0.15), draw.uniform(0, 0.15)
    cropped = scene(3).crop((round(320 * x), round(240 * y), round(320 * (x + 0.85)), round(240 * (y + 0.85))))
    images = {
        "same": scene(1),
        "half": scene(2).resize((160, 120), Image.Resampling.LANCZOS),
        "cropped": cropped,
        "grey": ImageOps.grayscale(scene(4)),
        "brighter": ImageEnhance.Brightness(scene(4)).enhance(1.08),
        **{f"other {number}": scene(number) for number in range(10, 20)},
    }
    tag(out, images)
    rows = {name: pair(name, OWN, number=number) for number, name in enumerate(images)}
    generate(out, "e001-00000", list(rows.values()))
    decided = decide(out, config(benchmark))
    found = {name for name, row in rows.items() if decided[row["pair_id"]] == "contaminated:image"}
    assert found == {"same", "half", "cropped", "grey", "brighter"}
    assert {decided[rows[f"other {number}"]["pair_id"]] for number in range(10, 20)} == {"kept"}
    assert dict((pair_id, item) for pair_id, _, _, item in contaminated(out)) == {
        rows[name]["pair_id"]: item
        for name, item in {
            "same": "1.png",
            "half": "2.png",
            "cropped": "3.png",
            "grey": "4.png",
            "brighter": "4.png",
        }.items()
    }
    (report,) = reports(out)
    (described,) = report["sets"]
    assert (described["images"] == 4 and described["unreadable"] == {"truncated": 1}) or described["unreadable"]
    assert report["matched"] == {"MMTest": {"images": 5, "contaminated:image": 5, "contaminated:question": 0}}
    assert report["settings"]["bits"] == 8 and report["made"].startswith("20")


def test_questions_of_a_benchmark_are_dropped_and_common_ones_are_not(out: Output, tmp_path: Path) -> None:
    path = tmp_path / "set.tsv"
    path.write_text(f"index\tquestion\n7\t{QUESTION}\n8\tWhat is this?\n")
    tag(out, {})
    asked = [
        QUESTION.upper(),
        f"Look. {QUESTION}",
        QUESTION.replace("tall", "old").replace("cape", "end"),
        "What is this?",
    ]
    rows = [pair(str(number), question) for number, question in enumerate(asked)]
    generate(out, "e001-00000", rows)
    decided = decide(out, config(path))
    assert [decided[row["pair_id"]] for row in rows] == ["contaminated:question"] * 2 + ["kept"] * 2
    assert sorted(contaminated(out)) == sorted((row["pair_id"], "words", "set", "set.tsv:7") for row in rows[:2])


def test_what_of_a_set_cannot_be_read_is_told(
    out: Output, benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.tsv").write_text("index\timage\tquestion\n")
    tag(out, {"other": scene(10)})
    generate(out, "e001-00000", [pair("other", OWN)])
    settings = {"sets": [str(benchmark), str(tmp_path / "empty.tsv")]}
    decide(out, SelectConfig.model_validate({"decontaminate": settings}))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"select.decontaminate: {benchmark.stem}: not all of it can be read (1 ")
    assert second == "select.decontaminate: empty: has no image and no question to compare with"


def test_a_contaminated_pair_stands_in_nobodys_way(out: Output, benchmark: Path) -> None:
    tag(out, {"same": scene(1), "other": scene(11)})
    rows = [pair("same", OWN), pair("other", OWN)]
    generate(out, "e001-00000", rows, {"answer": [0.9, 0.1]})
    settings = config(benchmark).model_copy(update={"survivor": "answer", "same_question": 1})
    decided = decide(out, settings)
    assert [decided[row["pair_id"]] for row in rows] == ["contaminated:image", "kept"]


def test_an_output_folder_is_a_set_whose_embeddings_are_compared(out: Output, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "MMRun"))
    shape = {"shape": {"images": {"embedding": ["clip"]}}, "unfinished": {}, "tagger_models": {}, "pipeline": {}}
    record = shape | {"started_in": "", "started_with": {"pipeline": None, "settings": [], "limit": None}}
    with Lease.take(folder) as lease:
        folder.write("run.json", b'{"format": 1}')
        RunFolder(folder).write_record(record)
        tag((folder, lease), {"a": scene(1), "b": scene(2)}, {"a": [1.0, 0.0], "b": [0.0, 1.0]})
    out[0].write("run.json", b'{"format": 1}')
    RunFolder(out[0]).write_record(record)
    tag(out, {"x": scene(11), "y": scene(12), "z": scene(2)}, {"x": [1.0, 0.05], "y": [0.7, 0.7]})
    rows = [pair(name, OWN) for name in "xyz"]
    generate(out, "e001-00000", rows)
    path = Path(folder.path)
    decided = decide(out, config(path))
    assert [decided[row["pair_id"]] for row in rows] == ["kept", "kept", "contaminated:image"]
    decided = decide(out, config(path, cosine=0.97))
    assert [decided[row["pair_id"]] for row in rows] == ["contaminated:image", "kept", "contaminated:image"]
    assert {(by, item) for _, by, _, item in contaminated(out)} == {
        ("embedding", schemas.make_id("a")),
        ("hash", schemas.make_id("b")),
    }
    RunFolder(out[0]).write_record({**record, "shape": {"images": {"embedding": ["another"]}}})
    generate(out, "e001-00000", rows)
    decided = decide(out, config(path, cosine=0.96))
    assert [decided[row["pair_id"]] for row in rows] == ["kept", "kept", "contaminated:image"]
    assert reports(out)[-1]["sets"][0]["embeddings"] == "of another model; not compared"


def test_decisions_are_pending_when_the_sets_change_and_what_matched_goes_with_the_setting(
    out: Output, benchmark: Path
) -> None:
    tag(out, {"same": scene(1), "other": scene(11)})
    rows = [pair("same", OWN), pair("other", OWN)]
    generate(out, "e001-00000", rows)
    decide(out, config(benchmark))
    assert pending(out, config(benchmark)) == [] and len(reports(out)) == 1
    (benchmark / "5.png").write_bytes(encoded(scene(11)))
    assert pending(out, config(benchmark)) == ["e001-00000"]
    decided = decide(out, config(benchmark))
    assert {decided[row["pair_id"]] for row in rows} == {"contaminated:image"} and len(reports(out)) == 2
    assert set(decide(out).values()) == {"kept"} and contaminated(out) == []


def test_the_stage_reads_the_setting_of_a_run_and_a_missing_set_is_a_mistake(out: Output, benchmark: Path) -> None:
    tag(out, {"same": scene(1)})
    generate(out, "e001-00000", [row := pair("same", OWN)])
    job = job_with(out[0], select=config(benchmark), images=ImagesConfig())
    run = StageRun(SELECT, job, RunFolder(out[0]), out[1], StopSignals())
    commit_all(run.folder, SELECT, select.results(run, select.pending(run)), out[1])
    assert {(pair_id, name) for pair_id, _, name, _ in contaminated(out)} == {(row["pair_id"], "MMTest")}
    with pytest.raises(Mistakes, match=r"select\.decontaminate\.sets: .*nowhere: is not there"):
        selection_of(out, config(Path("nowhere")))
