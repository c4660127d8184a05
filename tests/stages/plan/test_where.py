"""Images that their rights or `plan.where` leave out are in the plan with that outcome, and are asked nothing."""

import json
from collections import Counter
from dataclasses import asdict, replace

import pytest

from synthgen.stages.plan.duplicates import survey_duplicates
from synthgen.stages.plan.facts import EXCLUDED, KEPT, QUARANTINED
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.survey_settings import SurveySettings
from synthgen.store import CommitLog, RunFolder
from tests.fixtures.plan_checks import check
from tests.fixtures.planning import World, unlike


def outcomes(world: World) -> dict[str, str]:
    return {name.partition(" ")[0]: outcome for name, outcome in world.outcomes().items()}


@pytest.mark.parametrize(
    ("where", "planned"),
    [
        ({"license": ["CC0*"]}, {"zero"}),
        ({"license": ["cc0-1.0", "CC-BY-4.0"]}, {"zero", "by"}),
        ({"license": ["CC-BY-*"]}, {"by", "nc"}),
        ({"license": [None]}, {"none", "web"}),
        ({"license": ["CC0*", None], "source": ["web"]}, {"web"}),
        ({"source": [None]}, {"zero", "by", "nc", "none"}),
        ({}, {"zero", "by", "nc", "none", "web"}),
    ],
)
def test_only_images_of_the_wanted_licences_and_sources_are_asked(
    world: World, where: dict[str, list[str]], planned: set[str]
) -> None:
    licenses = {"zero": "CC0-1.0", "by": "CC-BY-4.0", "nc": "CC-BY-NC-2.0", "none": None, "web": None}
    world.sources["web"] = "web"
    world.grow({uri: replace(unlike(number), license=name) for number, (uri, name) in enumerate(licenses.items())})
    world.plan(context := world.context(where=where))
    check(world, context)
    found = outcomes(world)
    assert {uri for uri, outcome in found.items() if outcome == "planned"} == planned
    assert set(found.values()) <= {"planned", "excluded"}
    rows = {row["uri"]: row for row in world.images().values()}
    assert rows["web"]["source"] == "web" and rows["by"]["rights"]["license"] == "CC-BY-4.0"


def test_an_excluded_image_stands_for_no_copy_of_it(world: World) -> None:
    world.grow({"a": replace(unlike(1), license="X"), "b": replace(unlike(1), license="CC0-1.0")})
    world.plan(world.context(where={"license": ["CC0*"]}))
    assert outcomes(world) == {"a": "excluded", "b": "planned"}


def test_what_one_object_says_of_its_bytes_holds_for_its_copies(world: World) -> None:
    world.grow({"a": unlike(1), "b": replace(unlike(1), is_reserved=True), "c": unlike(2)})
    world.plan(context := world.context())
    check(world, context)
    assert outcomes(world) == {"a": "reserved", "c": "planned"}
    assert {row["image_id"] for row in world.assignments().values()} == {
        row["image_id"] for row in world.images().values() if row["uri"] == "c"
    }


def test_a_reservation_that_comes_later_retires_what_was_planned(world: World) -> None:
    world.grow({"a": unlike(1), "c": unlike(2)})
    world.plan()
    assert Counter(outcomes(world).values()) == {"planned": 2}
    world.grow({"b": replace(unlike(1), is_reserved=True)})
    world.plan()
    assert outcomes(world) == {"a": "reserved", "c": "planned"}
    kept = {row["image_id"] for row in world.images().values() if row["outcome"] == "planned"}
    assert {row["image_id"] for row in world.assignments().values()} == kept


def test_an_edit_of_the_licences_asks_about_the_others(world: World) -> None:
    world.grow({"a": replace(unlike(1), license="X"), "b": replace(unlike(2), license="CC0-1.0")})
    world.plan(world.context(where={"license": ["CC0*"]}))
    world.plan(world.context(where={"license": ["X"]}), "edit")
    assert outcomes(world) == {"a": "planned", "b": "excluded"}


def test_settings_that_went_to_another_process_leave_out_the_same(world: World) -> None:
    world.grow({"a": replace(unlike(1), license="X"), "b": unlike(2), "c": replace(unlike(3), is_reserved=True)})
    inputs = Inputs.from_folder(RunFolder(world.out), ("test",))
    sent = json.loads(json.dumps(asdict(SurveySettings(2, license=("X",)))))
    survey = survey_duplicates(inputs, CommitLog({}), SurveySettings(**sent))
    assert sorted(survey.outcome.tolist()) == [KEPT, QUARANTINED, EXCLUDED]


def test_a_mapping_asks_by_licence_and_source(world: World) -> None:
    rules = """
about: x
rules:
  - {tags: "**", when: {source: [scans]}, ask: {read/a: 1}}
  - {tags: "**", when: {license: [CC0*]}, ask: {look/a: 1}}
"""
    world.sources["scan"] = "scans"
    world.grow({"scan": unlike(1), "free": replace(unlike(2), license="CC0-1.0"), "other": unlike(3)})
    world.plan(world.context(rules))
    of = {row["object_id"]: row["uri"] for row in world.images().values()}
    asked = {of[row["object_id"]]: row["type"] for row in world.assignments().values()}
    assert asked == {"scan": "read/a", "free": "look/a"} and outcomes(world)["other"] == "unserved"
