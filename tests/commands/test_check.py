"""Notes of `synth check` on valid files, and the drawing of a mapping by `synth show`."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthgen.cli import app
from synthgen.commands import show
from synthgen.commands.check import (
    find_twins,
    formless_types,
    notes,
    room_notes,
    threshold_notes,
    unasked_types,
    unserved_tags,
)
from synthgen.config import pipeline
from synthgen.config.selection import SelectConfig
from synthgen.errors import UserMistake
from synthgen.job import resolve
from synthgen.job.resolve import load_definitions
from synthgen.stages.contract import Definitions
from tests.fixtures.workspace import make_images, write


@pytest.fixture
def definitions(workspace: Path) -> Definitions:
    return load_definitions(pipeline.load("small"))


def test_a_tag_that_only_the_rules_for_every_image_serve_is_noted(definitions: Definitions) -> None:
    assert unserved_tags(definitions.taxonomy.tree, definitions.rules) == ["animal/cat", "animal/red_panda"]


def test_a_rule_that_only_forbids_serves_nothing(workspace: Path) -> None:
    rules = (
        "about: x\nrules:\n  - {tags: '**', ask: {coarse/**: 1, fine/**: 1}}\n  - {tags: animal/**, never: [fine/**]}\n"
    )
    write(workspace / "pipelines/mappings/small.yaml", rules)
    definitions = load_definitions(pipeline.load("small"))
    assert len(unserved_tags(definitions.taxonomy.tree, definitions.rules)) == 4
    assert unasked_types(definitions.rules, definitions.prompts.types) == []


def test_a_type_that_no_rule_asks_is_noted_even_where_its_weight_is_0(workspace: Path) -> None:
    write(
        workspace / "pipelines/mappings/small.yaml",
        "about: x\nrules:\n  - {tags: '**', ask: {coarse/scene: 1, fine/reading: 0}}\n",
    )
    definitions = load_definitions(pipeline.load("small"))
    assert unasked_types(definitions.rules, definitions.prompts.types) == ["coarse/counting", "fine/reading"]


def test_a_weight_of_0_serves_no_tag_and_is_noted_with_its_line(workspace: Path) -> None:
    zeros = "{tags: animal/**, ask: {fine/**: 0, coarse/scene: 0}}"
    path = write(
        workspace / "pipelines/mappings/small.yaml",
        f"about: x\nrules:\n  - {{tags: '**', ask: {{'**': 1}}}}\n  - {zeros}\n",
    )
    definitions = load_definitions(pipeline.load("small"))
    assert len(unserved_tags(definitions.taxonomy.tree, definitions.rules)) == 4
    assert list(notes(definitions.taxonomy.tree, definitions.rules, definitions.prompts.types, {"short": 1}))[-1] == (
        "note: 2 weights of 0 in mapping 'small', without effect (`never` forbids): "
        f"fine/** ({path}:4), coarse/scene ({path}:4)"
    )


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (
            {"likelihood": {"min": 5}},
            ["likelihood: min 5 drops every pair that it applies to: the score goes from 0 to 1"],
        ),
        (
            {"blind": {"min": -1, "max": 2}},
            [f"blind: {bound} drops nothing: the score goes from 0 to 1" for bound in ("min -1", "max 2")],
        ),
        ({"answer": {"min": 3.5}}, ["answer: min 3.5 drops every pair that it applies to: the score goes from 1 to 3"]),
        (
            {"question": {"max": 0.5}},
            ["question: max 0.5 drops every pair that it applies to: the score goes from 1 to 3"],
        ),
        ({"answer": {"min": 1, "max": 3}, "likelihood": {"min": 0, "max": 1}, "image_gain": {"min": -9, "max": 9}}, []),
    ],
)
def test_a_bound_that_no_value_of_its_score_can_reach_is_noted(
    definitions: Definitions, keep: dict[str, dict[str, float]], expected: list[str]
) -> None:
    thresholds = SelectConfig.model_validate({"keep": keep}).keep
    assert list(threshold_notes(thresholds, definitions.prompts.pack, {})) == [
        f"note: select.keep.{line}" for line in expected
    ]


def test_a_type_whose_forms_have_no_share_is_noted(definitions: Definitions) -> None:
    assert formless_types(definitions.rules, definitions.prompts.types, {"brief": 1.0}) == [
        "coarse/counting",
        "fine/reading",
    ]
    assert formless_types(definitions.rules, definitions.prompts.types, {"short": 1.0}) == []


def test_twins_have_nearly_the_same_words_in_any_order() -> None:
    texts = {
        "a": "a small furry pet with whiskers",
        "b": "Furry small pet with whiskers!",
        "c": "a small furry climber",
        "d": "a bill",
    }
    assert find_twins(texts) == [("a", "b")]


def test_check_prints_notes_and_no_more_names_than_fit(definitions: Definitions) -> None:
    done = CliRunner().invoke(app, ["check", "--pipeline", "small"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "note: 2 tags that no rule of mapping 'small' names: animal/cat, animal/red_panda",
        "small: 4 leaf tags, 3 instruction types, 2 mapping rules: no mistakes",
    ]
    done = CliRunner().invoke(app, ["check", "--pipeline", "small", "--set", "select.keep.answer.min=9"])
    assert (
        "note: select.keep.answer: min 9 drops every pair that it applies to: the score goes from 1 to 3" in done.stdout
    )
    many = {
        f"x/{number}": replace(definitions.prompts.types["fine/reading"], about=f"one{number} two{number}")
        for number in range(20)
    }
    (line,) = [
        line for line in notes(definitions.taxonomy.tree, definitions.rules, many, {"short": 1}) if "asks" in line
    ]
    assert line.startswith("note: 20 types that no rule of mapping 'small' asks: x/0, ") and line.endswith(
        ", x/11 and 8 more"
    )


def test_a_context_that_an_image_alone_may_fill_is_noted_with_both_settings(definitions: Definitions) -> None:
    engine = "generate.engine={kind: vllm, image_tokens: 4096, options: {max_model_len: 4096}}"
    (line,) = room_notes(pipeline.load("small", [engine]))
    assert line == (
        "note: generate: an image may take 4,096 tokens (engine.image_tokens), and the context holds 4,096 "
        "(engine.options.max_model_len); lower the first, or raise the second"
    )
    done = CliRunner().invoke(app, ["check", "--pipeline", "small", "--set", engine])
    assert line in done.stdout.splitlines()
    larger = "generate.engine={kind: vllm, image_tokens: 4096, options: {max_model_len: 8192}}"
    assert not list(room_notes(pipeline.load("small", [larger])))
    of_pass = f"score={{second: {{model: m, scores: [answer], engine: {engine.partition('=')[2]}}}}}"
    (line,) = room_notes(pipeline.load("small", [larger, of_pass]))
    assert line.startswith("note: score.second: ")


def test_workings_in_samples_need_a_form_that_asks_for_them(definitions: Definitions) -> None:
    done = CliRunner().invoke(app, ["check", "--pipeline", "small", "--set", "pack.worked=0.5"])
    assert done.exit_code != 0 and isinstance(done.exception, UserMistake)
    fault = "pack.worked: prompt pack 'small' has no form 'detailed', which asks for workings"
    assert str(done.exception) == f"--set pack.worked=0.5: {fault}"


@pytest.fixture
def with_plates(workspace: Path) -> Path:
    """Have a family with two sensitive types; return its file."""
    file = workspace / "prompts/families/small.yaml"
    plate = '{about: a plate, needs: a car, forms: [short], examples: ["Read?", "Plate?"], sensitive: personal}'
    finding = '{about: a finding, needs: a scan, forms: [short], examples: ["Ill?", "What?"], sensitive: medical}'
    return write(file, file.read_text() + f"      plate: {plate}\n      finding: {finding}\n")


def test_check_and_plan_say_how_many_sensitive_types_are_never_asked(with_plates: Path) -> None:
    withheld = "1 type with `sensitive: personal` is never asked, as plan.allow does not name personal: fine/plate"
    lines = CliRunner().invoke(app, ["check", "--pipeline", "small"]).stdout.splitlines()
    assert f"note: {withheld}" in lines and sum("sensitive: medical" in line for line in lines) == 1
    allowed = CliRunner().invoke(app, ["check", "--pipeline", "small", "--set", "plan.allow=[personal]"]).stdout
    assert "sensitive: personal" not in allowed and "sensitive: medical" in allowed
    make_images(with_plates.parents[2] / "photos", 3)
    done = CliRunner().invoke(app, ["plan", "photos", "--out", "out", "--pipeline", "small"])
    assert f"note: {withheld}" in done.stdout.splitlines()


def test_medical_types_are_refused_where_no_second_model_answers(with_plates: Path) -> None:
    with pytest.raises(UserMistake) as caught:
        resolve.load(pipeline.read("small", ["plan.allow=[personal, medical]"]))
    [line] = str(caught.value).splitlines()
    assert "plan.allow: 'medical' needs a second model that answers (`generate.ask` or `generate.answer`)" in line
    for part in ("ask", "answer"):
        assert pipeline.second_model(pipeline.load("small", [f"generate.{part}={{model: other}}"]))
    assert not pipeline.second_model(pipeline.load("small"))


def test_sensitive_types_are_marked_and_counted_in_the_drawing_of_their_family(with_plates: Path) -> None:
    *_, plate, finding, last = show.tree("family", "small").splitlines()
    assert plate == "├─ plate: a plate (personal)" and finding == "└─ finding: a finding (medical)"
    assert last == "2 sensitive types, asked only where plan.allow names the kind: 1 personal, 1 medical"


def test_a_mapping_is_drawn_with_what_it_extends(workspace: Path) -> None:
    effects = "when: {min_side: 9}, ask: {fine/*: 2}, boost: {fine/*: 3}, never: [coarse/*]"
    mine = f"about: mine\nextends: small\nrules:\n  - {{tags: [animal, document/letter], {effects}}}\n"
    write(workspace / "pipelines/mappings/mine.yaml", mine)
    here = workspace / "pipelines" / "mappings"
    assert show.mapping_text("mine").splitlines() == [
        "small: a few rules",
        f"├─ **  ({here}/small.yaml:3)",
        "│  └─ ask 2: coarse/**",
        f"└─ document/**  ({here}/small.yaml:5)",
        "   └─ ask 4: fine/**",
        "mine: mine",
        f"└─ animal, document/letter  when min_side 9  ({here}/mine.yaml:4)",
        "   ├─ ask 2: fine/*",
        "   ├─ boost x 3: fine/*",
        "   └─ never: coarse/*",
    ]


def test_a_part_of_a_taxonomy_and_its_first_levels_are_drawn(workspace: Path) -> None:
    whole = show.tree("taxonomy", "small").splitlines()
    assert show.tree("taxonomy", "small", depth=9).splitlines() == whole
    first = show.tree("taxonomy", "small", depth=1).splitlines()
    assert first[0] == "animal: a living creature (and 2 below)", "what is left out is counted"
    assert len(first) == sum(line[0] not in "├└│ " for line in whole)
    assert show.tree("taxonomy", "small", "animal").splitlines() == whole[:3]
    assert show.tree("taxonomy", "small", "animal/cat").splitlines() == ["cat: a small furry pet"]
    with pytest.raises(UserMistake, match="--under animl: taxonomy 'small' has no such path: did you mean 'animal'"):
        show.tree("taxonomy", "small", "animl")
