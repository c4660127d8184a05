"""Two imported sets and a generated run as one data set: what is taken, why not the rest, and the shards of it."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from synthgen import tables as schemas
from synthgen.commands import status
from synthgen.commands.export import export
from synthgen.commands.mix import Mixed, as_json, mix, text
from synthgen.commands.open import open_run, pipeline_with_run
from synthgen.config import mixture, pipeline
from synthgen.errors import Mistakes, UserMistake
from synthgen.ingest.benchmark_sets import open_benchmark_sets
from synthgen.ingest.benchmark_tables import Columns
from synthgen.ingest.images import decode
from synthgen.job.request import RunRequest
from synthgen.store import Folder, RunFolder
from synthgen.store.opening import open_folder
from synthgen.tables import PACK, PLAN, TAG
from tests.fixtures.exporting import turns_of
from tests.fixtures.images import encoded
from tests.fixtures.importing import Imported
from tests.fixtures.instructions import llava, write_json
from tests.fixtures.packing import LIMITS, World
from tests.fixtures.rows import rows_of
from tests.fixtures.stage_runs import act_after
from tests.fixtures.workspace import write_definition_files

Row = dict[str, Any]
LLAVA, SHAREGPT, GENERATED = 12, 8, 6  # pictures


def picture(number: int, quality: int = 95) -> bytes:
    """Return a smooth picture unlike those of other numbers."""
    grid = Image.frombytes("RGB", (6, 6), random.Random(number).randbytes(108))
    return encoded(grid.resize((80, 60), Image.Resampling.BICUBIC), "JPEG", quality=quality)


def question(number: int) -> tuple[tuple[str, str], ...]:
    return ((f"What is picture {number} about?", f"It is about number {number}."), ("And then?", f"Then {number + 1}."))


def sharegpt(number: int, shown: int | None = None, **more: Any) -> Row:
    said = llava("", question(number))["conversations"]
    return {"id": f"s{number}", "images": [f"{shown or number}.jpg"], "conversations": said, **more}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a working folder with two imported sets and a generated run, packed."""
    home = write_definition_files(tmp_path_factory.mktemp("mixing"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        (home / "photos").mkdir()
        for number in range(40):
            (home / "photos" / f"{number}.jpg").write_bytes(picture(number, 60 if number == 23 else 95))
        (home / "photos" / "23.jpg").write_bytes(picture(3, 60))  # the third picture, smaller
        rows = [llava(f"{number}.jpg", question(number), id=number, license="CC0") for number in range(LLAVA)]
        Imported(write_json(home / "first.json", rows), home / "first", root="photos").run()
        more = [sharegpt(20 + number, license="CC-BY-4.0") for number in range(SHAREGPT)]
        more[3] = sharegpt(3, shown=23, license="CC-BY-4.0")  # what the first set says of its third picture
        Imported(write_json(home / "second.jsonl", more), home / "second", root="photos").run()
        generate(home)
        yield home


def generate(home: Path) -> None:
    """Make a packed run as a model would, on pictures of its own and one of the first set."""
    (home / "world").mkdir()
    world = World(home / "world")
    turns = [{"question": "What is picture 5 about?", "answer": "It is about number 5.", "form": "brief"}]
    world.add(1, {"5.jpg": picture(5)}, turns=1, more=turns)
    world.add(2, {f"{number}.jpg": picture(number) for number in range(30, 30 + GENERATED - 1)}, turns=2)
    for name in world.rows(PLAN, "images"):
        assert name
    for partition in RunFolder(world.out).log(PLAN).partitions:
        images = [tagged(row) for row in world.rows(PLAN, "images", partition)]
        world.commit(TAG, partition, {"images": schemas.table(images, schemas.IMAGES)}, int(partition[1:4]))
    world.pack()
    world.out.write("run.json", b'{"format": 1}')
    small = pipeline.load("small").model_dump(mode="json")
    started = {"started_in": str(home), "started_with": {"pipeline": "small", "settings": [], "limit": None}}
    shape = {"generated": {"model": ["some/model", "abc"]}}
    RunFolder(world.out).write_record({"pipeline": small, "shape": shape, "tagger_models": {}, **started})
    world.lease.release()


def tagged(row: Row) -> Row:
    seen = decode(Path(row["uri"]).read_bytes(), LIMITS)
    about = {"phash": seen.phash, "thumbnail": seen.thumbnail, "flat_share": seen.flat_share}
    return {"object_id": row["object_id"], "image_id": row["image_id"], "outcome": "tagged", **about}


def write_mixture(home: Path, sets: dict[str, Row], **more: Any) -> str:
    """Write a mixture and return its name."""
    folder = home / "pipelines" / "mixtures"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump({"about": "A mixture.", "sets": sets, **more}, sort_keys=False))
    return "mine"


SETS: dict[str, Row] = {
    "first": {"folder": "first"},
    "second": {"folder": "second"},
    "made": {"folder": "world/out"},
}


def samples_of(out: Path) -> list[Row]:
    files = sorted((out / "5-shards" / "data").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def outcomes(mixed: Mixed) -> dict[str, dict[str, int]]:
    return {name: {key: n for key, n in own.pairs.items() if n} for (_, name), own in mixed.counts.items()}


def test_what_two_sets_say_of_one_picture_comes_once_and_every_pair_is_accounted_for(home: Path) -> None:
    mixed = mix(write_mixture(home, SETS), str(home / "whole"))
    assert outcomes(mixed) == {
        "first": {"taken": 2 * LLAVA},
        "second": {"taken": 2 * SHAREGPT - 2, "duplicate": 2},
        "made": {"taken": 2 * (GENERATED - 1), "duplicate": 1},
    }
    samples = samples_of(home / "whole")
    assert Counter(row["mixed_from"] for row in samples) == {"first": 12, "second": 7, "made": 5}
    assert {row["stage"] for row in samples} == {1} and len({row["id"] for row in samples}) == len(samples)
    lines = text(mixed).splitlines()
    assert lines[1].split() == ["1", "first", "24", "24", "12"] and "3  duplicate: another pair" in "\n".join(lines)
    assert as_json(mixed)["sets"][1]["pairs"]["duplicate"] == 2


def test_the_shards_are_those_of_a_run_for_whatever_reads_them(home: Path) -> None:
    mix(write_mixture(home, SETS), str(home / "whole"))
    record = export(RunFolder(open_folder(str(home / "whole"))), str(home / "exported"), "llava")
    assert record.counts["samples"] == 24 and not record.left_out


def test_the_card_names_every_set_and_licence(home: Path) -> None:
    mix(write_mixture(home, SETS, pack={"license": "other"}), str(home / "carded"))
    card = (home / "carded" / "5-shards" / "README.md").read_text()
    assert "| 1 | first | set first, form llava | CC0-1.0 (12) | 12 | 24 |" in card
    assert "| 1 | second | set second, form sharegpt | CC-BY-4.0 (7) | 7 | 14 |" in card
    assert "| 1 | made | model none at abc | not stated (5) | 5 | 10 |" in card
    assert "| not stated | 5 | 20.8% |" in card and "| all | kept pairs of all sets | 51 |" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "other" and front["dataset_info"]["splits"][0]["num_examples"] == 24


def test_weights_are_shares_of_their_stage_and_as_large_as_can_be(home: Path) -> None:
    sets = {
        "first": {"folder": "first", "stage": 2, "weight": 1.0},
        "second": {"folder": "second", "stage": 2, "weight": 2.0},
        "made": {"folder": "world/out", "stage": 4, "most": 2},
        "again": {"folder": "first", "stage": 4},
    }
    name = write_mixture(home, sets)
    mixed = mix(name, "", is_dry=True)
    drawn = {
        name: own.pairs.total() - own.pairs["weight"] - own.pairs["most"] for (_, name), own in mixed.counts.items()
    }
    assert (drawn["first"], drawn["second"]) == (2 * SHAREGPT // 2, 2 * SHAREGPT) and drawn["again"] == 2 * LLAVA
    assert mixed.counts[4, "made"].samples == 2 and mixed.counts[2, "first"].samples == SHAREGPT // 2
    doubled = sum(own.pairs["duplicate"] for own in mixed.counts.values())
    assert doubled <= 3 and mixed.counts[4, "again"].samples >= LLAVA - 1
    mix(name, str(home / "staged"))
    files = sorted(file.name for file in (home / "staged" / "5-shards" / "data").glob("*.parquet"))
    assert [name.split("-")[:3] for name in files] == [
        ["stage", "2", "first"],
        ["stage", "2", "second"],
        ["stage", "4", "again"],
        ["stage", "4", "made"],
    ]
    front = yaml.safe_load((home / "staged" / "5-shards" / "README.md").read_text().split("---\n")[1])
    assert [config["config_name"] for config in front["configs"]] == ["default", "stage-2", "stage-4"]
    assert mix(name, "", is_dry=True).counts == mixed.counts  # what is drawn depends on the seed alone


def test_quotas_types_and_licences_take_pairs_away(home: Path) -> None:
    quotas = {"languages": {"English": {"share": 0.5}}, "types": {"counting/**": {"most": 4}}}
    mixed = mix(write_mixture(home, SETS, quotas=quotas, where={"license": ["CC0*", None]}), "", is_dry=True)
    assert outcomes(mixed)["second"] == {"where": 2 * SHAREGPT}
    taken = {name: own.pairs["taken"] for (_, name), own in mixed.counts.items()}
    assert taken["made"] <= 4 and any(own.pairs["quota"] for own in mixed.counts.values())
    only = {**SETS, "made": {"folder": "world/out", "types": ["imported/**"]}}
    assert outcomes(mix(write_mixture(home, only), "", is_dry=True))["made"] == {"type": 11}


def test_a_sample_of_which_some_turns_are_taken_begins_with_its_image(home: Path) -> None:
    quotas = {"types": {"counting/**": {"most": 5}}}
    mix(write_mixture(home, {"made": SETS["made"]}, quotas=quotas), str(home / "turns"))
    samples = samples_of(home / "turns")
    assert sum(len(row["pair_ids"]) for row in samples) == 5
    for row in samples:
        assert [part["type"] for part in row["messages"][0]["content"]] == ["image", "text"]
        assert len(turns_of(row["messages"])) == len(row["types"]) == len(row["score_likelihood"])
        assert row["id"] == schemas.sample_id(row["image_id"], row["pair_ids"])


def test_a_mixture_that_was_killed_goes_on_where_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write_mixture(home, SETS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        act_after(patch, 1, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        mix(name, str(home / "killed"))
    first = {file.name for file in (home / "killed" / "5-shards" / "data").glob("stage-1-first-*")}
    mix(name, str(home / "killed"))
    assert first <= {file.name for file in (home / "killed" / "5-shards" / "data").iterdir()}
    mix(name, str(home / "undisturbed"))
    ids = sorted(row["sample_id"] for row in rows_of(Folder(str(home / "killed")), PACK, "index"))
    assert ids == sorted(row["sample_id"] for row in rows_of(Folder(str(home / "undisturbed")), PACK, "index"))
    assert len(samples_of(home / "killed")) == len(ids) == len(set(ids))


def test_a_folder_that_holds_something_else_is_refused(home: Path) -> None:
    name = write_mixture(home, SETS)
    mix(name, str(home / "taken"))
    write_mixture(home, {"first": SETS["first"]})
    with pytest.raises(UserMistake, match="holds a mixture of other samples or settings; give another folder"):
        mix(name, str(home / "taken"))
    with pytest.raises(UserMistake, match="holds a run; give the mixture a folder of its own"):
        mix(name, str(home / "second"))
    with pytest.raises(UserMistake, match="is not empty; give a folder that does not exist yet"):
        mix(name, str(home / "photos"))
    with pytest.raises(UserMistake, match="missing: --out, the folder for the mixture"):
        mix(name, "")
    write_mixture(home, {"a": {"folder": "taken"}, "b": {"folder": "photos"}, "c": {"folder": "nowhere"}})
    with pytest.raises(Mistakes) as raised:
        mix(name, str(home / "new"))
    assert [line.partition(": ")[0] for line in raised.value.lines] == [f"sets.{name}.folder" for name in "abc"]
    assert "is a mixture, which has shards alone; name the folders that it is of" in raised.value.lines[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sets": {"a/b": {"folder": "x"}}}, "'a/b' is no name of a set"),
        ({"sets": {"a": {"folder": "x", "weight": 0}}}, "sets.a.weight"),
        ({"quotas": {"types": {"**": {"most": 3, "by": "blind"}}}}, "the scores of several folders cannot be compared"),
        ({"setz": {}}, "setz"),
    ],
)
def test_a_mistake_in_a_mixture_is_named_with_its_line(more: Row, message: str, home: Path) -> None:
    write_mixture(home, **{"sets": SETS, **more})
    with pytest.raises(Mistakes, match=message) as raised:
        mixture.load("mine")
    assert "mine.yaml:" in str(raised.value)


def test_the_example_of_the_papers_four_stages_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    example = mixture.load("infinity-mm")
    assert sorted({each.stage for each in example.sets.values()}) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "command",
    [
        lambda out: status.text(RunFolder(Folder(out))),
        lambda out: open_run("run", RunRequest.typed(None, None, None, None), out, lists=False),
        lambda out: open_run("run", RunRequest.typed("small", None, None, None), out, lists=False, is_update=True),
        lambda out: open_benchmark_sets("s", [out], Path(), Columns((), ())),
        lambda out: pipeline_with_run(RunRequest.typed(None, None, None, None), out),
    ],
)
def test_a_command_that_needs_a_run_says_what_a_mixture_is(command: Any, home: Path) -> None:
    mix(write_mixture(home, SETS), str(home / "no-run"))
    with pytest.raises(UserMistake, match=r"no-run: (holds the mixture 'mine', which has shards alone|is a mixture)"):
        command(str(home / "no-run"))
