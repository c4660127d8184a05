"""`synth select`: how many pairs of each type other thresholds or views would keep; nothing is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthgen.config.pipeline import Pipeline
from synthgen.config.selection import PLAIN_SELECTION, KeepRule, SelectConfig
from synthgen.config.source import ImagesConfig
from synthgen.console import StageProgress
from synthgen.errors import UserMistake, nearest
from synthgen.stages.select import prepare
from synthgen.stages.select.selection import scores_in
from synthgen.stages.select.trial import Tally, tallies
from synthgen.store import RunFolder
from synthgen.tables import GENERATE

BOUNDS = ("min", "max", "drop")
TOTAL = "all types"


@dataclass(frozen=True)
class Column:
    """A column of the table: settings of selection under a title.

    Attributes:
        tried: The score of a trial; None for a view.
    """

    title: str
    settings: SelectConfig
    tried: str | None = None


def columns_for(pipeline: Pipeline, view: str | None, trials: Sequence[str]) -> list[Column]:
    """Return the columns that were asked for, the current settings first.

    Args:
        pipeline: With its views.
        view: The one to start from; None for the current one.
        trials: As typed: `answer=3.5,4`, `answer.drop=0.1,0.2`. Without any, each view is a column.

    Raises:
        UserMistake: No view has that name, or a trial cannot be read.
    """
    known = {PLAIN_SELECTION: None, **{name: name for name in pipeline.views}}
    if view is not None and view not in known:
        raise UserMistake(f"--view {view}: no view has that name: {nearest(view, known)}")
    current = known[view] if view is not None else pipeline.view
    named = (
        [current] if trials or view is not None else [current, *(each for each in known.values() if each != current)]
    )
    columns = [Column(each or PLAIN_SELECTION, pipeline.selection_of(each)) for each in named]
    start = columns[0].settings
    return [*columns, *(column for typed in trials for column in _trial_columns(start, typed))]


def _trial_columns(settings: SelectConfig, typed: str) -> Iterable[Column]:
    """Yield a column for each value of a trial."""
    place, equals, values = typed.partition("=")
    name, _, bound = place.rpartition(".")
    name, bound = (name, bound) if bound in BOUNDS and name else (place, "min")
    where = f"--what-if {typed}"
    if not equals or not name or not values:
        raise UserMistake(f"{where}: write it as SCORE=VALUE,VALUE or SCORE.drop=SHARE,SHARE")
    for value in values.split(","):
        try:
            given = {**settings.keep.get(name, KeepRule()).model_dump(), bound: float(value)}
            rule = KeepRule.model_validate(given)
        except ValueError as error:
            raise UserMistake(f"{where}: '{value}' is no value of {name}.{bound}: {_why(error)}") from error
        tried = settings.model_copy(update={"keep": {**settings.keep, name: rule}})
        yield Column(f"{name}.{bound}={value}", tried, name)


def _why(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return "it is no number"
    told = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return told.replace("Input should be", "it must be", 1)


def count(folder: RunFolder, columns: Sequence[Column], home: Path, images: ImagesConfig) -> list[Tally]:
    """Return what each column would keep; `images` are the limits on the images of benchmark sets."""
    _check_tried(folder, columns)
    selections = [prepare(folder, column.settings, home, images) for column in columns]
    if not folder.log(GENERATE).partitions:
        raise UserMistake(f"{folder.out.url}: has no pairs yet; finish it with `synth run --out {folder.out.url}`")
    with StageProgress("select", len(folder.log(GENERATE).partitions), "partition") as bar:
        done = 0

        def show() -> None:
            nonlocal done
            done += 1
            bar.show(done)

        return tallies(selections, show)


def _check_tried(folder: RunFolder, columns: Sequence[Column]) -> None:
    """Raise UserMistake for a trial of a score that no pair has."""
    known = scores_in(folder)
    for column in columns if known else ():
        if column.tried is not None and column.tried not in known:
            raise UserMistake(
                f"--what-if {column.title}: no pair has the score '{column.tried}': {nearest(column.tried, known)}"
            )


def as_json(columns: Sequence[Column], found: Sequence[Tally]) -> dict[str, Any]:
    """Return the table as one JSON object.

    `pairs` has type → pairs, `kept` for each column type → pairs that it keeps, `letters` for each column letter → kept
    pairs of multiple choice that answer with it.
    """
    titles = [column.title for column in columns]
    kept = {title: dict(sorted(tally.kept.items())) for title, tally in zip(titles, found, strict=True)}
    letters = {title: dict(tally.letters) for title, tally in zip(titles, found, strict=True)}
    return {"pairs": dict(sorted(found[0].pairs.items())), "kept": kept, "letters": letters}


def text(columns: Sequence[Column], found: Sequence[Tally]) -> str:
    """Return the table as lines for a terminal: a type a line, their sum, the letters of choice, and notes."""
    heads = ["pairs", *(column.title for column in columns)]
    counts = [found[0].pairs, *(tally.kept for tally in found)]
    widths = [max(10, len(head)) for head in heads]
    rows = {**{path or "(no type)": [column.get(path, 0) for column in counts] for path in sorted(found[0].pairs)}}
    rows[TOTAL] = [sum(column.values()) for column in counts]
    wide = max(map(len, rows))
    lines = [_line("type", heads, wide, widths)]
    lines += [_line(path, [f"{number:,}" for number in numbers], wide, widths) for path, numbers in rows.items()]
    lines += [f"letters of kept multiple choice: {_shares(found[0].letters)}"] if found[0].letters else []
    notes = dict.fromkeys(note for tally in found for note in tally.notes)
    return "\n".join([*lines, *notes])


def _shares(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count / sum(counts.values()):.1%}" for name, count in counts.items())


def _line(head: str, cells: Sequence[str], wide: int, widths: Sequence[int]) -> str:
    return "  ".join([f"{head:<{wide}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
