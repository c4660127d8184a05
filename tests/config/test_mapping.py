"""Mappings: the rules that fire for an image, and the weights of instruction types that follow."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import library, mapping, prompt_pack, taxonomy
from synthgen.config.families import InstructionType
from synthgen.config.mapping import ImageFacts
from synthgen.config.strict_yaml import parse
from synthgen.errors import Mistakes, UserMistake
from synthgen.stages.plan.weights import Weights
from tests.fixtures.workspace import write

TYPES = ["coarse/scene", "coarse/counting", "fine/reading"]
WIDE = ImageFacts(400, 200)


def load(folder: Path, rules: str, **files: str) -> mapping.RuleSet:
    """Load a mapping over the workspace's taxonomy and TYPES; `files` are further mapping files by name."""
    for name, text in {"mine": f"about: x\nrules:\n{rules}", **files}.items():
        write(folder / f"pipelines/mappings/{name}.yaml", text)
    return mapping.load("mine", taxonomy.load("small").tree, TYPES)


def weights(
    rules: mapping.RuleSet, tags: list[str], size: ImageFacts = WIDE, types: Sequence[str] = TYPES
) -> Mapping[str, float]:
    """Return the weights by which the plan draws types."""
    return Weights(rules, types, {}).by_type(rules.match(dict.fromkeys(tags, 1.0), size))


def match(rules: mapping.RuleSet, tags: list[str], size: ImageFacts) -> tuple[int, ...]:
    """Return the numbers of the rules that fire for an image."""
    return tuple(rules.match(dict.fromkeys(tags, 1.0), size))


# --- weights ---------------------------------------------------------------------------------------------------------


def test_a_weight_is_shared_by_the_types_that_the_pattern_matches(workspace: Path) -> None:
    assert weights(load(workspace, "  - {tags: animal/**, ask: {coarse/**: 4}}\n"), ["animal/cat"]) == {
        "coarse/counting": 2,
        "coarse/scene": 2,
    }


def test_the_weights_of_all_patterns_and_rules_that_fire_are_added(workspace: Path) -> None:
    rules = load(
        workspace,
        "  - {tags: animal/**, ask: {coarse/**: 4, '**/scene': 1, '**': 3}}\n"
        "  - {tags: [animal/cat, document/**], ask: {fine/**: 10}}\n  - {tags: document/**, ask: {'**': 100}}\n",
    )
    assert weights(rules, ["animal/cat"]) == {"coarse/counting": 3, "coarse/scene": 4, "fine/reading": 11}


def test_a_boost_multiplies_the_sum_whatever_the_order_of_the_rules(workspace: Path) -> None:
    first = "  - {tags: animal, boost: {coarse/**: 3, fine/**: 9}}\n"
    second = "  - {tags: '**', ask: {coarse/scene: 2}}\n  - {tags: animal, ask: {coarse/scene: 1}}\n"
    assert weights(load(workspace, first + second), ["animal"]) == {"coarse/scene": 9}
    assert weights(load(workspace, second + first), ["animal"]) == {"coarse/scene": 9}


def test_never_wins_over_everything(workspace: Path) -> None:
    rules = load(
        workspace, "  - {tags: animal, never: [coarse/**]}\n  - {tags: '**', ask: {'**': 6}, boost: {'**': 5}}\n"
    )
    assert weights(rules, ["animal/cat"]) == {"fine/reading": 10}
    assert set(weights(rules, ["document"])) == set(TYPES)


def test_a_type_without_weight_is_not_asked(workspace: Path) -> None:
    rules = load(
        workspace, "  - {tags: '**', ask: {'**': 3, fine/reading: 0}}\n  - {tags: animal, boost: {coarse/scene: 0}}\n"
    )
    assert set(weights(rules, ["animal"])) == {"coarse/counting", "fine/reading"}


@given(
    st.lists(st.sampled_from(["animal", "animal/cat", "document", "document/invoice", "document/letter"])), st.randoms()
)
def test_weights_do_not_depend_on_the_order_or_number_of_tags(tags: list[str], shuffle: object) -> None:
    tree = taxonomy.build_tree(parse(Path("t"), TREE), "tags", "tags", "means")
    texts = (
        "{tags: '**', ask: {coarse/**: 2}}",
        "{tags: animal/**, ask: {'**': 3}}",
        "{tags: document/letter, never: [fine/**]}",
    )
    written = [mapping.Rule.model_validate(parse(Path("r"), text).values) for text in texts]
    compiled = tuple(mapping._compile(number, "here", rule, tree, TYPES) for number, rule in enumerate(written))
    rules = mapping.RuleSet("m", compiled, frozenset())
    mixed = [*tags, *tags]
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    assert weights(rules, mixed) == weights(rules, tags)


TREE = "tags: {animal: {means: x, tags: {cat: y}}, document: {means: x, tags: {invoice: y, letter: z}}}"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("tags: anmial/**, ask: {'**': 1}", "no tag matches 'anmial/**': did you mean 'animal/**'?"),
        ("tags: '**/invoic', ask: {'**': 1}", "no tag matches '**/invoic': did you mean '**/invoice'?"),
        ("tags: animal/cta, ask: {'**': 1}", "no tag matches 'animal/cta': did you mean 'animal/cat'?"),
        ("tags: animal, ask: {corse/**: 1}", "no instruction type matches 'corse/**': did you mean 'coarse/**'?"),
        (
            "tags: animal, ask: {'**/counting/**': 1, '**/cuonting/**': 1}",
            "matches '**/cuonting/**': did you mean '**/counting/**'?",
        ),
        ("tags: animal, ask: {coarse/**: '6'}", "must be a number, not '6'"),
        ("tags: animal, ask: {coarse/**: six}", "must be a number, not 'six'"),
        ("tags: animal, boost: {coarse/**: '6'}", "must be a number, not '6'"),
        ("tags: [], ask: {'**': 1}", "rules.0: has no tags, so the rule never fires; '**' matches every image"),
        ("tags: animal, when: {min_side: 400}", "rules.0: does nothing; give it ask, boost or never"),
        (
            "tags: animal, when: {min_side: 400, max_side: 200}, never: ['**']",
            "rules.0.when: min_side 400 is above max_side 200, so the rule never fires",
        ),
        (
            "tags: animal, when: {min_aspect: 2.5, max_aspect: 1}, never: ['**']",
            "rules.0.when: min_aspect 2.5 is above max_aspect 1, so the rule never fires",
        ),
    ],
)
def test_a_mistake_in_a_rule_is_one_line_with_a_suggestion(workspace: Path, rule: str, message: str) -> None:
    with pytest.raises(Mistakes) as caught:
        load(workspace, f"  - {{{rule}}}\n")
    [line] = str(caught.value).splitlines()
    assert line.endswith(message)


# --- the rules that fire ---------------------------------------------------------------------------------------------


def test_a_tag_implies_its_ancestors(workspace: Path) -> None:
    rules = load(workspace, "  - {tags: animal, ask: {'**': 1}}\n  - {tags: animal/cat, ask: {'**': 1}}\n")
    assert match(rules, ["animal/cat"], WIDE) == (0, 1)
    assert match(rules, ["animal/red_panda"], WIDE) == (0,)


def test_only_two_stars_fire_for_an_image_without_tags(workspace: Path) -> None:
    rules = load(
        workspace,
        "  - {tags: '**', ask: {'**': 1}}\n  - {tags: '*', ask: {'**': 1}}\n  - {tags: '**/cat', ask: {'**': 1}}\n",
    )
    assert match(rules, [], WIDE) == (0,)
    assert match(rules, ["document"], WIDE) == (0, 1)


@pytest.mark.parametrize(
    ("when", "holds", "does_not"),
    [
        ("min_side: 200", [ImageFacts(400, 200), ImageFacts(200, 400)], [ImageFacts(400, 199)]),
        ("max_side: 160", [ImageFacts(160, 900)], [ImageFacts(161, 900), ImageFacts(900, 161)]),
        ("min_aspect: 1.5", [ImageFacts(300, 200)], [ImageFacts(299, 200)]),
        ("max_aspect: 0.5", [ImageFacts(100, 200)], [ImageFacts(101, 200)]),
        ("min_side: 100, max_aspect: 2", [ImageFacts(200, 100)], [ImageFacts(99, 100), ImageFacts(300, 100)]),
        ("license: [CC0*, null]", [ImageFacts(9, 9), ImageFacts(9, 9, "cc0-1.0")], [ImageFacts(9, 9, "CC-BY-4.0")]),
        ("source: [scans]", [ImageFacts(9, 9, None, "scans")], [ImageFacts(9, 9), ImageFacts(9, 9, None, "web")]),
    ],
)
def test_a_condition_tests_the_size_of_the_image_and_where_it_is_from(
    workspace: Path, when: str, holds: list[ImageFacts], does_not: list[ImageFacts]
) -> None:
    rules = load(workspace, f"  - {{tags: '**', when: {{{when}}}, ask: {{'**': 1}}}}\n")
    assert all(match(rules, [], size) == (0,) for size in holds)
    assert all(match(rules, [], size) == () for size in does_not)


def test_has_text_holds_for_images_with_a_text_tag(workspace: Path) -> None:
    with_text = "  - {tags: '**', when: {has_text: true}, ask: {'**': 1}}\n"
    without_text = "  - {tags: '**', when: {has_text: false}, ask: {'**': 1}}\n"
    file = f"about: x\ntext_tags: [document/**]\nrules:\n{with_text}{without_text}"
    rules = load(workspace, "", mine=file)
    assert match(rules, ["document/invoice"], WIDE) == (0,)
    assert match(rules, ["animal/cat"], WIDE) == (1,)


def test_the_causes_of_a_type_are_the_tags_of_the_rules_that_asked_it(workspace: Path) -> None:
    rules = load(
        workspace,
        "  - {tags: '**', ask: {'**': 1}}\n"
        "  - {tags: animal/**, ask: {coarse/scene: 1}}\n"
        "  - {tags: document, ask: {fine/reading: 1}}\n",
    )
    tags = ["animal/cat", "document/invoice"]
    fired = rules.match(dict.fromkeys(tags, 1.0), WIDE)
    assert rules.causes(fired, tags, "coarse/scene") == ["animal", "animal/cat"]
    assert rules.causes(fired, tags, "fine/reading") == ["document"]
    assert rules.causes(fired, tags, "coarse/counting") == []  # asked of every image


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_rules_of_an_extension_follow_those_that_it_extends(workspace: Path) -> None:
    rules = load(
        workspace,
        "",
        mine="about: x\nextends: middle\nrules:\n  - {tags: '**', ask: {coarse/scene: 3}}\n",
        middle="about: x\nextends: base\ntext_tags: [document]\nrules:\n  - {tags: animal, ask: {coarse/scene: 2}}\n",
        base="about: x\ntext_tags: [animal]\nrules:\n  - {tags: '**', ask: {coarse/scene: 1}}\n",
    )
    assert [rule.where.rpartition("/")[2] for rule in rules.rules] == ["base.yaml:4", "middle.yaml:5", "mine.yaml:4"]
    assert weights(rules, ["animal"]) == {"coarse/scene": 6}
    assert rules.text_tags == {"animal", "document"}


def test_without_thing_tags_every_leaf_may_be_named_and_with_some_no_other(workspace: Path) -> None:
    rule = "rules:\n  - {tags: '**', ask: {coarse/scene: 1}}\n"
    leaves = ["animal", "document/invoice"]
    assert load(workspace, "", mine=f"about: x\n{rule}").nameable(leaves) == set(leaves)
    assert load(workspace, "", mine=f"about: x\nthing_tags: [animal/**]\n{rule}").nameable(leaves) == {"animal"}


def test_a_circle_of_extensions_is_reported_in_the_order_of_its_links(workspace: Path) -> None:
    with pytest.raises(Mistakes, match=r"extends itself: mine -> other -> mine$"):
        load(workspace, "", mine="about: x\nextends: other\nrules: []\n", other="about: x\nextends: mine\nrules: []\n")


def test_an_extension_of_an_unknown_or_invalid_name_is_one_line(workspace: Path) -> None:
    with pytest.raises(UserMistake, match="mapping 'smal' is unknown: did you mean 'small'"):
        load(workspace, "", mine="about: x\nextends: smal\nrules: []\n")
    with pytest.raises(UserMistake, match="extends: must be text, not a list"):
        load(workspace, "", mine="about: x\nextends: [a]\nrules: []\n")


def test_every_pattern_that_matches_nothing_is_reported_with_its_line_and_the_nearest_name(workspace: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        load(
            workspace,
            "",
            mine="about: x\ntext_tags: [documnt]\nrules:\n  - tags: [animals/**, animal]\n    ask: {coarse/scenes: 1}\n"
            "  - tags: '**'\n    boost: {zzz/**: 1}\n    never: [fine/readin]\n",
        )
    file = workspace / "pipelines/mappings/mine.yaml"
    assert caught.value.lines == [
        f"{file}:2: no tag matches 'documnt': did you mean 'document'?",
        f"{file}:4: no tag matches 'animals/**': did you mean 'animal/**'?",
        f"{file}:5: no instruction type matches 'coarse/scenes': did you mean 'coarse/scene'?",
        f"{file}:7: no instruction type matches 'zzz/**': none is below 'zzz': known: coarse, fine",
        f"{file}:8: no instruction type matches 'fine/readin': did you mean 'fine/reading'?",
    ]


def test_a_negative_weight_is_refused(workspace: Path) -> None:
    with pytest.raises(Mistakes, match="must be greater than or equal to 0, not -1"):
        load(workspace, "  - {tags: '**', ask: {'**': -1}}\n")


def test_the_fingerprint_of_a_mapping_covers_all_that_it_extends(workspace: Path) -> None:
    rules = load(workspace, "", mine="about: x\nextends: small\nrules: []\n")
    assert rules.names == ("small", "mine")
    assert len(rules.texts) == 2 and "document/**" in rules.texts[0]


def test_comments_layout_and_about_are_not_part_of_the_fingerprint(workspace: Path) -> None:
    before = load(workspace, "  - {tags: animal, ask: {'**': 1}}\n").texts
    other = "about: other words\nrules:\n  # why\n  - tags: animal\n    ask: {'**': 1}\n"
    assert load(workspace, "", mine=other).texts == before
    assert load(workspace, "  - {tags: animal, ask: {'**': 2}}\n").texts != before


# --- shipped files ---------------------------------------------------------------------------------------------------

SHIPPED = {  # mapping -> taxonomy, prompts
    "everyday": ("everyday", "everyday"),
    "drawn": ("drawn", "drawn"),
    "imported": ("none", "imported"),
    "sets": ("everyday", "sets"),
}


@cache
def shipped(name: str) -> tuple[mapping.RuleSet, taxonomy.Tree, Mapping[str, InstructionType]]:
    tags, pack = SHIPPED[name]
    tree, types = taxonomy.load(tags).tree, prompt_pack.load(pack).types
    return mapping.load(name, tree, list(types)), tree, types


def test_every_shipped_mapping_is_tested_here() -> None:
    assert set(SHIPPED) == {path.stem for path in (library.shipped_folder() / "pipelines/mappings").glob("*.yaml")}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_mapping_can_reach_every_type(name: str) -> None:
    rules, tree, types = shipped(name)
    weigh = Weights(rules, list(types), {})
    reached = {path for leaf in tree.leaves for path in weigh.by_type(rules.match({leaf: 1.0}, ImageFacts(800, 600)))}
    assert reached == set(types)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_mapping_has_rules_for_every_root_of_its_taxonomy(name: str) -> None:
    rules, tree, types = shipped(name)
    for root in tree.roots:
        fired = match(rules, [root], ImageFacts(800, 600))
        assert weights(rules, [root], ImageFacts(800, 600), list(types)), root
        if name == "everyday":  # in a drawn picture every tag is a detail, and few of them decide its questions
            assert any(not rules.rules[number].is_for_all for number in fired), root
