"""A preview of one image draws what its plan draws, and says what it cannot know from one image."""

import sys
from dataclasses import replace

from synthgen.commands import preview
from synthgen.stages.plan.assign import Assigner
from synthgen.stages.plan.images import PlannedImage
from tests.fixtures.workspace import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import asked

PRESENT, ABSENT = "single_instance/presence/object_present", "single_instance/presence/object_absent"


def test_a_preview_names_the_thing_that_the_plan_names_and_leaves_absent_ones_out() -> None:
    everyday = asked.everyday()
    context = replace(everyday, settings=everyday.settings.model_copy(update={"per_image": 200}))
    dog, lawn = "animal/mammal/dog/golden_retriever", "plant/low_plant/lawn_grass"
    image = PlannedImage("", "dog", {dog: 0.5, lawn: 0.4}, 1024, 768)
    planned = Assigner(context, {}, companions={dog: {"vehicle/car/sedan": 0.5}}).draw_all([image]).to_pylist()
    alone = Assigner(context, {})
    previewed = alone.draw_all([image]).to_pylist()
    [thing] = [row["thing"] for row in planned if row["type"] == PRESENT]
    assert [row["thing"] for row in previewed if row["type"] == PRESENT] == [thing]
    assert ABSENT in {row["type"] for row in planned} - {row["type"] for row in previewed}
    lines = list(preview._plan_lines(alone, image, previewed))
    assert any(line.strip().startswith(PRESENT) and f"about {thing}" in line for line in lines)
    assert any("absent things are left out" in line for line in lines)
