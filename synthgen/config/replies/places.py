"""Points and boxes in an answer: a JSON list of places in the image, each with a label."""

from dataclasses import dataclass
from typing import Any, Literal

from synthgen.config.replies.grammar import MOST, NUMBERS
from synthgen.config.replies.written import Unreadable, load_json
from synthgen.errors import Failure, is_whole_text


@dataclass(frozen=True)
class Place:
    """A point (x, y) or a box (left, top, right, bottom), in thousandths of the image's width and height."""

    at: tuple[float, ...]
    label: str


def parse_places(answer: str, kind: Literal["points", "boxes"]) -> list[Place] | Failure:
    """Read `[{"point": [x, y], "label": "…"}]` or `[{"box": [left, top, right, bottom], "label": "…"}]`.

    Returns:
        The places in the order of the answer, none for an empty list; or a failure with the reason `unparsable`: other
        keys, numbers outside 0 to 1000 or all of them fractions, a box without area, or one place with one label twice,
        as loops write it.
    """
    try:
        items = load_json(answer)
    except Unreadable as error:
        return Failure("unparsable", str(error))
    if not isinstance(items, list):
        return Failure("unparsable", f"JSON without a list of {kind}")
    places = [place for item in items if (place := _place(item, kind))]
    if len(places) < len(items):
        return Failure("unparsable", f"one of the {kind} is not in the requested format")
    if _are_fractions([number for place in places for number in place.at]):
        return Failure("unparsable", f"the {kind} are fractions of the image, not thousandths")
    if len(set(places)) < len(places):
        return Failure("unparsable", f"one of the {kind} comes twice")
    return places


def _place(item: Any, kind: str) -> Place | None:
    key, count = NUMBERS[kind]
    numbers, label = (item.get(key), item.get("label")) if isinstance(item, dict) else (None, None)
    if not isinstance(numbers, list) or len(numbers) != count or not all(map(_is_coordinate, numbers)):
        return None
    if not isinstance(label, str) or not label.strip() or not is_whole_text(label):
        return None
    if kind == "boxes" and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        return None
    return Place(tuple(numbers), label.strip())


def _are_fractions(numbers: list[float]) -> bool:
    """Return whether numbers are shares of the image; of whole numbers up to 1 nobody can tell."""
    return bool(numbers) and max(numbers) <= 1 and any(number != int(number) for number in numbers)


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST
