"""Images that an earlier run planned, and images that show the same, are not planned again."""

from collections import Counter
from collections.abc import Callable

import pytest

from synthgen.commands import dropped, status
from synthgen.errors import Mistakes
from synthgen.job.funnel import funnels
from synthgen.stages.plan import epochs
from synthgen.store import Folder, RunFolder, StageFolder
from synthgen.tables import PLAN
from tests.fixtures.planning import Content, Killed, World, unlike
from tests.fixtures.rows import describe_run

Worlds = Callable[[], World]


def two_worlds(worlds: Worlds) -> tuple[World, World]:
    """Return an earlier run and the one that is compared with it, both with a record."""
    first, second = worlds(), worlds()
    for world in (first, second):
        describe_run(world.out)
    return first, second


def name_of(world: World) -> str:
    return world.out.url.rpartition("/")[2]


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_images_of_near_embeddings_are_planned_once_where_that_is_wanted(world: World) -> None:
    shown = {"a.jpg": (1.0, 0.0), "b.jpg": (1.0, 0.1), "c.jpg": (0.0, 1.0)}
    world.grow({uri: Content(uri, unlike(number).phash, embedding=shown[uri]) for number, uri in enumerate(shown)})
    world.grow({"none.jpg": unlike(9), "near.jpg": Content("near", unlike(0).phash, embedding=(0.0, 1.0))})
    world.plan(world.context())
    assert Counter(world.outcomes().values()) == {"planned": 4, "near_duplicate": 1}
    world.plan(context := world.context(semantic_duplicates=0.97), change="edit")
    uris = {row["object_id"]: row["uri"] for row in world.images().values()}
    assert {row["uri"]: (row["outcome"], uris.get(row["same_as"])) for row in world.images().values()} == {
        "a.jpg": ("planned", None),
        "b.jpg": ("semantic_duplicate", "a.jpg"),
        "c.jpg": ("planned", None),
        "near.jpg": ("near_duplicate", "a.jpg"),
        "none.jpg": ("planned", None),
    }
    assert world.plan(context) == 0
    world.grow({"d.jpg": Content("d", unlike(5).phash, embedding=(0.1, 1.0))})
    before = world.assignments()
    world.plan(context)
    assert world.outcomes()["d.jpg 1"] == "semantic_duplicate" and world.assignments() == before


def test_the_first_partitions_may_hold_no_embedding(world: World) -> None:
    world.grow({f"{number}.jpg": unlike(number) for number in range(4)})
    world.grow({uri: Content(uri, unlike(7 + n).phash, embedding=(0.6, 0.8)) for n, uri in enumerate("xy")})
    world.plan(world.context(semantic_duplicates=0.9))
    assert Counter(world.outcomes().values()) == {"planned": 5, "semantic_duplicate": 1}


# --- earlier runs -----------------------------------------------------------------------------------------------------


def test_an_image_that_an_earlier_run_planned_is_not_planned_again(worlds: Worlds) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": Content("same", 0), "b.jpg": Content("near", unlike(1).phash)})
    first.grow({"c.jpg": Content("alike", unlike(2).phash, embedding=(1.0, 0.0)), "d.jpg": unlike(3)})
    first.plan()
    phash = unlike(1).phash
    assert phash is not None
    second.grow({"same.jpg": Content("same", 5), "copy.jpg": Content("same", 5), "near.jpg": Content("x", phash ^ 1)})
    second.grow({"alike.jpg": Content("y", unlike(8).phash, embedding=(1.0, 0.1)), "new.jpg": unlike(9)})
    second.plan(context := second.context(against=[first.out.url], semantic_duplicates=0.97))
    ids = {row["uri"]: row["object_id"] for row in first.images().values()}
    assert {row["uri"]: (row["outcome"], row["reason"], row["same_as"]) for row in second.images().values()} == {
        "same.jpg": ("other_run", name_of(first), ids["a.jpg"]),
        "copy.jpg": ("other_run", name_of(first), ids["a.jpg"]),
        "near.jpg": ("other_run", name_of(first), ids["b.jpg"]),
        "alike.jpg": ("other_run", name_of(first), ids["c.jpg"]),
        "new.jpg": ("planned", None, None),
    }
    assert second.plan(context) == 0
    assert {row["object_id"] for row in second.assignments().values()} == {
        row["object_id"] for row in second.images().values() if row["uri"] == "new.jpg"
    }


def test_the_funnel_and_status_name_the_run(worlds: Worlds) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": Content("same", 0)})
    first.plan()
    second.grow({"a.jpg": Content("same", 0), "b.jpg": unlike(1)})
    second.plan(second.context(against=[first.out.url]))
    folder, reason = RunFolder(second.out), f"other_run.{name_of(first)}"
    funnel = next(funnel for funnel in funnels(folder) if funnel.stage == PLAN.name)
    assert funnel.is_settled and funnel.dropped == {reason: 1} and funnel.passed == 1
    assert reason in status.text(folder)
    for typed in (reason, "other_run"):
        found = dropped.find_dropped(folder, typed)
        (row,) = found.rows
        assert found.count == 1 and row.reason == reason and "stands for it" in (row.detail or "")


def test_what_is_planned_stays_when_an_earlier_run_grows(worlds: Worlds) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": unlike(1)})
    first.plan()
    second.grow({"b.jpg": unlike(2), "c.jpg": unlike(3)})
    context = second.context(against=[first.out.url])
    second.plan(context)
    before = second.assignments()
    first.grow({"b.jpg": unlike(2)})
    first.plan()
    assert second.plan(context) == 0, "nothing of this run is new"
    second.grow({"d.jpg": unlike(4), "copy.jpg": unlike(2)})
    second.plan(context)
    assert before.items() <= second.assignments().items()
    outcomes = second.outcomes()
    assert outcomes["b.jpg 1"] == "planned" and outcomes["copy.jpg 1"] in ("other_run", "same_bytes")


def test_an_edit_that_names_an_earlier_run_retires_its_images_and_taking_it_back_plans_them(worlds: Worlds) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": unlike(1)})
    first.plan()
    second.grow({"a.jpg": unlike(1), "b.jpg": unlike(2)})
    second.plan()
    before = second.assignments()
    second.plan(second.context(against=[first.out.url]), change="edit")
    assert Counter(second.outcomes().values()) == {"planned": 1, "other_run": 1}
    assert second.assignments().items() < before.items()
    second.plan(change="edit")
    assert second.assignments() == before
    assert {row["reason"] for row in second.images().values()} == {None}


def test_an_image_that_an_earlier_run_did_not_plan_is_planned(worlds: Worlds) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": unlike(1, "sign"), "b.jpg": unlike(2)})
    first.plan(first.context(caps={"**": 0}))
    second.grow({"a.jpg": unlike(1, "sign")})
    second.plan(second.context(against=[first.out.url]))
    assert set(second.outcomes().values()) == {"planned"}


def test_an_epoch_that_was_cut_short_ends_if_the_earlier_run_changed_meanwhile(worlds: Worlds) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": unlike(1)})
    first.plan()
    second.grow({f"{number}.jpg": unlike(number) for number in range(2, 12)})
    context = second.context(against=[first.out.url])
    with pytest.raises(Killed):
        second.plan(context, stop_after=1)
    folder = RunFolder(second.out)
    latest = epochs.latest_epoch(folder)
    assert latest and list(latest.against) == [name_of(first)]
    assert epochs._resume(folder, context, latest) is not None
    first.grow({f"{number}.jpg": unlike(number) for number in range(2, 12)})
    first.plan()
    assert epochs._resume(RunFolder(second.out), context, latest) is None
    second.plan(context)
    planned = [name for name, outcome in second.outcomes().items() if outcome == "planned"]
    assert planned and Counter(second.outcomes().values())["other_run"] == 10 - len(planned)
    assert (
        sum(
            StageFolder(second.out, PLAN).log().counts().get(key, 0)
            for key in ("planned", f"other_run.{name_of(first)}")
        )
        == 10
    )


def test_a_survey_in_another_process_reads_earlier_runs_too(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_worlds(worlds)
    first.grow({"a.jpg": unlike(1)})
    first.plan()
    second.grow({"a.jpg": unlike(1), "b.jpg": Content("b", unlike(2).phash, embedding=(1.0, 0.0))})
    monkeypatch.setattr("synthgen.stages.plan.survey_process.MIN_OBJECTS", 0)
    monkeypatch.setattr("synthgen.stages.plan.survey_process.survey_duplicates", None)
    second.plan(second.context(against=[first.out.url], semantic_duplicates=0.9))
    assert second.outcomes() == {"a.jpg 1": "other_run", "b.jpg 1": "planned"}


def test_a_folder_that_is_no_run_is_a_mistake(world: World) -> None:
    world.grow({"a.jpg": unlike(1)})
    with pytest.raises(Mistakes, match=r"plan\.against: nowhere: holds no synth run"):
        world.plan(world.context(against=["nowhere"]))
    assert not Folder(f"{world.out.url}/2-planned").names()


def test_embeddings_of_another_model_are_not_compared(worlds: Worlds, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two_worlds(worlds)
    record = {"pipeline": {}, "started_in": "", "started_with": {"pipeline": None, "settings": [], "limit": None}}
    shape = {"shape": {"images": {"embedding": ["another", "model"]}}, "unfinished": {}, "tagger_models": {}}
    RunFolder(first.out).write_record(record | shape)
    first.grow({"a.jpg": Content("a", unlike(1).phash, embedding=(1.0, 0.0))})
    first.plan()
    second.grow({"b.jpg": Content("b", unlike(2).phash, embedding=(1.0, 0.0))})
    second.plan(second.context(against=[first.out.url], semantic_duplicates=0.9))
    assert second.outcomes() == {"b.jpg 1": "planned"}
    assert f"{name_of(first)} has embeddings of another model" in capsys.readouterr().err
