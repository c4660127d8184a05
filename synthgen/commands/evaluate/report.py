"""The numbers of an evaluation as lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthgen.config.vocabulary import make_printable
from synthgen.console import pluralize

TAGS = 15  # shown, those of most items
WIDTH = 34  # of a name
Json = Mapping[str, Any]


def report(summary: Json) -> str:
    """Return what was asked, how right each model is by group, and how two of them compare."""
    return "\n".join(map(make_printable, _lines(summary)))


def _lines(summary: Json) -> Iterator[str]:
    questions, models = summary["questions"], summary["models"]
    left_out = questions["left_out"]
    why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    rest = f"; {sum(left_out.values()):,} left out ({why})" if left_out else ""
    yield f"{pluralize(questions['questions'], 'question')} about {pluralize(questions['images'], 'image')}{rest}"
    for number, model in enumerate(models):
        yield from _model_lines(summary, number, model)
    if len(models) > 1:
        yield from _compared(summary)


def _model_lines(summary: Json, number: int, model: Json) -> Iterator[str]:
    yield ""
    yield f"{model['model']} ({model['revision']})"
    yield (
        f"  {pluralize(model['items'], 'question')}, {model['replies']:,} replies with the image, of which "
        f"{model['unparsed']:,} could not be read"
    )
    if model["pending"]:
        yield (f"  {model['pending']:,} questions have no result: calls failed, and the same command makes them again")
    yield ""
    heads = ("items", "right", "95 %", "plain", "relaxed", "words", "blind", "swapped", "unread")
    yield f"  {'':<{WIDTH}}{heads[0]:>7}{heads[1]:>8}{heads[2]:>15}" + "".join(f"{head:>9}" for head in heads[3:])
    for group in _shown(summary["groups"]):
        yield _group_line(group, group["models"][number])
    yield from _shift_lines(summary["shift_check"][number])
    yield from _control_lines(summary["controls"][number])


def _shown(groups: Sequence[Json]) -> Iterator[Json]:
    """Yield the groups, of tags those with most items."""
    yield from (group for group in groups if group["by"] != "tag")
    tags = sorted((group for group in groups if group["by"] == "tag"), key=lambda group: -group["items"])
    yield from tags[:TAGS]


def _group_line(group: Json, numbers: Json) -> str:
    name = _shortened(f"{group['by']} {group['name']}".strip())
    unread = numbers["unparsed"] / numbers["replies"] if numbers["replies"] else None
    measures = [numbers[key] for key in ("plain", "relaxed", "overlap", "blind", "swapped")]
    cells = "".join(f"{_percent(value):>9}" for value in [*measures, unread])
    head = f"  {name:<{WIDTH}}{group['items']:>7,}{_percent(numbers['right']):>8}"
    return f"{head}{_interval(numbers['interval']):>15}{cells}"


def _shift_lines(numbers: Json) -> Iterator[str]:
    if not numbers["items"]:
        return
    yield ""
    yield (
        f"  ShiftCheck: {pluralize(numbers['items'], 'multiple-choice question')}, {_percent(numbers['right'])} right "
        f"under every rotation, {_percent(numbers['plain'])} in the given order; {numbers['unparsed']:,} of "
        f"{numbers['replies']:,} replies gave no letter"
    )
    if numbers["never_rotated"]:
        yield (
            f"  {numbers['never_rotated']:,} more were asked in one order: their options speak of each other by place"
        )
    for bias in numbers["bias"]:
        letters = ", ".join(f"{letter} {count:,}" for letter, count in zip("ABCDEFGH", bias["letters"], strict=False))
        yield (
            f"  BiasRate with {bias['options']} options: {_number(bias['of_all'])} of all replies (the paper's), "
            f"{_number(bias['of_parsed'])} of those with a letter (its code's); {bias['items']:,} questions not right, "
            f"{letters}, none {bias['unparsed']:,}"
        )


def _control_lines(controls: Json) -> Iterator[str]:
    names = {"blind": "without the image", "swapped": "with another image"}
    for variant, numbers in controls.items():
        yield (
            f"  {names[variant]}: {_percent(numbers['right'])} right; the own image adds {_points(numbers['gain'])} "
            f"{_points_interval(numbers['interval'])}"
        )


def _compared(summary: Json) -> Iterator[str]:
    names = [model["model"] for model in summary["models"]]
    yield ""
    yield f"{names[0]} against {names[1]}: difference of right answers in points, paired bootstrap over images"
    yield ""
    yield f"  {'':<{WIDTH}}{'items':>7}{'first':>8}{'second':>8}{'points':>9}{'95 %':>18}{'better in':>11}"
    for group in _shown(summary["groups"]):
        found, (one, other) = group["difference"], group["models"]
        name = _shortened(f"{group['by']} {group['name']}".strip())
        shares = f"{_percent(one['right']):>8}{_percent(other['right']):>8}"
        points = "-" if found["right"] is None else f"{100 * found['right']:+.1f}"
        line = f"  {name:<{WIDTH}}{found['items']:>7,}{shares}{points:>9}{_points_interval(found['interval']):>18}"
        yield f"{line}{_percent(found['better']):>11}"


# --- cells ------------------------------------------------------------------------------------------------------------


def _shortened(name: str) -> str:
    return name if len(name) < WIDTH else f"…{name[-WIDTH + 3 :]}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f} points"


def _points_interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"({100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
