"""What the shipped mapping must ask, held against the plan that `benchmarks/asked.py` draws for everyday images.

`benchmarks/everyday_kinds.yaml` says for each kind of image which types should lead and which do not fit.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from synthgen.commands.check import unserved_tags
from synthgen.config import taxonomy
from synthgen.config.families import withheld
from synthgen.config.mapping import ImageFacts
from synthgen.stages.plan.weights import Weights
from tests.fixtures.workspace import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import asked

KINDS = asked.load_kinds()
IMAGES_EACH = 100
PERSONAL_KINDS = ("passport", "credit card", "prescription", "number plate", "signature", "completed form",
                  "boarding pass", "business card", "bottle from the pharmacy", "screenshot of a chat")  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> asked.Asked:
    """Plan images of all kinds; nothing in it depends on anything but the shipped files."""
    return asked.ask(KINDS, IMAGES_EACH)


def too_far(values: Iterator[tuple[str, float]], least: float) -> dict[str, float]:
    """Return the kinds whose value is below a bound."""
    return {name: round(value, 3) for name, value in values if value < least}


def test_the_table_names_at_least_eighty_kinds_and_a_leading_type_for_sixty() -> None:
    tree, types = taxonomy.load("everyday").tree, asked.everyday().types
    assert len(KINDS) >= 80 and sum(bool(kind.lead) for kind in KINDS) >= 60
    assert not [tag for kind in KINDS for tag in kind.tags if tag not in tree.nodes]
    names = {path.rpartition("/")[2] for path in types}
    assert not [lead for kind in KINDS for lead in kind.lead if lead not in names]
    patterns = {pattern for kind in KINDS for pattern in kind.unfit}
    assert not [pattern for pattern in patterns if not taxonomy.matching([pattern], list(types))]


def test_no_kind_is_asked_what_does_not_fit_it(plan: asked.Asked) -> None:
    assert {kind.name: found for kind in KINDS if (found := plan.unfit(kind))} == {}


def test_every_kind_is_led_by_a_type_that_a_person_would_name(plan: asked.Asked) -> None:
    leading = {kind.name: (plan.leading(kind.name), kind.lead) for kind in KINDS if kind.lead}
    assert {name: found for name, found in leading.items() if found[0].rpartition("/")[2] not in found[1]} == {}


def test_every_kind_is_described_at_length(plan: asked.Asked) -> None:
    assert too_far(((kind.name, plan.share(kind.name, *asked.DESCRIPTIONS)) for kind in KINDS), 0.05) == {}


def test_photographs_are_asked_for_what_is_plainly_there(plan: asked.Asked) -> None:
    photos = (kind.name for kind in KINDS if kind.is_photo)
    shares = ((name, plan.share(name, *asked.GROUNDED, but=asked.NOT_GROUNDED)) for name in photos)
    assert too_far(shares, 0.6) == {}


def test_untagged_images_are_described_and_their_things_named(plan: asked.Asked) -> None:
    assert plan.share("untagged", "description/**") >= 0.12 and plan.share("untagged", "**/name_object") >= 0.07
    assert plan.share("untagged", "**/limits/*", "**/two_facts") <= 0.06


def test_no_picture_is_asked_whether_it_shows_what_it_is_a_picture_of(plan: asked.Asked) -> None:
    named = {row["thing"] for row in plan.rows if row["thing"]}
    whole = ("document/**", "table/**", "chart/**", "diagram/**", "map/**", "graphic/**", "interface/**", "code/**",
             "medical/radiograph/**", "microscopy/**", "aerial/**", "indoor/**", "outdoor/**", "pattern/**",
             "person/portrait_view/**", "material/**", "art/painting/**", "sport/**", "event/**")  # fmt: skip
    assert len(named) > 50 and taxonomy.matching(whole, sorted(named)) == []


def test_yes_and_no_are_in_balance(plan: asked.Asked) -> None:
    truths = Counter(plan.types[row["type"]].truth for row in plan.rows)
    assert 0.45 <= truths["yes"] / (truths["yes"] + truths["no"]) <= 0.55
    assert truths["yes"] + truths["no"] >= 0.04 * len(plan.rows)


def test_both_sides_of_a_planned_truth_have_one_weight_in_every_rule() -> None:
    names = ("object_present", "object_absent"), ("attribute_true", "attribute_false")
    more = ("statement_true", "statement_false"), ("chart_claim_true", "chart_claim_false")
    for rule in asked.everyday().rules.rules:
        weights = {path.rpartition("/")[2]: weight for path, weight in rule.ask.items()}
        for yes, no in (*names, *more):
            assert weights.get(yes) == weights.get(no), f"{rule.where}: {yes}, {no}"


def test_limits_and_follow_ups_are_side_lines(plan: asked.Asked) -> None:
    limits = {kind.name: plan.share(kind.name, "**/limits/*") for kind in KINDS}
    follow_ups = {kind.name: plan.share(kind.name, "conversation/**") for kind in KINDS}
    assert {follow_ups.pop(name) for name in PERSONAL_KINDS} == {0.0}
    assert max(limits.values()) <= 0.06, limits
    assert min(follow_ups.values()) >= 0.01 and max(follow_ups.values()) <= 0.15, follow_ups


def test_every_form_of_answer_is_planned_and_answers_are_longer_than_a_phrase(plan: asked.Asked) -> None:
    forms = Counter(row["form"] for row in plan.rows)
    assert forms.keys() == set(asked.WORDS)
    assert sum(asked.WORDS[form] * count for form, count in forms.items()) / len(plan.rows) >= 45


def test_every_type_can_be_asked_unless_it_is_sensitive() -> None:
    settings, types = asked.everyday().settings, asked.everyday().types
    reached = {path for rule in asked.everyday().rules.rules for path, weight in rule.ask.items() if weight > 0}
    assert reached == types.keys()
    assert settings.allow == ()
    assert len(withheld(types, settings.allow)["personal"]) >= 5 and withheld(types, settings.allow)["medical"]


def test_every_tag_has_a_rule_of_its_own() -> None:
    assert unserved_tags(taxonomy.load("everyday").tree, asked.everyday().rules) == []


def test_sensitive_types_are_drawn_for_their_images_where_a_pipeline_allows_them() -> None:
    context = asked.everyday()
    weights = Weights(context.rules, list(context.types), {}, context.settings.side_tags)
    expected = {
        "passport": "identity_field", "credit card": "identity_field", "prescription": "personal_paper_worked_out",
        "completed form": "personal_paper_to_json", "boarding pass": "identity_field",
        "number plate": "plate_number", "signature": "signature_or_name", "X-ray": "visible_finding",
    }  # fmt: skip
    for kind in KINDS:
        if kind.name in expected:
            found = weights.by_type(context.rules.match(kind.tags, ImageFacts(*kind.size)))
            assert any(path.endswith(expected[kind.name]) for path in found), kind.name


def test_what_persons_wrote_or_hold_is_described_and_not_read(plan: asked.Asked) -> None:
    reading = ("single_instance/ocr/read_*", "**/field_value", "**/list_of_items", "description/transcription/*",
               "structure/**", "logic_reasoning/document/*", "logic_reasoning/limits/*", "**/statement_*",
               "conversation/**", "description/whole/*", "description/part/*")  # fmt: skip
    shares = {name: plan.share(name, *reading, but=["**/discreet_description"]) for name in PERSONAL_KINDS}
    assert shares == dict.fromkeys(PERSONAL_KINDS, 0.0)
    assert all(plan.share(name, "**/discreet_description") > 0.05 for name in PERSONAL_KINDS)
