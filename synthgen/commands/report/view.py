"""What the page shows, as plain values: sums, shares, the edges of histograms and the cells of treemaps."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.commands.report.branches import Branches, absent, uneven
from synthgen.commands.report.outcomes import DROPPED, FAILED, KEPT, OPEN, joined
from synthgen.commands.report.scores import NO_RULE, ScoreSurvey
from synthgen.commands.report.treemap import Cell, treemap
from synthgen.job.funnel import StageFunnel

BINS = 40  # of a histogram, about
STEPS = 40  # of a threshold that is moved, about
ROWS = 9  # of the table of thresholds
LISTED = 12  # starved and drowned tags
MOST_GROUPS, MOST_FAMILIES, MOST_TAGS = (
    100,
    30,
    1500,
)  # rows of a table, the largest; the others are one row, or counted
NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Group:
    """Questions of one type, form, language or tag, by what became of them."""

    name: str
    kept: int = 0
    dropped: int = 0
    failed: int = 0
    open: int = 0

    @property
    def asked(self) -> int:
        """All of them."""
        return self.kept + self.dropped + self.failed + self.open

    @property
    def rate(self) -> float:
        """The share that is kept."""
        return self.kept / max(1, self.asked)

    @property
    def parts(self) -> list[tuple[str, float, float]]:
        """Each outcome with where its part of a bar begins and how long it is, as shares."""
        return stacked({KEPT: self.kept, DROPPED: self.dropped, FAILED: self.failed, OPEN: self.open}, self.asked)

    @staticmethod
    def of(name: str, counts: Mapping[str, int]) -> "Group":
        """Return the group of some counts by outcome."""
        return Group(name, *(counts.get(outcome, 0) for outcome in (KEPT, DROPPED, FAILED, OPEN)))


@dataclass(frozen=True)
class Family:
    """A family of types, and its types."""

    whole: Group
    types: list[Group]


def stacked(counts: Mapping[str, int], total: int) -> list[tuple[str, float, float]]:
    """Return (name, start, length) of the parts of a bar, as shares of a total; empty ones are left out."""
    parts, at = [], 0
    for name, count in counts.items():
        if count > 0:
            parts.append((name, at / max(1, total), count / max(1, total)))
        at += max(0, count)
    return parts


def groups_of(counts: Mapping[str, Counter[str]], most: int = MOST_GROUPS) -> list[Group]:
    """Return groups, the largest first; more than `most` end in one for all others, so that sums stay."""
    groups = [Group.of(name, of_name) for name, of_name in counts.items()]
    groups.sort(key=lambda group: (-group.asked, group.name))
    others = joined({group.name: counts[group.name] for group in groups[most:]})
    return groups[:most] + ([Group.of(f"{len(groups) - most:,} others", others)] if len(groups) > most else [])


def families_of(counts: Mapping[str, Counter[str]]) -> list[Family]:
    """Return types in their families, the largest first."""
    below: dict[str, dict[str, Counter[str]]] = {}
    for name, of_name in counts.items():
        below.setdefault(name.partition("/")[0], {})[name] = of_name
    wholes = groups_of({name: joined(types) for name, types in below.items()}, MOST_FAMILIES)
    return [Family(whole, groups_of(below.get(whole.name, {}))) for whole in wholes]


@dataclass(frozen=True)
class StageBar:
    """A stage of the funnel: its counts, and the parts of its bar."""

    funnel: StageFunnel
    reasons: list[tuple[str, int, float]]
    parts: list[tuple[str, float, float]]

    @property
    def sum(self) -> int:
        """What is passed, dropped and pending, less what is still to be taken out: all that came in."""
        funnel = self.funnel
        return funnel.passed + sum(funnel.dropped.values()) + funnel.pending - funnel.superseded


def stage_bars(funnels: Sequence[StageFunnel]) -> list[StageBar]:
    """Return the bars of the funnel."""
    return [_stage_bar(funnel) for funnel in funnels]


def _stage_bar(funnel: StageFunnel) -> StageBar:
    lost = sorted(((name, count) for name, count in funnel.dropped.items() if count), key=lambda item: -item[1])
    whole = max(1, funnel.received + funnel.superseded)
    parts = stacked({KEPT: funnel.passed, DROPPED: sum(funnel.dropped.values()), OPEN: funnel.pending}, whole)
    return StageBar(funnel, [(name, count, count / whole) for name, count in lost], parts)


@dataclass(frozen=True)
class ScoreView:
    """A score as the page shows it.

    Attributes:
        bars: (start, width, height of all pairs, height of kept pairs) of each bin, as shares; heights are square
            roots, as one bin often has nearly all values.
        ticks: (place as a share, text) of the axis.
        threshold: Where it is, or None.
        place: Of the threshold, as a share.
        steps: (threshold, pairs that it would keep, place as a share).
        table: Some of the steps.
    """

    survey: ScoreSurvey
    bars: list[tuple[float, float, float, float]]
    ticks: list[tuple[float, str]]
    threshold: float | None
    place: float | None
    steps: list[tuple[float, int, float]]
    table: list[tuple[float, int, float]]

    @property
    def is_upper(self) -> bool:
        """Whether the threshold is the greatest value and not the least."""
        return self.survey.rule.min is None and self.survey.rule.max is not None

    @property
    def words(self) -> str:
        """The rule in words."""
        rule = self.survey.rule
        if rule is NO_RULE:
            return "no threshold"
        ends = [f"at least {rule.min:g}"] if rule.min is not None else []
        ends += [f"at most {rule.max:g}"] if rule.max is not None else []
        ends += [f"not among the lowest {rule.drop:.3g} of its group"] if rule.drop is not None else []
        return "kept: " + (" and ".join(ends) or "any value")


def score_view(survey: ScoreSurvey) -> ScoreView:
    """Return a score as the page shows it."""
    low, high = survey.all.ends
    rule = survey.rule
    threshold = rule.min if rule.min is not None else rule.max
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    step = nice_step(max(high - low, survey.all.width) / BINS)
    first = math.floor(low / step + 1e-6)
    last = max(math.ceil(high / step - 1e-6), first + 1)
    edges = [number * step for number in range(first, last + 1)]
    width = edges[-1] - edges[0]
    every, kept = survey.all.between(edges), survey.kept.between(edges)
    tallest = max(every) or 1
    bars = [
        (number / len(every), 1 / len(every), math.sqrt(every[number] / tallest), math.sqrt(kept[number] / tallest))
        for number in range(len(every))
    ]

    def place(value: float) -> float:
        return min(1.0, max(0.0, (value - edges[0]) / width))

    values = sorted({round(edge, 9) for edge in edges} | ({threshold} if threshold is not None else set()))
    steps = [(value, survey.kept_at(value), place(value)) for value in values]
    return ScoreView(
        survey,
        bars,
        [(place(value), f"{value:.10g}") for value in _ticks(edges[0], edges[-1])],
        threshold,
        None if threshold is None else place(threshold),
        steps,
        _some(steps, threshold),
    )


def nice_step(least: float) -> float:
    """Return the smallest round number that is at least this one."""
    size = 10.0 ** math.floor(math.log10(least))
    return next(size * factor for factor in NICE if size * factor >= least * (1 - 1e-9))


def _ticks(low: float, high: float) -> Iterator[float]:
    step = nice_step((high - low) / 5)
    number = math.ceil(low / step - 1e-9)
    while number * step <= high + step * 1e-9:
        yield round(number * step, 9)
        number += 1


def _some(steps: list[tuple[float, int, float]], threshold: float | None) -> list[tuple[float, int, float]]:
    """Return some steps at equal distances, and the one of the threshold."""
    every = max(1, -(-len(steps) // ROWS))
    return [step for number, step in enumerate(steps) if number % every == 0 or step[0] == threshold]


@dataclass(frozen=True)
class TagsView:
    """The taxonomy as the page shows it.

    Attributes:
        by_images: The cells of the map by images.
        by_pairs: The cells of the map by kept pairs.
        rows: (tag, images, questions, kept pairs per image) of each; of the largest where there are too many.
        others: Tags that have no row.
        starved: Tags whose images have few pairs, at most LISTED.
        drowned: Those whose images have many.
        absent: Leaves that no image has.
    """

    by_images: list[Cell]
    by_pairs: list[Cell]
    rows: list[tuple[str, int, Group, float]]
    starved: list[str]
    drowned: list[str]
    absent: list[str]
    others: int
    most: int = LISTED


def tags_view(branches: Branches, leaves: Sequence[str]) -> TagsView:
    """Return the taxonomy as the page shows it; `leaves` are those of the taxonomy, as far as it is known."""
    by_images = treemap({name: branch.images for name, branch in branches.tags.items()})
    hues = {cell.name: cell.hue for cell in by_images}
    by_pairs = treemap({name: branch.kept for name, branch in branches.tags.items()}, hues)
    starved, drowned = uneven(branches, max(3, branches.total.images // 200))
    largest = sorted(branches.tags, key=lambda name: (-branches.tags[name].images, name))[:MOST_TAGS]
    shown = set(largest)
    rows = [
        (name, branch.images, Group.of(name, branch.questions), branch.kept_per_image)
        for name, branch in sorted(branches.tags.items())
        if name in shown
    ]
    return TagsView(
        by_images, by_pairs, rows, starved, drowned, absent(branches, tuple(leaves)), len(branches.tags) - len(rows)
    )


def choices(examples: Sequence[Any], name: str) -> list[tuple[str, int]]:
    """Return the values of an attribute with how many examples have each, in their order."""
    return sorted(Counter(getattr(example, name) for example in examples).items())
