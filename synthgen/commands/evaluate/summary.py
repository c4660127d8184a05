"""The numbers of an evaluation by kind, type, form, language and tag, with intervals; and two models compared."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.commands.evaluate.bootstrap import Resampled, resample
from synthgen.commands.evaluate.items import Item
from synthgen.commands.evaluate.question import CHOICE
from synthgen.commands.evaluate.replies import BLIND, SWAPPED, Evaluation
from synthgen.commands.evaluate.shift_check import position_biases
from synthgen.commands.evaluate.wording import is_rotated

ALL = "all"
Floats = npt.NDArray[np.float64]
Json = dict[str, Any]
Group = tuple[str, str]  # what it is by, and its name there
MEASURES: Mapping[str, Callable[[Item], float | None]] = {
    "right": lambda item: item.right,
    "plain": lambda item: item.plain,
    "relaxed": lambda item: item.relaxed,
    "overlap": lambda item: item.overlap,
    BLIND: lambda item: item.controls.get(BLIND),
    SWAPPED: lambda item: item.controls.get(SWAPPED),
}


def summarize(evaluations: Sequence[Evaluation], items: Sequence[Sequence[Item]]) -> Json:
    """Return the numbers of one model, or of two side by side, as JSON values.

    Args:
        evaluations: One for each model, with the same questions.
        items: Of each model, in the same order.
    """
    first = evaluations[0]
    known = [group for group in _groups(items[0])] if items[0] else []
    members = {group: [place for place, item in enumerate(items[0]) if group in set(_of(item))] for group in known}
    tables = [_values(of_model, list(members.values())) for of_model in items]
    numbers = _image_numbers(items[0])
    settings = first.settings.resamples, first.settings.seed
    intervals = [resample(numbers, values, *settings) for values in tables] if known else []
    difference = resample(numbers, tables[0] - tables[1], *settings) if len(tables) > 1 and known else None
    rows = []
    for place, group in enumerate(known):
        chosen = [[of_model[number] for number in members[group]] for of_model in items]
        row = _group_row(group, chosen, [(each, place) for each in intervals])
        rows.append({**row, **({"difference": _difference(chosen, difference, place)} if difference else {})})
    return {
        "questions": dict(first.questions.record),
        "settings": first.settings.model_dump(mode="json", exclude={"engine"}),
        "models": [_model(each, of_model) for each, of_model in zip(evaluations, items, strict=True)],
        "groups": rows,
        "shift_check": [_shift_check(of_model) for of_model in items],
        "controls": [_controls(of_model, numbers, settings) for of_model in items],
    }


# --- the groups -------------------------------------------------------------------------------------------------------


def _of(item: Item) -> Iterator[Group]:
    """Yield the groups that an item is in."""
    question = item.question
    yield ALL, ""
    for by in ("kind", "type", "form", "language"):
        if name := getattr(question, by):
            yield by, name
    yield from (("tag", tag) for tag in question.tags)


def _groups(items: Sequence[Item]) -> list[Group]:
    """Return all groups of items, those of one kind after each other and by name."""
    order = {by: place for place, by in enumerate((ALL, "kind", "type", "form", "language", "tag"))}
    return sorted({group for item in items for group in _of(item)}, key=lambda group: (order[group[0]], group[1]))


def _image_numbers(items: Sequence[Item]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(item.question.image_id, len(numbers)) for item in items]


def _values(items: Sequence[Item], members: Sequence[Sequence[int]]) -> Floats:
    """Return whether each item is right in each group, (items, groups); not a number where it is not in it."""
    right = np.array([np.nan if item.right is None else float(item.right) for item in items])
    values = np.full((len(items), len(members)), np.nan)
    for place, of_group in enumerate(members):
        values[of_group, place] = right[of_group]
    return values


def _group_row(group: Group, items: Sequence[Sequence[Item]], intervals: Sequence[tuple[Resampled, int]]) -> Json:
    by, name = group
    return {
        "by": by,
        "name": name,
        "items": len(items[0]),
        "images": len({item.question.image_id for item in items[0]}),
        "models": [
            {
                **{measure: _mean(map(value, of_model)) for measure, value in MEASURES.items()},
                "interval": resampled.interval(place),
                "pending": sum(item.right is None for item in of_model),
                "unparsed": sum(item.unparsed for item in of_model),
                "replies": sum(item.replies for item in of_model),
            }
            for of_model, (resampled, place) in zip(items, intervals, strict=True)
        ],
    }


def _difference(items: Sequence[Sequence[Item]], resampled: Resampled, place: int) -> Json:
    """Return by how much the first model is better on the items that both answered."""
    both = [(one.right, other.right) for one, other in zip(*items, strict=True) if None not in (one.right, other.right)]
    interval = resampled.interval(place)
    return {
        "items": len(both),
        "right": _mean(float(one or 0) - float(other or 0) for one, other in both),
        "interval": interval,
        "better": resampled.above_zero(place) if interval else None,  # too few images say nothing
    }


# --- a model ----------------------------------------------------------------------------------------------------------


def _model(evaluation: Evaluation, items: Sequence[Item]) -> Json:
    counts = evaluation.replies.log().counts()
    return {
        "model": evaluation.name,
        "revision": evaluation.model.revision,
        "replies_folder": evaluation.replies.spec.folder,
        "items": len(items),
        "pending": sum(item.right is None for item in items),
        "replies": sum(item.replies for item in items),
        "unparsed": sum(item.unparsed for item in items),
        "calls_made": counts.get("replies", 0),
        "calls_failed": counts.get("failed", 0),
    }


def _shift_check(items: Sequence[Item]) -> Json:
    """Return how a model does in multiple choice: under every rotation and in one order, and its bias to places."""
    choices = [item for item in items if item.question.kind == CHOICE]
    whole = [item for item in choices if item.said]
    biases = position_biases((len(item.question.options), bool(item.right), item.said) for item in whole)
    return {
        "items": len(whole),
        "right": _mean(item.right for item in whole),
        "plain": _mean(item.plain for item in whole),
        "replies": sum(item.replies for item in whole),
        "unparsed": sum(item.unparsed for item in whole),
        "items_with_unparsed": sum(item.unparsed > 0 for item in whole),
        "one_order": sum(not item.said and item.right is not None for item in choices),
        "never_rotated": sum(not is_rotated(item.question) for item in choices),
        "pending": sum(item.right is None for item in choices),
        "bias": [bias.as_json for bias in biases],
    }


def _controls(items: Sequence[Item], images: Sequence[int], settings: tuple[int, int]) -> Json:
    """Return how right a model is without the image and with another one, and what its own image adds to that."""
    found: Json = {}
    for variant in (BLIND, SWAPPED):
        gains = [
            np.nan if item.plain is None or variant not in item.controls else float(item.plain) - item.controls[variant]
            for item in items
        ]
        known = [gain for gain in gains if not np.isnan(gain)]
        if not known:
            continue
        resampled = resample(images, np.array(gains, float)[:, None], *settings)
        share = _mean(item.controls.get(variant) for item in items)
        found[variant] = {"items": len(known), "right": share, "gain": _mean(known), "interval": resampled.interval(0)}
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that there are; None if there are none."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
