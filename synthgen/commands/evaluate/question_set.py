"""The questions of an evaluation, written once into its folder with their images, so that they cannot change under it.

A partition holds some images with their questions. A control shows another image of the partition, so none holds a
single one, unless the whole set does. Images are decoded once here: what no model could be shown is left out, with its
reason, before anything is asked.
"""

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from synthgen.commands.evaluate.from_files import SUFFIXES, read_question_file
from synthgen.commands.evaluate.from_shards import read_shards
from synthgen.commands.evaluate.question import IMAGES, QUESTIONS, ImageQuestions, Question, questions_in
from synthgen.commands.usable import UseCounts
from synthgen.config.source import ImagesConfig
from synthgen.console import note
from synthgen.errors import Damaged, Failure, SettingsChanged, UserMistake
from synthgen.ingest.images import DECODING, DecoderPool
from synthgen.store import CommitLog, Folder, Lease, Receipt, RunFolder, TablePart
from synthgen.store.folder import open_path
from synthgen.store.opening import reach
from synthgen.store.remote import path_errors
from synthgen.tables import table
from synthgen.train import dataset

RECORD, FORMAT = "evaluation.json", 1
PARTITION_IMAGES = 16  # a killed evaluation asks these again; the last partition has up to twice as many
DECODED_AT_ONCE = 64  # files in memory while they are decoded


@dataclass(frozen=True)
class Source:
    """Where questions come from, as it is now.

    Attributes:
        url: Spelled from the root.
        digest: Of the files.
        files: Of shards; none for a question file.
        run: Whose shards they are, if there is one.
        images: The folder that paths in a question file start from.
    """

    url: str
    digest: str
    files: tuple[dataset.ShardFile, ...] = ()
    run: RunFolder | None = None
    images: str = ""


@dataclass(frozen=True)
class QuestionSet:
    """The questions in the folder of an evaluation.

    Attributes:
        log: The commits of their partitions.
        record: What is known of them as a whole: `source`, `questions`, `images`, `left_out`.
    """

    out: Folder
    log: CommitLog
    record: Mapping[str, Any]

    def questions(self, partition: str) -> list[Question]:
        """Return the questions of a partition."""
        rows = questions_in(self.out).current(self.log, partition, "questions").to_pylist()
        return [Question.of(row) for row in rows]

    def files(self, partition: str) -> dict[str, bytes]:
        """Return the images of a partition as their files, by id."""
        rows = questions_in(self.out).current(self.log, partition, "images").to_pylist()
        return {row["image_id"]: row["image"]["bytes"] for row in rows}

    def all(self) -> Iterator[Question]:
        """Yield every question, partition by partition."""
        for partition in self.log.partitions:
            yield from self.questions(partition)


def open_source(typed: str, images: str | None = None) -> Source:
    """Return a source of questions as it was typed.

    Args:
        typed: A run, shards or a question file.
        images: The folder that paths in a question file start from, as it was typed; by default that of the file.

    Raises:
        UserMistake: It is neither a run, nor shards, nor a question file.
    """
    with path_errors(typed):
        url = dataset.absolute_url(typed)
        reach(url)
        fs, path = open_path(url)
        is_file = bool(fs.isfile(path))
    if is_file and not (url.endswith(".parquet") and _has_messages(url)):
        if not url.endswith(SUFFIXES):
            raise UserMistake(f"{typed}: is no question file; known forms: {', '.join(SUFFIXES)}")
        with fs.open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        return Source(url, digest, images=_image_folder(images) if images else posixpath.dirname(url))
    if images:
        raise UserMistake(f"--images {images}: is for a question file; shards hold their images")
    if not is_file and not any(mark in url for mark in "*?[") and not fs.exists(path):
        raise UserMistake(f"{typed}: no such file or folder; give a run, a folder of shards or a question file")
    place, files = dataset.find(typed), dataset.pin(typed)
    digest = hashlib.sha256("\n".join(sorted(file.sha256 for file in files)).encode()).hexdigest()[:32]
    return Source(url, digest, files, place.run)


def _image_folder(typed: str) -> str:
    with path_errors(typed):
        url = dataset.absolute_url(typed)
        reach(url)
        fs, path = open_path(url)
        if not fs.isdir(path):
            raise UserMistake(f"--images {typed}: no such folder")
    return url


def _has_messages(url: str) -> bool:
    """Return whether a Parquet file holds conversations; a file that is no Parquet is left to its reader."""
    import pyarrow.parquet as pq

    fs, path = open_path(url)
    try:
        with fs.open(path, "rb") as file:
            return "messages" in pq.ParquetFile(file, pre_buffer=False).schema_arrow.names
    except (pa.ArrowException, OSError):
        return False


def open_question_set(out: Folder, source: Source, limit: int | None, images: ImagesConfig) -> QuestionSet:
    """Return the questions of a folder; they are read from the source and written unless they are there.

    Args:
        out: The folder of the evaluation.
        source: Where they come from.
        limit: Of the images.
        images: Limits on images.

    Raises:
        SettingsChanged: The folder has the questions of another source, or of other files.
        UserMistake: The folder holds something else, or the source has no question that can be asked.
    """
    shape = {"source": source.url, "digest": source.digest, "limit": limit, "decoding": DECODING}
    record = read_record(out)
    if record:
        _check_unchanged(out, record, shape)
        return _set_of(out, record)
    counts = UseCounts()
    with Lease.take(out) as lease:
        read = _read(source, images, counts)
        written = _write(out, _limited(_decodable(read, images, counts), limit), lease)
        if not written.questions:
            raise UserMistake(f"{source.url}: has no question that can be asked ({counts.reasons() or 'it is empty'})")
        totals = {"questions": written.questions, "images": len(written.images), "partitions": written.partitions}
        left_out = {"left_out": dict(counts.left_out), "first": dict(counts.first)}
        record = {"format": FORMAT, **shape, **totals, **left_out}
        lease.check()
        out.write(RECORD, json.dumps(record, indent=1).encode())
    if counts.left_out:
        note("\n".join(counts.lines(source.url, "questions")))
    return _set_of(out, record)


def _set_of(out: Folder, record: Mapping[str, Any]) -> QuestionSet:
    """Return the questions of a record; a first start that was killed may have left other partitions."""
    names = map(_partition_name, range(record["partitions"]))
    return QuestionSet(out, questions_in(out).log().only(names), record)


def read_record(out: Folder) -> dict[str, Any] | None:
    """Return the record of an evaluation; None where the folder is empty or a first start was killed.

    Raises:
        UserMistake: The folder holds something else, or was made by another version.
        Damaged: The record is damaged.
    """
    try:
        record: dict[str, Any] = out.read_json(RECORD, "use another --out")
    except FileNotFoundError:
        if out.is_empty() or questions_in(out).folder.child("commits").names():
            return None
        raise UserMistake(f"--out {out.url}: holds other files; give a new or empty folder") from None
    if not isinstance(record, dict) or "questions" not in record:
        raise Damaged(f"{out.url}/{RECORD}: is not the record of an evaluation; use another --out")
    if record.get("format") != FORMAT:
        raise UserMistake(f"--out {out.url}: has format {record.get('format')}; this synth reads format {FORMAT}")
    return record


def _check_unchanged(out: Folder, record: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
    changed = [f"{key} was {record[key]} and is now {shape[key]}" for key in shape if record[key] != shape[key]]
    if changed:
        raise SettingsChanged(f"--out {out.url}: holds other questions: {'; '.join(changed)}; use another --out")


def _read(source: Source, images: ImagesConfig, counts: UseCounts) -> Iterator[ImageQuestions]:
    if source.files:
        return read_shards(source.files, source.run, counts)
    return read_question_file(source.url, source.images, images.max_bytes, counts)


def _limited(items: Iterable[ImageQuestions], limit: int | None) -> Iterator[ImageQuestions]:
    known = set[str]()
    for item in items:
        known.add(item.image_id)
        if limit is not None and len(known) > limit:
            return
        yield item


def _decodable(items: Iterator[ImageQuestions], images: ImagesConfig, counts: UseCounts) -> Iterator[ImageQuestions]:
    """Yield the items whose image can be decoded, in their order; the questions of others are counted."""
    with DecoderPool[int](images) as pool:
        batch = list[ImageQuestions]()
        for item in items:
            batch.append(item)
            if len(batch) == DECODED_AT_ONCE:
                yield from _checked(pool, batch, counts)
                batch = []
        yield from _checked(pool, batch, counts)


def _checked(pool: DecoderPool[int], batch: list[ImageQuestions], counts: UseCounts) -> Iterator[ImageQuestions]:
    faults = dict(pool.decode_many((number, item.file) for number, item in enumerate(batch)))
    for number, item in enumerate(batch):
        fault = faults[number]
        if not isinstance(fault, Failure):
            yield item
            continue
        for question in item.questions:
            counts.used -= 1
            counts.leave_out(fault.reason, f"{question.source}: {fault.detail}")


# --- the partitions ---------------------------------------------------------------------------------------------------


@dataclass
class _Written:
    """What was written so far."""

    questions: int
    partitions: int
    images: set[str]


def _write(out: Folder, items: Iterable[ImageQuestions], lease: Lease) -> _Written:
    written, log = _Written(0, 0, set()), questions_in(out).log()
    for number, part in enumerate(_partitions(items)):
        name = _partition_name(number)
        questions = [question.row for item in part for question in item.questions]
        files = {item.image_id: item.file for item in part}
        rows = [{"image_id": image, "image": {"bytes": file, "path": None}} for image, file in files.items()]
        stage, revision = questions_in(out), log.next_revision(name)
        tables = {
            "questions": TablePart((stage.write("questions", name, revision, table(questions, QUESTIONS)),), "", True),
            "images": TablePart((stage.write("images", name, revision, table(rows, IMAGES)),), "", True),
        }
        stage.commit(Receipt(name, revision, tables, {"questions": len(questions)}), lease)
        written.questions += len(questions)
        written.partitions += 1
        written.images |= files.keys()
    return written


def _partition_name(number: int) -> str:
    return f"q{number:05d}"


def _partitions(items: Iterable[ImageQuestions]) -> Iterator[list[ImageQuestions]]:
    """Yield parts of so many images; the last has those that are left too, so that it has more than one."""
    waiting = list[ImageQuestions]()
    for item in items:
        waiting.append(item)
        if len(waiting) == 2 * PARTITION_IMAGES:
            yield waiting[:PARTITION_IMAGES]
            del waiting[:PARTITION_IMAGES]
    if waiting:
        yield waiting
