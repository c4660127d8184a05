"""What commands show of a run that is over: the funnel, some samples, and where the report is."""

from typing import Any

from synthgen.console import note, show_text, tell
from synthgen.console.events import Result
from synthgen.errors import NothingUsable


def show_run(folder: Any, job: Any, last: str, done: int, as_json: bool = False) -> None:
    """Show what a run that is over has made, up to its last stage.

    Raises:
        NothingUsable: Nothing came out of it.
    """
    from synthgen.commands import samples
    from synthgen.job import funnel
    from synthgen.tables import PACK, TAG

    if not done:
        note("nothing to do: everything listed has been done")
    message, shown = funnel.nothing_kept(folder, last), ""
    if done and not message and not as_json:
        of_tags = (job.pipeline.tag.taggers, job.definitions.taxonomy.tree.leaves)
        shown = samples.tags(folder, *of_tags) if last == TAG.typed else samples.text(folder)
    show_result(folder, shown, as_json, is_changed=bool(done), has_report=last == PACK.typed)
    if message:
        raise NothingUsable(message)


def show_result(folder: Any, samples: str, as_json: bool, *, is_changed: bool = True, has_report: bool = True) -> None:
    """Show what came of a run that is over: the funnel, some samples, and where the report is; or all as an event."""
    from synthgen.commands import status

    if as_json:
        tell(Result(status.as_json(folder), _write_report(folder, is_changed=is_changed) if has_report else None))
        return
    show_text(status.text(folder, is_over=True))
    if samples:
        show_text(samples)
    if has_report:
        show_report(folder, is_changed=is_changed)


def show_report(folder: Any, *, is_changed: bool = True) -> None:
    """Write the report of a run that is over, and say where it is; without one, a note has said why."""
    if place := _write_report(folder, is_changed=is_changed):
        show_text(f"report: {place}")


def _write_report(folder: Any, *, is_changed: bool) -> str | None:
    from synthgen.commands.report import write_after_run

    place: str | None = write_after_run(folder, is_changed=is_changed)
    return place
