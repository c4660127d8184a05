"""What the everyday pipeline asks of everyday kinds of image.

Each kind of `everyday_kinds.yaml` has the tags that a tagger would give, types of which one should be asked most, and
types that do not fit. Many images of each kind (a side tag is found in seven of ten of them, and scores vary) are
planned with the pipeline's mapping and settings, balance included. The table shows the types asked most of each kind,
and the shares of descriptions and of grounded types; then come the shares of answer forms, the length of answers, and
how many different openings 1,000 asking calls show the model or ask as they are. A leading type is the one asked most
of a kind, descriptions and follow-ups aside; `!` marks one that nobody would name, `x` questions of an unfit type.
`ratio` is the share of kinds whose leading type is right.

    python benchmarks/asked.py [--quick]
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from driver import is_quick
from planning import plan_context

from synthgen.config.families import InstructionType
from synthgen.config.taxonomy import matching, with_ancestors
from synthgen.stages.plan import PlanContext
from synthgen.stages.plan.assign import Assigner
from synthgen.stages.plan.images import PlannedImage
from synthgen.stages.plan.things import is_near
from synthgen.tables import draw

KINDS = Path(__file__).with_name("everyday_kinds.yaml")
SIDE_TAG_FOUND = 0.7  # of the images of a kind
COMPANIONS = 8  # of a leaf tag, as in the plan
SHOWN_EXAMPLES, SHOWN_CALLS = 2, 1000
WORDS = {"choice": 1, "short": 3, "points": 25, "brief": 30, "boxes": 30, "text": 60, "detailed": 130, "long": 200}

Row = Mapping[str, Any]

DESCRIPTIONS = (
    "**/full_description",
    "**/discreet_description",
    "**/page_description",
    "**/chart_description",
    "**/screen_description",
    "**/diagram_description",
)
# What is plainly to be seen: perception, attributes, counting, localization, reading, spatial relations, comparison.
GROUNDED = (
    "single_instance/**",
    "cross_instance/**",
    "description/transcription/**",
    "description/grounding/**",
    "coarse_perception/scene/**",
    "coarse_perception/style/**",
    "coarse_perception/quality/**",
    "**/translate_in_place",
    "**/surface_of_material",
    "**/main_subject",
    "**/sport_or_game",
    "**/kind_of_document",
    "**/kind_of_figure",
)
NOT_GROUNDED = ("**/region_clues", "**/era", "**/layout_design", "**/composition", "**/fitness_for_use", "**/occasion")
INFERENTIAL = (
    "relation_reasoning/**",
    "attribute_reasoning/identity/**",
    "attribute_reasoning/function/**",
    "attribute_reasoning/physical_property/**",
    "attribute_reasoning/condition/**",
    "coarse_perception/emotion/**",
    "logic_reasoning/prediction/**",
    "logic_reasoning/wit/**",
    "**/reason_why",
    "**/what_is_unusual",
    "**/known_fact",
    "**/good_advice",
    "**/region_clues",
    "**/era",
    "**/occasion",
)
NOT_LEADING = ("description/whole/**", "description/part/**", "conversation/**")


@dataclass(frozen=True)
class Kind:
    """A kind of image of the table; see its header."""

    name: str
    size: tuple[int, int]
    tags: Mapping[str, float]
    is_photo: bool
    lead: tuple[str, ...]
    unfit: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """A plan for images of all kinds.

    Attributes:
        types: Path → the instruction type, of the whole pack.
        asked: Name of a kind → type → the number of questions.
        rows: Of all questions, in the order of the kinds.
    """

    types: Mapping[str, InstructionType]
    asked: Mapping[str, Counter[str]]
    rows: Sequence[Row]

    def share(self, name: str, *patterns: str, but: Sequence[str] = ()) -> float:
        """Return the share of the questions of a kind whose types match a pattern and none of the others."""
        wanted = set(matching(patterns, list(self.types))) - set(matching(but, list(self.types)))
        counts = self.asked[name]
        return sum(counts[path] for path in wanted) / counts.total()

    def leading(self, name: str) -> str:
        """Return the type that a kind is asked most, descriptions and follow-ups aside."""
        aside = set(matching(NOT_LEADING, list(self.types)))
        return max((path for path in self.asked[name] if path not in aside), key=self.asked[name].__getitem__)

    def unfit(self, kind: Kind) -> dict[str, int]:
        """Return the unfit types that a kind is asked, with the number of questions."""
        return {path: count for path, count in self.asked[kind.name].items() if matching(kind.unfit, [path])}


def main() -> None:
    """Plan images of all kinds; print tables, then one line of JSON."""
    images = 100 if is_quick(__doc__) else 1000
    kinds = load_kinds()
    plan = ask(kinds, images)
    for kind in kinds:
        print(_line(plan, kind))
    record = {"benchmark": "asked", "kinds": len(kinds), "turns": len(plan.rows), **figures(plan, kinds)}
    print(f"\n{'form':<9} {'share':>6} {'words':>6}")
    for form, share in record["forms"].items():
        print(f"{form:<9} {share:>6.1%} {WORDS[form]:>6}")
    for name, value in record.items():
        if isinstance(value, int | float):
            print(f"{name:<26} {value:,}")
    print(json.dumps(record))


def load_kinds() -> list[Kind]:
    """Return the kinds of the table, in its order."""
    table = yaml.safe_load(KINDS.read_text(encoding="utf-8"))
    return [
        Kind(
            name,
            tuple(facts.get("size", (1024, 768))),
            facts["tags"],
            facts.get("photo", False),
            tuple(facts.get("lead", ())),
            tuple(facts.get("unfit", ())),
        )
        for name, facts in table.items()
    ]


@cache
def everyday() -> PlanContext:
    """Return what shapes the plans of the everyday pipeline, without negatives, whose types are those of others."""
    context = plan_context()
    return replace(context, settings=context.settings.model_copy(update={"negatives": 0.0}))


def ask(kinds: Sequence[Kind], images_each: int) -> Asked:
    """Plan so many images of each kind with the everyday pipeline."""
    context = everyday()
    images = {kind.name: list(images_of(kind, images_each)) for kind in kinds}
    everything = [image for of_kind in images.values() for image in of_kind]
    companions = companions_of(everything, context.leaves)
    plain, strength = Assigner(context, {}, companions=companions), context.settings.balance.types
    assigner = Assigner(context, plain.balance_factors(everything, strength), companions=companions)
    rows = assigner.draw_all(everything).to_pylist()
    asked: dict[str, Counter[str]] = {name: Counter() for name in images}
    for row in rows:
        asked[row["object_id"]][row["type"]] += 1
    return Asked(context.types, asked, rows)


def images_of(kind: Kind, count: int) -> Iterator[PlannedImage]:
    """Yield images of a kind; the object of each has the name of the kind."""
    for number in range(count):
        name = f"{kind.name} {number}"
        rng = random.Random(name)
        found = [tag for place, tag in enumerate(kind.tags) if place == 0 or rng.random() < SIDE_TAG_FOUND]
        tags = {tag: min(1.0, kind.tags[tag] * 2 ** rng.uniform(-0.3, 0.3)) for tag in found}
        yield PlannedImage(kind.name, name, tags, *kind.size)


def companions_of(images: Sequence[PlannedImage], leaves: frozenset[str]) -> dict[str, dict[str, float]]:
    """Return the leaf tags that are most often with each leaf tag and not near to it, as the plan counts them."""
    totals, together = Counter[str](), dict[str, Counter[str]]()
    for image in images:
        found = [tag for tag in image.tags if tag in leaves]
        totals.update(found)
        for tag in found:
            together.setdefault(tag, Counter()).update(found)
    return {
        tag: dict(
            [(other, count / totals[tag]) for other, count in counts.most_common() if not _are_near(tag, other)][
                :COMPANIONS
            ]
        )
        for tag, counts in together.items()
    }


def _are_near(leaf: str, other: str) -> bool:
    return is_near(other, [leaf], with_ancestors([leaf])) or is_near(leaf, [other], with_ancestors([other]))


def figures(plan: Asked, kinds: Sequence[Kind]) -> dict[str, Any]:
    """Return what the whole plan comes to; shares are those of questions, over all kinds but where a kind is named."""
    count = len(plan.rows)
    forms = Counter(row["form"] for row in plan.rows)
    truths = Counter(plan.types[row["type"]].truth for row in plan.rows)
    described = {kind.name: plan.share(kind.name, *DESCRIPTIONS) for kind in kinds}
    grounded = [plan.share(kind.name, *GROUNDED, but=NOT_GROUNDED) for kind in kinds if kind.is_photo]
    led = [plan.leading(kind.name).rpartition("/")[2] in kind.lead for kind in kinds if kind.lead]
    return {
        "forms": {form: round(number / count, 4) for form, number in forms.most_common()},
        "mean_words": round(sum(WORDS[form] * number for form, number in forms.items()) / count, 1),
        "descriptions": round(sum(described.values()) / len(kinds), 4),
        "descriptions_least": round(min(described.values()), 4),
        "grounded_photos": round(sum(grounded) / len(grounded), 4),
        "grounded_photos_least": round(min(grounded), 4),
        "inferential": round(sum(plan.share(kind.name, *INFERENTIAL) for kind in kinds) / len(kinds), 4),
        "limits": round(sum(plan.share(kind.name, "**/limits/*") for kind in kinds) / len(kinds), 4),
        "follow_ups": round(sum(plan.share(kind.name, "conversation/**") for kind in kinds) / len(kinds), 4),
        "yes_no": round((truths["yes"] + truths["no"]) / count, 4),
        "yes_of_yes_no": round(truths["yes"] / max(truths["yes"] + truths["no"], 1), 4),
        "types": len({row["type"] for row in plan.rows}),
        "openings": len(openings(plan)),
        "unfit": round(sum(sum(plan.unfit(kind).values()) for kind in kinds) / count, 4),
        "kinds_with_unfit": sum(bool(plan.unfit(kind)) for kind in kinds),
        "kinds_with_lead": len(led),
        "ratio": round(sum(led) / len(led), 3),
    }


def openings(plan: Asked) -> set[tuple[str, ...]]:
    """Return the first three words of what 1,000 asking calls show or ask, drawn at random from all questions."""
    rows = random.Random(0).sample(plan.rows, SHOWN_CALLS)
    texts = [text for row in rows for text in shown(plan.types[row["type"]], row)]
    return {tuple(text.lower().split()[:3]) for text in texts}


def shown(kind: InstructionType, row: Row) -> list[str]:
    """Return the request that a question is, or the examples that the model sees, as `generate` draws them."""
    if requests := kind.requests.get(row["language"]):
        start = int(draw(0, "request", row["image_id"], row["type"]) * len(requests))
        return [requests[(start + row["ordinal"]) % len(requests)]]
    drawn = {text: draw(0, "example", row["assignment_id"], text) for text in kind.examples}
    return sorted(drawn, key=drawn.__getitem__)[:SHOWN_EXAMPLES]


def _line(plan: Asked, kind: Kind) -> str:
    """Return the line of a kind: its most frequent types, and its shares of descriptions and of grounded types."""
    counts = plan.asked[kind.name]
    most = [f"{path.rpartition('/')[2]} {count / counts.total():.1%}" for path, count in counts.most_common(8)]
    grounded = plan.share(kind.name, *GROUNDED, but=NOT_GROUNDED)
    wrong = kind.lead and plan.leading(kind.name).rpartition("/")[2] not in kind.lead
    marks = ("!" if wrong else "") + ("x" if plan.unfit(kind) else "")
    return (
        f"{kind.name:<22} {marks:<2} described {plan.share(kind.name, *DESCRIPTIONS):>5.1%}, grounded {grounded:>5.1%}"
        f", {len(counts):>3} types: {', '.join(most)}"
    )


if __name__ == "__main__":
    main()
