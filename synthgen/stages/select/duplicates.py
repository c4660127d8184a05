"""The comparison of every pair with all others: near questions and answers, wordings and phrases that are too common.

Where pairs are alike, one survives: a pair of an earlier run (`select.against`) before all of this run; what an earlier
selection decided on before what is new, unless `select.earlier_first` is off; then the pair with the higher score
(`select.survivor`); last, the one with the lower id. So growth never drops a pair that was kept, and neither partitions
nor their order matter. Each comparison sees only what those before it left.

Texts wait on local disk. Memory holds some fifty bytes for each pair, and what the comparison at work needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.deduplication import NearAnswersConfig, NearQuestionsConfig
from synthgen.config.selection import SelectConfig
from synthgen.dedup.clusters import Clusters, places_in_groups
from synthgen.dedup.questions import QuestionsByImage
from synthgen.dedup.same_pairs import SamePairs
from synthgen.dedup.text_set import TextSet, text_hashes
from synthgen.stages.select.embedded import EmbeddedTexts
from synthgen.stages.select.meanings import Meanings
from synthgen.stages.select.phrases import PhraseCap
from synthgen.tables import IMAGES

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
Row = TypeVar("Row", bound=np.generic)

REPEATS = (
    "kept",
    "duplicate:question",
    "duplicate:same_answer",
    "duplicate:global_question",
    "duplicate:global_answer",
    "duplicate:semantic_question",
    "duplicate:semantic_answer",
    "duplicate:common",
    "duplicate:phrase",
    "duplicate:same_pair",
)
KEPT, QUESTION, SAME_ANSWER, GLOBAL_QUESTION, GLOBAL_ANSWER, *_SEMANTIC, COMMON, PHRASE, SAME_PAIR = range(len(REPEATS))
SEMANTIC_QUESTION, SEMANTIC_ANSWER = _SEMANTIC
EARLIER_RUN = "duplicate:run:"  # with its name
ID = np.dtype("S32")
THUMBNAIL_BYTES = IMAGES.field("thumbnail").type.byte_width


@dataclass(frozen=True)
class Verdicts:
    """What the comparison says of every pair, by its number.

    Attributes:
        codes: Indexes into REPEATS; what follows them are the earlier runs, (pairs,) uint16.
        clusters: Comparison → its clusters, without members of earlier runs, and which members it drops.
        earlier: The earlier run of each of the first pairs, (pairs of earlier runs,) int16.
        ids: The ids of the pairs, (pairs,) ID, on disk.
        notes: What the user should know of it.
    """

    codes: Codes
    clusters: Mapping[str, tuple[Clusters, Mask]]
    earlier: npt.NDArray[np.int16]
    ids: npt.NDArray[np.bytes_]
    notes: tuple[str, ...] = ()


@dataclass
class _Texts:
    """The texts of a comparison over the whole set, and the number of the pair that each is of."""

    column: str
    settings: NearQuestionsConfig | NearAnswersConfig
    texts: TextSet
    numbers: list[Numbers] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        """Add the texts that are there and long enough."""
        lengths = pc.fill_null(pc.utf8_length(rows.column(self.column)), -1).to_numpy()
        is_compared = lengths >= self.settings.characters
        self.texts.add(rows.column(self.column).filter(pa.array(is_compared)).combine_chunks())
        self.numbers.append(rows.column("number").to_numpy()[is_compared])

    def clusters(self, rank: Numbers, is_open: Mask, earlier: int) -> Clusters:
        """Return the clusters of the pairs that are open; pairs of earlier runs are not among their members."""
        numbers = _joined(self.numbers, np.int64)
        places = np.flatnonzero(is_open[numbers])
        places = places[np.argsort(rank[numbers[places]])]
        # Where several may stay, near pairs of earlier runs count as one cluster too.
        fixed = int((numbers[places] < earlier).sum()) if self.settings.most == 1 else 0
        centre = self.texts.representatives(places, fixed)
        members = np.flatnonzero(centre != np.arange(len(places)))
        left, right = places[members], places[centre[members]]
        similar = self.texts.similarities(left, right).astype(np.float32)
        return Clusters(numbers[left], numbers[right], similar)


class PairComparison:
    """All pairs of a set, compared with each other."""

    def __init__(self, folder: Path, settings: SelectConfig, pairs: int, embedded: EmbeddedTexts | None = None) -> None:
        """Prepare a comparison.

        Args:
            folder: A folder on local disk for the texts.
            settings: What is compared, and how.
            pairs: About how many there will be.
            embedded: The embeddings of texts, with `select.semantic`.
        """
        self._settings, self._ids = settings, folder / "ids"
        self._ids.touch()
        self._by_image = QuestionsByImage(folder / "by-image", pairs)
        bits = settings.same_pair
        self._same = SamePairs(folder / "same", bits, THUMBNAIL_BYTES) if bits is not None else None
        self._sets = [*_near_texts(folder, settings), *_near_meanings(folder, settings, embedded)]
        self._run = list[npt.NDArray[np.int16]]()  # the earlier run of each pair, -1 for this one
        self._keys, self._scores = list[npt.NDArray[np.uint64]](), list[npt.NDArray[np.float32]]()
        self._talks = list[npt.NDArray[np.uint64]]()  # the key of the pair that each goes on from, or its own
        self._since, self._has_text = list[npt.NDArray[np.int32]](), list[Mask]()
        self._wordings = list[npt.NDArray[np.uint64]]()  # hashes of the questions, where wordings are counted
        self._phrases = PhraseCap(folder / "phrases", settings.phrases) if settings.phrases else None

    def add(self, rows: pa.Table, run: int = -1) -> slice:
        """Add the next pairs and return their numbers.

        Args:
            rows: `pair_id`, `image_id`, `follows`, `since`, `score`, those of this run `type`, and the texts `plain`,
                `answer`, `asked`, `said` and `content`, which are null for a pair that is dropped already; with
                `select.same_pair` also what `SamePairs` takes.
            run: The number of the earlier run that they are of; these come before those of this run.
        """
        start, count = sum(map(len, self._run)), rows.num_rows
        rows = rows.append_column("number", pa.array(np.arange(start, start + count)))
        ids = rows.column("pair_id").to_pylist()
        with self._ids.open("ab") as file:
            file.write(np.array(ids, ID).tobytes())
        self._run.append(np.full(count, run, np.int16))
        keys, score = _keys(ids), rows.column("score").to_numpy().astype(np.float32)
        # What goes on from a pair falls with it, so of two talks that are alike all pairs of one survive.
        follows = rows.column("follows").to_pylist()
        first = pc.index_in(rows.column("follows"), rows.column("pair_id").combine_chunks())
        place = pc.fill_null(first, -1).to_numpy()
        self._keys.append(keys)
        self._talks.append(_keys([other or own for other, own in zip(follows, ids, strict=True)]))
        self._scores.append(np.where(place >= 0, score[place], score).astype(np.float32))
        since = rows.column("since").to_numpy() if self._settings.earlier_first else np.zeros(count)
        self._since.append(np.full(count, -1, np.int32) if run >= 0 else since.astype(np.int32))
        self._has_text.append(rows.column("plain").is_valid().to_numpy())
        if self._settings.same_question:
            self._wordings.append(text_hashes(pc.fill_null(rows.column("plain"), "").to_pylist()))
        if self._phrases and run < 0:
            self._phrases.add(rows)
        for _, texts in self._sets:
            texts.add(rows)
        self._by_image.add(rows.filter(rows.column("plain").is_valid()))
        if self._same:
            self._same.add(rows)
        return slice(start, start + count)

    def verdicts(self, is_dropped: Mask) -> Verdicts:
        """Return what is to become of every pair; those that are dropped already, (pairs,) bool, are not compared."""
        run, is_open = _joined(self._run, np.int16), _joined(self._has_text, np.bool_) & ~is_dropped
        earlier = run[run >= 0]
        rank, codes = self._rank(), np.zeros(len(run), np.uint16)
        clusters = dict[str, tuple[Clusters, Mask]]()

        def drop(code: int, found: Clusters, most: int) -> None:
            is_dropped = found.are_beyond(rank, most)
            is_own = found.members >= len(earlier)
            clusters[REPEATS[code].removeprefix("duplicate:")] = found.where(is_own), is_dropped[is_own]
            dropped = found.where(is_dropped & is_own)
            of_run = run[dropped.centres]
            codes[dropped.members] = np.where(of_run >= 0, len(REPEATS) + of_run, code)

        if self._same:
            drop(SAME_PAIR, self._same.clusters(rank, len(earlier), is_open), 1)
        if (near := self._settings.near_questions) is not None:
            left = is_open & (codes == KEPT)
            drop(QUESTION, self._by_image.clusters(rank, near, len(earlier), left), 1)
        if share := self._settings.same_answer:
            left = is_open & (codes == KEPT)
            drop(SAME_ANSWER, self._by_image.same_answers(rank, share, len(earlier), left), 1)
        for code, texts in self._sets:
            drop(code, texts.clusters(rank, is_open & (codes == KEPT), len(earlier)), texts.settings.most)
        notes = self._limit(codes, rank, is_open & (run < 0))
        ids = np.memmap(self._ids, ID, "r") if len(run) else np.empty(0, ID)
        return Verdicts(codes, clusters, earlier, ids, notes)

    def _rank(self) -> Numbers:
        """Return the place of each pair among all: of two alike, the one with the lower place survives."""
        keys, scores = _joined(self._keys, np.uint64), _joined(self._scores, np.float32)
        talks = _joined(self._talks, np.uint64)
        order = np.lexsort((keys, talks, -scores, _joined(self._since, np.int32)))  # a score that is NaN comes last
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank

    def _limit(self, codes: Codes, rank: Numbers, is_open: Mask) -> tuple[str, ...]:
        """Drop the pairs whose wording or phrase enough others have that come before them, and return notes."""
        if most := self._settings.same_question:
            left = np.flatnonzero(is_open & (codes == KEPT))
            places = places_in_groups(_joined(self._wordings, np.uint64)[left], rank[left])
            codes[left[places >= most]] = COMMON
        if self._phrases is None:
            return ()
        beyond = self._phrases.beyond(is_open & (codes == KEPT), rank, _joined(self._keys, np.uint64))
        codes[beyond] = PHRASE
        return tuple(self._phrases.notes)


def _near_texts(folder: Path, settings: SelectConfig) -> Iterator[tuple[int, _Texts | Meanings]]:
    """Yield the comparisons of texts by their words, each with its code."""
    questions, answers = settings.global_questions, settings.global_answers
    for code, column, near in ((GLOBAL_QUESTION, "plain", questions), (GLOBAL_ANSWER, "answer", answers)):
        if near:
            yield code, _Texts(column, near, TextSet(folder / column, near.similarity))


def _near_meanings(
    folder: Path, settings: SelectConfig, embedded: EmbeddedTexts | None
) -> Iterator[tuple[int, _Texts | Meanings]]:
    """Yield the comparisons of texts by their embeddings, each with its code."""
    if (semantic := settings.semantic) is None:
        return
    assert embedded, "there is a model if there are settings for it"
    questions, answers = semantic.questions, semantic.answers
    for code, column, near in ((SEMANTIC_QUESTION, "plain", questions), (SEMANTIC_ANSWER, "answer", answers)):
        if near:
            yield code, Meanings(folder / f"semantic-{column}", column, near, embedded)


def _keys(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of ids."""
    return np.array([int(key[:16], 16) for key in ids], np.uint64)


def _joined(parts: list[npt.NDArray[Row]], dtype: type[Row]) -> npt.NDArray[Row]:
    return np.concatenate([np.empty(0, dtype), *parts])
