"""Embeddings of texts, made once: they stay in `embeddings/` of the output folder, by the model that made them.

Those that the earlier runs of `select.against` keep are used as they are. A part is written each time that so many
texts are embedded, so a run that is killed goes on from there.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.console import note
from synthgen.dedup.greedy import Mask, Words
from synthgen.dedup.semantic import unit
from synthgen.engines.text_model import Embed, TextModel
from synthgen.store import Folder
from synthgen.tables import IMAGES, make_id

FOLDER = "embeddings"  # of the output folder
VERSION = "1"  # of how texts are embedded; raise it when that changes
TEXTS_AT_ONCE = 1 << 13  # embedded and written together
EMBEDDED = pa.schema([("text", pa.uint64()), IMAGES.field("embedding")])  # text: the hash of its plain form

Halves = npt.NDArray[np.float16]
Read = Callable[[Mask], Iterator[tuple[Words, list[str]]]]  # which texts -> hashes and texts, some at a time


class EmbeddedTexts:
    """The embeddings that one model makes of texts."""

    def __init__(self, model: TextModel, out: Folder, others: Sequence[Folder] = ()) -> None:
        """Prepare to read and to make embeddings.

        Args:
            model: It is loaded when there is a text that is not embedded yet.
            out: The output folder.
            others: The output folders of earlier runs.
        """
        self._model, self._name = model, make_id("texts", VERSION, *model.named)[:16]
        self._own, *self._others = (folder.child(FOLDER) for folder in (out, *others))

    def of(self, hashes: Words, read: Read, file: Path) -> Halves:
        """Return the embeddings of texts, (texts, width), in a file on local disk; those that are missing are made.

        Args:
            hashes: Of the texts, sorted and distinct.
            read: Of which of them, (texts,) bool, the texts are wanted; it may yield some more than once.
            file: Where the embeddings go; what is there is replaced.
        """
        is_known, values = np.zeros(len(hashes), bool), np.empty((0, 0), np.float16)
        for texts, vectors in self._all(hashes, read, is_known):
            if not len(values):
                values = np.memmap(file, np.float16, "w+", shape=(len(hashes), vectors.shape[1]))
            place = np.minimum(np.searchsorted(hashes, texts), len(hashes) - 1)
            is_wanted = hashes[place] == texts
            values[place[is_wanted]] = vectors[is_wanted]
            is_known[place[is_wanted]] = True
        assert is_known.all(), "every text can be read again"
        return values

    def _all(self, hashes: Words, read: Read, is_known: Mask) -> Iterator[tuple[Words, Halves]]:
        """Yield hashes of texts and their embeddings: first those that are kept, then new ones, which are kept then."""
        for folder in (self._own, *self._others):
            for name in folder.names(".parquet"):
                is_wanted = name.startswith(f"{self._name}-") and not is_known.all()
                if not is_wanted:
                    continue
                if (part := _stored(folder.read(name))) is not None:
                    yield part
                else:
                    note(f"{folder.full(name)}: is damaged, so its texts are embedded again")
        if is_known.all():
            return
        note(f"select.semantic: embedding {int((~is_known).sum()):,} texts with {self._model.model}, each once")
        for texts in _batches(hashes, read(~is_known), is_known):
            made = np.array(sorted(texts), np.uint64)
            vectors = unit(self._embed([texts[key] for key in made.tolist()])).astype(np.float16)
            self._keep(made, vectors)
            yield made, vectors

    @cached_property
    def _embed(self) -> Embed:
        return self._model.open()

    def _keep(self, texts: Words, vectors: Halves) -> None:
        ends = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        embeddings = pa.ListArray.from_arrays(ends, pa.array(vectors.ravel()))
        part = make_id("part", texts.tobytes().hex())[:16]
        _write(self._own, f"{self._name}-{part}.parquet", pa.table([pa.array(texts), embeddings], schema=EMBEDDED))


def forget_others(out: Folder, known: Words) -> None:
    """Delete the embeddings of all texts but some, given the sorted hashes of these, by whatever model."""
    folder = out.child(FOLDER)
    for name in folder.names(".parquet"):
        rows = _rows(folder.read(name))
        if rows is None:
            folder.remove([name])
            continue
        is_known = np.isin(rows.column("text").to_numpy(), known)
        if not is_known.any():
            folder.remove([name])
        elif not is_known.all():
            _write(folder, name, rows.filter(pa.array(is_known)))


def _write(folder: Folder, name: str, rows: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    folder.write(name, sink.getvalue())


def _batches(hashes: Words, parts: Iterator[tuple[Words, list[str]]], is_known: Mask) -> Iterator[dict[int, str]]:
    """Yield the texts that are not known yet by their hashes, so many at a time."""
    waiting: dict[int, str] = {}
    for found, texts in parts:
        places = np.searchsorted(hashes, found).tolist()
        for key, text, place in zip(found.tolist(), texts, places, strict=True):
            if not is_known[place]:  # asked each time: what was yielded is known now
                waiting[key] = text
            if len(waiting) >= TEXTS_AT_ONCE:
                yield waiting
                waiting = {}
    if waiting:
        yield waiting


def _stored(data: bytes) -> tuple[Words, Halves] | None:
    """Return the hashes and embeddings of a part; None if it is damaged, so that they are made again."""
    if (rows := _rows(data)) is None:
        return None
    vectors = rows.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return rows.column("text").to_numpy(), vectors.reshape(rows.num_rows, -1)


def _rows(data: bytes) -> pa.Table | None:
    try:
        return pq.read_table(pa.BufferReader(data), schema=EMBEDDED)
    except (pa.ArrowException, OSError):
        return None
