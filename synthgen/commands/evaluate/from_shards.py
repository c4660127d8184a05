"""The questions in shards: each turn of a sample, with the words that a training saw.

Of a run, pairs that go on from an earlier one are left out: a call holds one question, and without what came before it
nobody could answer. Elsewhere nobody knows which turns do, so the first of a conversation counts alone. Multiple choice
is known by its lettered lines and by an answer that is one of their letters.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.evaluate.question import CHOICE, LETTERS, TEXT, ImageQuestions, Question
from synthgen.commands.usable import UseCounts
from synthgen.config.families import is_unanswerable
from synthgen.config.replies import letter_of
from synthgen.errors import Damaged, UserMistake, one_line
from synthgen.store import RunFolder
from synthgen.store.folder import open_path
from synthgen.store.parquet import read_batches
from synthgen.tables import SELECT, image_id, make_id
from synthgen.train.conversation import UnusableRow, clean_messages, text_of
from synthgen.train.dataset import ShardFile
from synthgen.train.forms import IMAGES, TEXTS, in_one_form

COLUMNS = [*IMAGES, *TEXTS, "image_id", "tags", "pair_ids", "types", "forms", "languages"]  # those that there are
PLACES = ("points", "boxes")  # forms whose answers are no words
LONGEST_OPTIONS = re.compile(r"(?:^|\n)((?:[A-H]\. [^\n]*(?:\n|$)){2,8})")
Row = Mapping[str, Any]


def read_shards(files: Sequence[ShardFile], run: RunFolder | None, counts: UseCounts) -> Iterator[ImageQuestions]:
    """Yield the images of shards with the questions about them; what is no question is counted with its reason.

    Args:
        files: The pinned files.
        run: The run that they are of, if there is one.
        counts: Gets every turn.

    Raises:
        Damaged: A file is missing or was changed.
        UserMistake: A file cannot be read.
    """
    follows = _follow_ups(run) if run else None
    for file in files:
        name = file.url.rpartition("/")[2]
        for number, row in enumerate(_rows(file), 1):
            yield from _questions(row, f"{name}:{number}", follows, counts)


def _follow_ups(run: RunFolder) -> frozenset[str]:
    """Return the kept pairs of a run that go on from another."""
    found = set[str]()
    for partition in run.log(SELECT).partitions:
        rows = run.table(SELECT, partition, "decisions", ["pair_id", "kept", "follows"]).to_pylist()
        found.update(row["pair_id"] for row in rows if row["kept"] and row["follows"])
    return frozenset(found)


def _rows(file: ShardFile) -> Iterator[Row]:
    fs, path = open_path(file.url)
    try:
        with fs.open(path) as stream:
            parquet = pq.ParquetFile(stream, pre_buffer=False)
            columns = [name for name in COLUMNS if name in parquet.schema_arrow.names]
            for batch in read_batches(parquet, columns):
                yield from map(in_one_form, batch.to_pylist())
    except FileNotFoundError as error:
        raise Damaged(f"{file.url}: is missing; pack the run again, or give other shards") from error
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(f"{file.url}: cannot be read ({one_line(error)})") from error


def _questions(row: Row, where: str, follows: frozenset[str] | None, counts: UseCounts) -> Iterator[ImageQuestions]:
    """Yield the image of a sample with its questions, if it has any."""
    images = row["images"] or []
    try:
        messages = clean_messages(row["messages"] or [], len(images))
    except UnusableRow as error:
        counts.leave_out(error.failure.reason, where)
        return
    if len(images) != 1 or not images[0]["bytes"]:
        counts.leave_out("several_images" if len(images) > 1 else "no_image", where)
        return
    image, questions = row.get("image_id") or image_id(images[0]["bytes"]), list[Question]()
    for turn, (asked, answered) in enumerate(_turns(messages)):
        place = f"{where}, turn {turn + 1}"
        found = _question(row, turn, (asked, answered), (image, place))
        if reason := _fault(row, turn, found, follows):
            counts.leave_out(reason, place)
        else:
            counts.used += 1
            questions.append(found)
    if questions:
        yield ImageQuestions(image, images[0]["bytes"], tuple(questions))


def _turns(messages: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the user's words and the assistant's of each turn; the words of the system are no turn."""
    asked = ""
    for message in messages:
        if message["role"] == "user":
            asked = text_of(message).strip()
        elif message["role"] == "assistant":
            yield asked, text_of(message).strip()


def _question(row: Row, turn: int, words: tuple[str, str], place: tuple[str, str]) -> Question:
    asked, answer = words
    image, source = place
    pair, kind, form, language = (_at(row, name, turn) for name in ("pair_ids", "types", "forms", "languages"))
    tags = tuple(dict.fromkeys(tag["path"] for tag in row.get("tags") or ()))
    options = _options(asked)
    letter = letter_of(answer) if options and form in ("", "choice") else None
    is_choice = letter is not None and LETTERS.index(letter) < len(options)
    return Question(
        question_id=pair or make_id("question", image, asked),
        image_id=image,
        kind=CHOICE if is_choice else TEXT,
        question=_before_options(asked) if is_choice else asked,
        options=options if is_choice else (),
        answers=(letter,) if is_choice and letter else (answer,),
        prompt=asked,
        type=kind,
        form=form,
        language=language,
        tags=tags,
        source=source,
    )


def _fault(row: Row, turn: int, question: Question, follows: frozenset[str] | None) -> str | None:
    """Return why a turn is not asked, or None."""
    if follows is None and turn:
        return "later_turn"
    if follows and question.question_id in follows:
        return "follow_up"
    if question.form in PLACES:
        return "places"
    if is_unanswerable(question.type):
        return "unanswerable"
    if not question.prompt or not question.answers[0]:
        return "no_answer" if question.prompt else "no_question"
    return "no_options" if question.form == "choice" and question.kind != CHOICE else None


def _at(row: Row, name: str, turn: int) -> str:
    values = row.get(name) or ()
    return str(values[turn] or "") if turn < len(values) else ""


def _options(asked: str) -> tuple[str, ...]:
    """Return the options in lettered lines of a text, from A on without a gap; none if there are no such lines."""
    found = LONGEST_OPTIONS.search(asked)
    lines = found[1].rstrip("\n").split("\n") if found else []
    lettered = [line[0] for line in lines] == list(LETTERS[: len(lines)])
    return tuple(line[3:] for line in lines) if lettered else ()


def _before_options(asked: str) -> str:
    found = LONGEST_OPTIONS.search(asked)
    return asked[: found.start()].strip() if found else asked
