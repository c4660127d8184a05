"""The page of a difference: one HTML file without any request, with the style of the report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from synthgen.commands.diff.columns import Columns
from synthgen.commands.diff.compare import STATES, Change, Compared
from synthgen.commands.diff.examples import KINDS, SideBySide
from synthgen.commands.report.page import html_of
from synthgen.commands.report.pictures import Picture

MOST_ROWS = 300  # of a table

Shown = tuple[Sequence[SideBySide], Mapping[str, Picture | str]]


def page_of(
    found: Compared,
    names: tuple[str, str],
    settings: Sequence[str],
    columns: tuple[Columns, Columns],
    shown: Shown,
) -> bytes:
    """Return the page.

    Args:
        found: What changed.
        names: Of the sides.
        settings: How they differ, in words.
        columns: Of the sides.
        shown: Questions side by side, and pictures of their images by id.
    """
    states = [state for state in STATES if any(state in pair for pair, count in found.flow.items() if count)]
    kinds = [(kind, title, about, [each for each in shown[0] if each.kind == kind]) for kind, title, about in KINDS]
    moved = [each for each in shown[0] if each.kind == "moved"]
    values: dict[str, Any] = {
        "found": found,
        "names": names,
        "settings": settings,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "states": states,
        "flow": [(state, [found.flow[state, other] for other in states]) for state in states],
        "kept": [int(side.is_kept.sum()) for side in columns],
        "pairs": [int(side.is_pair.sum()) for side in columns],
        "images": [side.branches.total.images for side in columns],
        "reasons": [("Not kept any more", _ordered(found.lost)), ("Kept now", _ordered(found.won))],
        "types": _changed(found.types),
        "tags": _changed(found.tags),
        "most": MOST_ROWS,
        "kinds": [*kinds, ("moved", "Scores that moved most", "of pairs that have the same words in both", moved)],
        "pictures": shown[1],
    }
    return html_of(__package__, "diff.html", values).encode(errors="replace")


def _ordered(counts: Counter[tuple[str, str]]) -> list[tuple[str, str, int]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(before, after, count) for (before, after), count in ordered]


def _changed(changes: Sequence[Change]) -> list[Change]:
    return [each for each in changes if each.change or each.asked[0] != each.asked[1]]
