"""What the rules over the whole set read of each pair: its kind, its id, its scores, what it answers, its tags.

A partition yields a column for each, and they are gathered in memory: some fifteen bytes for each pair, and four for
each score that a rule reads. Nothing is gathered where no rule looks at the whole set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.replies import LETTERS, letter_of
from synthgen.config.selection import SelectConfig, fits
from synthgen.config.taxonomy import matches, with_ancestors
from synthgen.stages.rules import yes_or_no
from synthgen.stages.select.selection import Selection
from synthgen.stages.select.thinning import Mask, Numbers, Pairs
from synthgen.tables import PLAN

KEPT = "kept"
SIDES = ("yes", "no")
NEITHER = 255  # of an answer that begins with neither of SIDES, or with no letter
PARTED = "\x1f"  # between the parts of a kind
SCORE = "score "  # begins the column of a score

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """The kind of a pair; a set has few, however large it is."""

    type: str
    form: str
    language: str


def needed(settings: SelectConfig) -> list[str]:
    """Return the columns that the rules of a selection read; none if no rule looks at the whole set."""
    quotas = settings.quotas.all()
    ranked = {name for name, rule in settings.keep.items() if rule.drop is not None}
    by = {rule.by for rule in settings.balance.values()} | {quota.by for *_, quota in quotas}
    columns = [f"{SCORE}{name}" for name in sorted(ranked | {name for name in by if name})]
    columns += [
        *(["side"] if settings.balance else []),
        *(["letter"] if settings.letters else []),
        *(["tags"] if settings.quotas.tags else []),
    ]
    return ["key", "kind", *columns] if columns or quotas else []


def standing(selection: Selection, partition: str, rows: pa.Table, columns: Sequence[str]) -> dict[str, Any]:
    """Return columns of the pairs of a partition, but for those of scores.

    Args:
        selection: The settings, and the plan that has the tags.
        partition: Its name.
        rows: Pairs with their ids, type and the columns that rules read.
        columns: As of `needed`.
    """
    makers: dict[str, Callable[[pa.Table], Any]] = {
        "key": _keys,
        "kind": _kinds,
        "side": partial(_sides, selection.settings),
        "letter": _letters,
        "tags": partial(_tags, selection, partition),
    }
    return {name: makers[name](rows) for name in columns if name in makers}


class Standings:
    """The columns of all pairs, by their numbers: partition by partition in the order of their rows."""

    def __init__(self, columns: Sequence[str]) -> None:
        """Prepare to gather columns, those that are `needed`."""
        self._parts: dict[str, list[Column]] = {"open": [], **{name: [] for name in columns}}
        self._whole: dict[str, Column] = {}
        self._kinds: dict[str, int] = {}
        self.pairs = 0

    def add(self, rows: pa.Table) -> None:
        """Add the pairs of the next partition: `reason`, and the columns to gather."""
        self.pairs += rows.num_rows
        self._parts["open"].append(np.asarray(pc.equal(rows.column("reason"), KEPT), bool))
        for name in self._parts.keys() - {"open"}:
            self._parts[name].append(self._coded(rows) if name == "kind" else rows.column(name).to_numpy())

    def column(self, name: str) -> Column:
        """Return a column of all pairs: `open`, whether nothing is against each by itself, or one that was gathered."""
        if name in self._parts:
            parts = self._parts.pop(name)
            self._whole[name] = np.concatenate(parts) if parts else np.zeros(0, bool)
        return self._whole[name]

    def values(self, score: str | None) -> npt.NDArray[np.float32]:
        """Return the values of a score, NaN where there is none; zeros for no score."""
        return np.zeros(self.pairs, np.float32) if score is None else self.column(f"{SCORE}{score}")

    def chosen(self, mask: Mask, is_of: Callable[[Kind], bool]) -> Numbers:
        """Return the numbers of the pairs in a mask that are of some kinds."""
        of_kind = np.array([is_of(kind) for kind in self._all_kinds()], bool)
        return np.flatnonzero(mask & of_kind[self.column("kind")]) if len(of_kind) else np.zeros(0, np.int64)

    def group(self, numbers: Numbers, within: Sequence[str], score: str | None) -> Pairs:
        """Return pairs in groups of those that share some of type, form and language, with the values of a score."""
        shared = [tuple(getattr(kind, part) for part in within) for kind in self._all_kinds()]
        known = {group: number for number, group in enumerate(sorted(set(shared)))}
        codes = np.array([known[group] for group in shared], np.int64)[self.column("kind")[numbers]]
        _, groups = np.unique(codes, return_inverse=True)
        return Pairs(numbers, groups, self.values(score)[numbers], self.column("key")[numbers])

    def types(self, mask: Mask) -> dict[str, int]:
        """Return how many pairs of a mask there are of each type."""
        counts = np.bincount(self.column("kind")[mask], minlength=len(self._kinds)).tolist()
        found: dict[str, int] = {}
        for kind, count in zip(self._all_kinds(), counts, strict=True):
            found[kind.type] = found.get(kind.type, 0) + count
        return found

    def _all_kinds(self) -> list[Kind]:
        return [Kind(*kind.split(PARTED)) for kind in self._kinds]

    def _coded(self, rows: pa.Table) -> Column:
        coded = pc.dictionary_encode(rows.column("kind").combine_chunks())
        numbers = [self._kinds.setdefault(kind, len(self._kinds)) for kind in coded.dictionary.to_pylist()]
        return np.asarray(np.array(numbers, np.int32)[coded.indices.to_numpy(zero_copy_only=False)])


def _keys(rows: pa.Table) -> Column:
    """Return the first 64 bits of each id: that two of ten million share them has a chance of 1 to 400,000."""
    ids = "".join(key[:16] for key in rows.column("pair_id").to_pylist())
    return np.frombuffer(bytes.fromhex(ids), ">u8").astype(np.uint64)


def _kinds(rows: pa.Table) -> Any:
    parts = (pc.fill_null(rows.column(part), "") for part in ("type", "form", "language"))
    return pc.binary_join_element_wise(*parts, PARTED)


def _sides(settings: SelectConfig, rows: pa.Table) -> Column:
    """Return the place in SIDES of each answer, or NEITHER, of the types that are balanced."""
    types = pc.fill_null(rows.column("type"), "")
    balanced = [
        path for path in pc.unique(types).to_pylist() if any(fits(pattern, path) for pattern in settings.balance)
    ]
    places = np.flatnonzero(np.asarray(pc.is_in(types, pa.array(balanced, pa.string()))))
    sides = np.full(rows.num_rows, NEITHER, np.uint8)
    sides[places] = [SIDES.index(side) if side else NEITHER for side in yes_or_no(rows.take(places))]
    return sides


def _letters(rows: pa.Table) -> Column:
    """Return the place in LETTERS of each answer to multiple choice, or NEITHER."""
    letters = np.full(rows.num_rows, NEITHER, np.uint8)
    places = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(rows.column("form"), "choice"), False)))
    given = (letter_of(answer or "") for answer in rows.column("answer").take(places).to_pylist())
    letters[places] = [LETTERS.find(letter) if letter and letter in LETTERS else NEITHER for letter in given]
    return letters


def _tags(selection: Selection, partition: str, rows: pa.Table) -> Column:
    """Return a bit for each quota of tags, the lowest for the first: whether a tag of the image fits its pattern."""
    patterns = sorted(selection.settings.quotas.tags)
    images = selection.folder.table(PLAN, partition, "images", ["image_id", "tags"])
    found: dict[str, int] = {}
    known: dict[str, int] = {}
    for image, tags in zip(images.column("image_id").to_pylist(), images.column("tags").to_pylist(), strict=True):
        for tag in tags or ():
            if (path := tag["path"]) not in known:
                known[path] = _bits(patterns, path)
            found[image] = found.get(image, 0) | known[path]
    return np.array([found.get(image, 0) for image in rows.column("image_id").to_pylist()], np.uint64)


def _bits(patterns: Sequence[str], path: str) -> int:
    """Return the bits of the patterns that a tag fits, itself or one that it implies."""
    implied = with_ancestors([path])
    return sum(1 << place for place, pattern in enumerate(patterns) if any(matches(pattern, each) for each in implied))
