"""Whether a question fits a scene: each kind of question has a check, which returns why it does not fit, or None."""

from __future__ import annotations

from collections.abc import Callable

from demo.question_parser import TYPE_OF_KIND, Query
from demo.world import POSITIONS, USES, WORDS, Scene, Thing, matches

Slots = tuple[str, ...]
CHART_KINDS = ("value", "tallest", "shortest", "taller", "sum", "difference")
ANY_PICTURE_KINDS = ("picture_kind", "caption", "count")


def mismatch(scene: Scene, query: Query) -> str | None:
    """Return why a question cannot be asked of a scene, or None if it can."""
    if query.kind in CHART_KINDS and not scene.bars:
        return "there is no chart"
    if query.kind not in (*CHART_KINDS, *ANY_PICTURE_KINDS) and scene.bars:
        return "this is a chart"
    check = CHECKS.get(query.kind)
    return check(scene, query.slots) if check else None


def things_named(scene: Scene, noun: str) -> list[Thing]:
    """Return the things that a noun phrase names."""
    return list(filter(matches(noun), scene.things))


def thing_at(scene: Scene, position: str) -> Thing | None:
    """Return the thing at a position, if there is one."""
    return next((thing for thing in scene.things if thing.cell == POSITIONS.index(position)), None)


def group_at(scene: Scene, position: str) -> str:
    """Return the group of the thing at a position; "" where there is none."""
    thing = thing_at(scene, position)
    return thing.group if thing else ""


def bar_value(scene: Scene, colour: str) -> int:
    """Return the value of the bar of a colour, which the chart must have."""
    return next(bar.value for bar in scene.bars if bar.colour == colour)


def _check_unique(scene: Scene, slots: Slots) -> str | None:
    for noun in slots:
        if (number := len(things_named(scene, noun))) != 1:
            return f"{number} things are a {noun}"
    if len(slots) == 2 and things_named(scene, slots[0]) == things_named(scene, slots[1]):
        return "both are the same thing"
    return None


def _check_related(scene: Scene, slots: Slots) -> str | None:
    first, _relation, second = slots
    return _check_unique(scene, (first, second))


def _check_coloured(scene: Scene, slots: Slots) -> str | None:
    if reason := _check_unique(scene, slots):
        return reason
    return next((f"a {noun} has no one colour" for noun in slots if not things_named(scene, noun)[0].colour), None)


def _check_bars(scene: Scene, slots: Slots) -> str | None:
    colours = [bar.colour for bar in scene.bars]
    for colour in slots:
        if colour not in colours:
            return f"there is no {colour} bar"
    return "it is one bar twice" if len(set(slots)) < len(slots) else None


def _check_difference(scene: Scene, slots: Slots) -> str | None:
    if reason := _check_bars(scene, slots):
        return reason
    is_taller = bar_value(scene, slots[0]) > bar_value(scene, slots[1])
    return None if is_taller else "the first bar is not the taller one"


def _check_cell(scene: Scene, slots: Slots) -> str | None:
    return "the sign is there" if scene.sign and POSITIONS.index(slots[0]) // 3 == scene.sign.row else None


def _check_occupied(scene: Scene, slots: Slots) -> str | None:
    if reason := _check_cell(scene, slots):
        return reason
    return None if thing_at(scene, slots[0]) else "nothing is there"


def _check_useful(scene: Scene, slots: Slots) -> str | None:
    if reason := _check_occupied(scene, slots):
        return reason
    return None if group_at(scene, slots[0]) in USES else "it has no one use"


def _check_extreme(pick: Callable[[list[int]], int]) -> Callable[[Scene, Slots], str | None]:
    def check(scene: Scene, _: Slots) -> str | None:
        values = [bar.value for bar in scene.bars]
        return None if values.count(pick(values)) == 1 else "several bars share it"

    return check


def _check_sign(is_word: bool) -> Callable[[Scene, Slots], str | None]:
    def check(scene: Scene, _: Slots) -> str | None:
        fits = scene.sign is not None and (scene.sign.text in WORDS) == is_word
        return None if fits else f"no {'word' if is_word else 'number'} is written"

    return check


def _check_one_shape(scene: Scene, slots: Slots) -> str | None:
    number = len(things_named(scene, f"{slots[0]} shape"))
    return None if number == 1 else f"{number} shapes are {slots[0]}"


def _check_countable(scene: Scene, slots: Slots) -> str | None:
    fits = (slots[0] == "bar") == bool(scene.bars)
    return None if fits else "there is nothing of that kind to count"


def _check_two_kinds(scene: Scene, slots: Slots) -> str | None:
    for noun in slots:
        if not things_named(scene, noun):
            return f"there is no {noun}"
    return "both are the same" if slots[0] == slots[1] else None


CHECKS: dict[str, Callable[[Scene, Slots], str | None]] = {
    "value": _check_bars,
    "taller": _check_bars,
    "sum": _check_bars,
    "difference": _check_difference,
    "tallest": _check_extreme(max),
    "shortest": _check_extreme(min),
    "at": _check_cell,
    "kind": _check_occupied,
    "use": _check_useful,
    "where": _check_unique,
    "colour": _check_coloured,
    "same": _check_coloured,
    "relative": _check_related,
    "word": _check_sign(is_word=True),
    "number": _check_sign(is_word=False),
    "shape": _check_one_shape,
    "count": _check_countable,
    "more": _check_two_kinds,
}
assert set(TYPE_OF_KIND) >= set(CHECKS)
