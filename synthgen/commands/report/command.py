"""`synth report`: read a run, and write its report beside the card or where the user wants it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from synthgen import taggers
from synthgen.commands.report import settings
from synthgen.commands.report.card import show_in_card
from synthgen.commands.report.clusters import find_clusters
from synthgen.commands.report.costs import seconds_at_work, total_of
from synthgen.commands.report.examples import Example, load_examples
from synthgen.commands.report.html_file import html_target, write_html
from synthgen.commands.report.losses import find_losses
from synthgen.commands.report.page import render
from synthgen.commands.report.pictures import Picture, load_pictures
from synthgen.commands.report.stage_costs import stage_costs
from synthgen.commands.report.survey import partitions_of, survey
from synthgen.commands.report.view import choices, families_of, groups_of, score_view, stage_bars, tags_view
from synthgen.config.pipeline import Pipeline
from synthgen.console import StageProgress, note
from synthgen.errors import SynthError, one_line
from synthgen.job import run_record
from synthgen.job.funnel import funnels
from synthgen.stages.pack import redact
from synthgen.stages.pack.card_notes import forget_examples
from synthgen.stages.pack.command import command_of
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, PACK, SELECT

NAME = "report.html"
Keep = Callable[[list[Example], dict[str, Picture | str]], None]


def write_report(
    folder: RunFolder, target: str | None = None, *, has_pictures: bool = True, keep: Keep = lambda *_: None
) -> str:
    """Write the report of a run, and return where it is.

    Args:
        folder: The run, whatever is done of it.
        target: A file on this machine; beside the card of the shards if None.
        has_pictures: Whether images are read again from the source, to show them.
        keep: Called with the examples and the pictures that the report shows.

    Raises:
        UserMistake: The folder holds no run, or the target cannot be written.
    """
    path = html_target(target, "report") if target is not None else None
    text = report_page(folder, has_pictures=has_pictures, keep=keep)
    if path is not None:
        return write_html(path, text)
    place = folder.stage(PACK).folder
    place.write(NAME, text)
    return f"{place.url}/{NAME}"


def write_after_run(folder: RunFolder, *, is_changed: bool = True) -> str | None:
    """Write the report of a run that has just ended; return where it is, or None where that failed, which is noted.

    The card of the shards gets some of its examples.

    The data are complete, so whatever goes wrong here must not look like a failed run. A report that is there is left
    as it is if the run has not changed anything.
    """
    place = folder.stage(PACK).folder
    try:
        if not is_changed and NAME in place.names(".html"):
            return f"{place.url}/{NAME}"
        return write_report(folder, keep=partial(show_in_card, folder))
    except Exception as error:
        note(f"the report could not be written ({one_line(error)}); the data are complete, `synth report` tries again")
        return None


def forget_report(folder: RunFolder) -> None:
    """Delete the report of a run and the examples of its card: they show images that are taken out now."""
    folder.stage(PACK).folder.remove([NAME])
    forget_examples(folder)


def report_page(folder: RunFolder, *, has_pictures: bool = True, keep: Keep = lambda *_: None) -> bytes:
    """Return the report of a run as HTML; `keep` is called with its examples and pictures."""
    pipeline = run_record.pipeline_of(folder)
    shown = partial(redact.uri, root=redact.root_of(pipeline.source))
    with StageProgress("report", len(partitions_of(folder)), "partition") as bar:
        found = survey(folder, pipeline.selection, bar.add)
    examples, places = load_examples(folder, found.draw.chosen(), found.scores, shown)
    pictures = load_pictures(folder, pipeline.source, pipeline.images, places) if has_pictures else {}
    keep(examples, pictures)
    stages = funnels(folder)
    work = seconds_at_work(folder)
    counts = {spec: folder.log(spec).counts() for spec in (GENERATE, SELECT, PACK)}
    return render(
        {
            "name": PurePath(folder.out.url.rstrip("/")).name,
            "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "pairs": counts[GENERATE].get("pair", 0),
            "kept": counts[SELECT].get("kept", 0),
            "samples": counts[PACK].get("samples", 0),
            "images": found.branches.total.images,
            "stages": stage_bars(stages),
            "families": families_of(found.counts["type"]),
            "forms": groups_of(found.counts["form"]),
            "languages": groups_of(found.counts["language"]),
            "scores": [score_view(each) for each in found.scores.values() if each.all.count or each.without],
            "branches": found.branches,
            "tags": tags_view(found.branches, _leaves(pipeline, run_record.record_of(folder)["started_in"])),
            "costs": found.costs,
            "total": total_of(found.costs),
            "work": work,
            "work_total": sum(work.values()),
            "stage_costs": stage_costs(folder, pipeline, found.costs, found.asked),
            "losses": find_losses(folder, stages, shown),
            "clusters": find_clusters(folder),
            "examples": examples,
            "pictures": pictures,
            "types": choices(examples, "type"),
            "whys": choices(examples, "why"),
            "rules": pipeline.selection.keep,
            **_settings(folder, pipeline),
        }
    )


def _settings(folder: RunFolder, pipeline: Pipeline) -> dict[str, Any]:
    record = run_record.record_of(folder)
    return {
        "facts": settings.facts_of(folder, pipeline),
        "command": command_of(record),
        "yaml": settings.settings_text(record),
    }


def _leaves(pipeline: Pipeline, home: str) -> tuple[str, ...]:
    """Return the leaves of the taxonomy; none where its file is not here any more."""
    with suppress(SynthError):
        trees = [taggers.tree_of(name, Path(home)) for name in pipeline.tag.taggers]
        return next((tree.leaves for tree in trees if tree), ())
    return ()
