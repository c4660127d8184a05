"""`synth diff`: read both sides, say what changed, and write it as a page where that is wanted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from synthgen.commands.diff import examples, text
from synthgen.commands.diff.columns import Columns, read_columns
from synthgen.commands.diff.compare import compare
from synthgen.commands.diff.page import page_of
from synthgen.commands.diff.version import as_of, before_last, parse_moment
from synthgen.commands.report.html_file import html_target, write_html
from synthgen.commands.report.survey import partitions_of
from synthgen.console import StageProgress, note
from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.job.diff import differences, words_of
from synthgen.store import RunFolder
from synthgen.store.remote import display_uri

MOST_SETTINGS = 40
BESIDE = ("listed",)  # settings whose difference says nothing of two runs: where the images are


@dataclass(frozen=True)
class DiffRequest:
    """What is compared, and where it goes.

    Attributes:
        at: A time before which one run is compared with what it is now.
        html: A file for the page; none if None.
        has_pictures: Whether the page shows images.
        as_json: Whether it is printed as JSON.
    """

    at: str | None = None
    html: str | None = None
    has_pictures: bool = True
    as_json: bool = False


@dataclass(frozen=True)
class Sides:
    """What is compared.

    Attributes:
        folders: The runs before and after.
        whens: What of them is meant, after the names of their folders.
        settings: How their settings differ, in words.
    """

    folders: tuple[RunFolder, RunFolder]
    whens: tuple[str, str]
    settings: Sequence[str]

    @property
    def names(self) -> tuple[str, str]:
        """Both sides with their folders."""
        urls = [display_uri(folder.out.url) for folder in self.folders]
        return urls[0] + self.whens[0], urls[1] + self.whens[1]

    @property
    def titles(self) -> tuple[str, str]:
        """Both sides as the page has them, which may be given away: of local folders the names alone."""
        urls = [folder.out.url for folder in self.folders]
        names = [display_uri(url) if "://" in url else PurePath(url).name for url in urls]
        return names[0] + self.whens[0], names[1] + self.whens[1]


def diff(first: RunFolder, second: RunFolder | None, request: DiffRequest) -> str:
    """Compare two runs, or a run with what it was, write the page that is wanted, and return the text.

    Args:
        first: The run before, or the only one.
        second: The run after; None to compare the first with what it was.
        request: How.

    Raises:
        UserMistake: A folder holds no run, there is nothing before, or the page cannot be written.
    """
    target = html_target(request.html, "diff") if request.html is not None else None
    sides = _sides(first, second, request.at)
    columns = _read(sides)
    found = compare(*columns)
    shown, places = examples.load(sides.folders, columns, examples.choose(*columns, found))
    if target is not None:
        pictures = examples.pictures_of(sides.folders, places) if request.has_pictures else {}
        page = page_of(found, sides.titles, sides.settings, columns, (shown, pictures))
        note(f"page: {write_html(target, page)}")
    if request.as_json:
        return json.dumps(text.as_json(found, sides.names, sides.settings), ensure_ascii=False)
    return text.text(found, sides.names, sides.settings, shown)


def _sides(first: RunFolder, second: RunFolder | None, at: str | None) -> Sides:
    if second is not None and at is not None:
        raise UserMistake("--before: is of one run, and two are named; leave one of them out")
    if second is None:
        old = as_of(first, parse_moment(at)) if at is not None else before_last(first)
        when = f" at {parse_moment(at):%Y-%m-%d %H:%M} UTC" if at is not None else " before its last command"
        return Sides((old, first), (when, " now"), ())
    old_shape, new_shape = (
        {key: value for key, value in run_record.record_of(folder)["shape"].items() if key not in BESIDE}
        for folder in (first, second)
    )
    settings = words_of(list(differences(old_shape, new_shape)))
    more = [f"and {len(settings) - MOST_SETTINGS:,} more"] if len(settings) > MOST_SETTINGS else []
    selections = [run_record.pipeline_of(folder).selection.model_dump(mode="json") for folder in (first, second)]
    settings = settings[:MOST_SETTINGS] + more + _selection_words(*selections)
    return Sides((first, second), ("", ""), settings)


def _selection_words(before: object, after: object) -> list[str]:
    """Return which settings of `select` differ; they shape no table, so the shape of a run does not have them."""
    found = differences(before, after)
    words = [f"select.{'.'.join(each.path)} was {_said(each.before)} and is {_said(each.after)}" for each in found]
    return words[:MOST_SETTINGS]


def _said(value: object) -> str:
    return "not set" if not isinstance(value, str | int | float | bool | list | dict) else json.dumps(value)


def _read(sides: Sides) -> tuple[Columns, Columns]:
    total = sum(len(partitions_of(folder)) for folder in sides.folders)
    with StageProgress("diff", total, "partition") as bar:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            bar.show(done)

        before, after = (read_columns(folder, progress) for folder in sides.folders)
    return before, after
