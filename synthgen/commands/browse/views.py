"""What each page of `synth browse` shows, as the values of its template."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from synthgen.commands.browse.conversation import conversation_of, stored_calls
from synthgen.commands.browse.image import find_image
from synthgen.commands.browse.images import load_images, match_images
from synthgen.commands.browse.pair import find_pair
from synthgen.commands.browse.pairs import load_pairs, match_pairs
from synthgen.commands.browse.pictures import SIZES, Made
from synthgen.commands.browse.reasons import reasons_of
from synthgen.commands.browse.search import Found, Match, Start, search
from synthgen.commands.browse.snapshot import Snapshot
from synthgen.commands.browse.wanted import Place, Wanted
from synthgen.commands.report.examples import ImagePlace
from synthgen.commands.report.outcomes import OUTCOMES
from synthgen.commands.report.pictures import Picture
from synthgen.commands.report.view import Group, families_of, groups_of, stage_bars
from synthgen.errors import SynthError
from synthgen.job.funnel import funnels
from synthgen.tables import GENERATE, LIST, PLAN, SELECT, TAG

if TYPE_CHECKING:
    from starlette.requests import Request

    from synthgen.commands.browse.server import Desk

PAIRS_A_PAGE, IMAGES_A_PAGE = 24, 48
STEP_SECONDS = 5.0
MOST_TAGS = 2000  # rows of the page of tags
SUGGESTED = 400  # names that a field suggests


@dataclass(frozen=True)
class Page:
    """A page: its template and what it is filled in with."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


def overview(desk: "Desk", request: "Request") -> Page:
    """Return the page that a run opens with: its funnel, its reasons, and its types as far as they are counted."""
    run, tally = desk.snapshot, desk.snapshot.tally
    counts = {spec: run.folder.log(spec).counts() for spec in (GENERATE, SELECT)}
    with tally.lock:
        values = {
            "families": families_of(tally.counts["type"]),
            "forms": groups_of(tally.counts["form"]),
            "languages": groups_of(tally.counts["language"]),
            "counted": (tally.done, tally.total, tally.trouble),
        }
    reasons = [(name, count) for name, count in counts[SELECT].items() if name != SELECT.passes]
    reasons += [(name, count) for name, count in counts[GENERATE].items() if name.startswith("failed.")]
    values |= {
        "stages": stage_bars(funnels(run.folder)),
        "pairs": counts[GENERATE].get(GENERATE.passes, 0),
        "kept": counts[SELECT].get(SELECT.passes, 0),
        "reasons": sorted(reasons, key=lambda item: (-item[1], item[0])),
    }
    return Page("overview.html", run.name, values)


def pairs(desk: "Desk", request: "Request") -> Page:
    """Return the list of the pairs that are wanted."""
    run, wanted = desk.snapshot, Wanted.of(request.query_params)
    found = _search(run, partial(match_pairs, run, wanted), request.query_params, PAIRS_A_PAGE)
    examples, places = load_pairs(run, found)
    pictures = {
        each.image_id: _picture_of(desk, each.partition, places[each.image_id].object_id)
        for each in examples
        if each.image_id in places
    }
    values = {
        "wanted": wanted,
        "examples": examples,
        "pictures": pictures,
        "rules": run.pipeline.selection.keep,
        "outcomes": OUTCOMES,
        "suggested": _suggested(run),
        **_paging(desk, "pairs", wanted, found, request.query_params),
    }
    return Page("pairs.html", "Pairs", values)


def _search(run: Snapshot, match: Match, params: Mapping[str, str], count: int) -> Found:
    if "anywhere" in params and run.partitions:
        partition = random.choice(run.partitions)
        rows = run.folder.log(GENERATE).counts([partition]).get(GENERATE.passes, 0)
        return search(run.partitions, match, Start(Place(partition, random.randrange(-1, max(0, rows)))), count)
    after, before = Place.parse(params.get("after", "")), Place.parse(params.get("before", ""))
    return search(run.partitions, match, Start(before or after, before is not None), count)


def _paging(desk: "Desk", page: str, wanted: Wanted, found: Found, params: Mapping[str, str]) -> dict[str, Any]:
    """Return the addresses of the pages before and after a list, and how far the search came."""
    is_backwards = "before" in params
    first, last = (found.places[0], found.places[-1]) if found.places else (None, None)
    stopped = str(found.stopped) if found.stopped else None
    after = (str(last) if last else params.get("before")) if is_backwards else stopped
    is_first = not params.get("after") and "anywhere" not in params
    before = stopped if is_backwards else None if is_first else str(first or "") or params.get("after")
    return {
        "next": desk.href(page, {**wanted.params, "after": after}) if after else "",
        "previous": desk.href(page, {**wanted.params, "before": before}) if before else "",
        "anywhere": desk.href(page, {**wanted.params, "anywhere": "1"}),
        "reset": desk.href(page),
        "searched_count": found.searched,
        "is_cut": found.stopped is not None and not is_backwards and len(found.places) < _size(page),
    }


def _size(page: str) -> int:
    return PAIRS_A_PAGE if page == "pairs" else IMAGES_A_PAGE


def _suggested(run: Snapshot) -> dict[str, list[str]]:
    """Return names that fields suggest: those that are counted so far, and every reason."""
    with run.tally.lock:
        names = {kind: sorted(counts)[:SUGGESTED] for kind, counts in run.tally.counts.items()}
        names["tag"] = sorted(run.tally.branches.tags)[:SUGGESTED]
    reasons = {*run.folder.log(SELECT).counts(), *run.folder.log(GENERATE).counts()}
    names["reason"] = sorted(name for name in reasons if name not in (GENERATE.passes, SELECT.passes, "retired"))
    return names


def _picture_of(desk: "Desk", partition: str, object_id: str, size: str = "small") -> Picture:
    return Picture(desk.href(f"picture/{partition}/{object_id}", {"size": size}), 0, 0)


def pair(desk: "Desk", request: "Request") -> Page:
    """Return the page of a question."""
    run, wanted = desk.snapshot, Wanted.of(request.query_params)
    found = find_pair(run, request.path_params["partition"], request.path_params["assignment"])
    if found is None:
        return Page("trouble.html", "Not here", {"trouble": "this run holds no such question now"}, 404)
    files, trouble = desk.files.get(), ""
    calls, reasons = stored_calls(found.row), None
    if isinstance(files, str):
        trouble = files
    else:
        try:
            calls = conversation_of(run, files, found.partition, found.row)
            reasons = reasons_of(run, files, found.partition, found.image, found.row["type"]) if found.image else None
        except SynthError as error:
            trouble = str(error)
    place = str(Place(found.partition, found.number))
    values = {
        "pair": found,
        "wanted": wanted,
        "picture": _picture_of(desk, found.partition, found.row["object_id"], "large"),
        "calls": calls,
        "reasons": reasons,
        "files_trouble": trouble,
        "next": desk.href("step", {**wanted.params, "after": place}),
        "previous": desk.href("step", {**wanted.params, "before": place}),
        "list": desk.href("pairs", wanted.params),
    }
    return Page("pair.html", found.row["question"] or "No question", values)


def step(desk: "Desk", request: "Request") -> str:
    """Return the address of the next or the previous pair of a search, or else of its list."""
    run, wanted, params = desk.snapshot, Wanted.of(request.query_params), request.query_params
    after, before = Place.parse(params.get("after", "")), Place.parse(params.get("before", ""))
    start = Start(before or after, before is not None)
    found = search(run.partitions, partial(match_pairs, run, wanted), start, 1, STEP_SECONDS)
    if not found.places:
        side = {} if found.stopped is None else {"before" if start.is_backwards else "after": str(found.stopped)}
        return desk.href("pairs", {**wanted.params, **side})
    ((example,), _) = load_pairs(run, found)
    return desk.href(f"pairs/{example.partition}/{example.assignment_id}", wanted.params)


def images(desk: "Desk", request: "Request") -> Page:
    """Return the list of the images that are wanted."""
    run, wanted = desk.snapshot, Wanted.of(request.query_params)
    found = _search(run, partial(match_images, run, wanted), request.query_params, IMAGES_A_PAGE)
    cards = load_images(run, found)
    pictures = {card.object_id: _picture_of(desk, card.partition, card.object_id) for card in cards}
    counts = {spec: run.folder.log(spec).counts() for spec in (LIST, TAG, PLAN)}
    names = sorted({*counts[TAG], *counts[PLAN]} - {"assigned", "retired"} - set(TAG.other_counts))
    values = {
        "wanted": wanted,
        "cards": cards,
        "pictures": pictures,
        "listed": counts[LIST].get("listed", 0),
        "outcomes": names,
        "suggested": _suggested(run),
        **_paging(desk, "images", wanted, found, request.query_params),
    }
    return Page("images.html", "Images", values)


def image(desk: "Desk", request: "Request") -> Page:
    """Return the page of an image."""
    run = desk.snapshot
    found = find_image(run, request.path_params["partition"], request.path_params["object"])
    if found is None:
        return Page("trouble.html", "Not here", {"trouble": "this run holds no such image now"}, 404)
    files, trouble, reasons = desk.files.get(), "", None
    if isinstance(files, str):
        trouble = files
    elif found.planned:
        try:
            reasons = reasons_of(run, files, found.partition, found.planned)
        except SynthError as error:
            trouble = str(error)
    picture_ = _picture_of(desk, found.partition, found.object_id, "large")
    values = {"image": found, "picture": picture_, "reasons": reasons, "files_trouble": trouble}
    return Page("image.html", found.place or found.object_id, values)


def tags(desk: "Desk", request: "Request") -> Page:
    """Return the page of the tags that have some words."""
    run, words = desk.snapshot, request.query_params.get("q", "").lower().split()
    tally = run.tally
    with tally.lock:
        rows = [
            (name, branch.images, Group.of(name, branch.questions), branch.kept_per_image)
            for name, branch in sorted(tally.branches.tags.items())
            if all(word in name.lower() for word in words)
        ]
        counted = tally.done, tally.total, tally.trouble
        total, untagged = tally.branches.total.images, tally.branches.untagged
    values = {
        "rows": rows[:MOST_TAGS],
        "others": len(rows) - MOST_TAGS,
        "counted": counted,
        "images": total,
        "untagged": untagged,
        "q": request.query_params.get("q", ""),
    }
    return Page("tags.html", "Tags", values)


def picture(desk: "Desk", request: "Request") -> Made:
    """Return a picture of an image, or why there is none."""
    partition, object_id = request.path_params["partition"], request.path_params["object"]
    size, run = request.query_params.get("size", ""), desk.snapshot
    if partition not in run.partitions or size not in SIZES:
        return "there is no such image"
    place = _image_place(run, partition, object_id)
    return place if isinstance(place, str) else desk.pictures.picture(*place, size)


def _image_place(run: Snapshot, partition: str, object_id: str) -> tuple[str, ImagePlace] | str:
    """Return the id of an image and where it is read: as the plan has it, or else as it was listed."""
    columns = ["object_id", "uri", "version", "row"]
    planned = run.folder.table(PLAN, partition, "images", [*columns, "image_id"])
    for row in planned.filter(pc.equal(planned.column("object_id"), object_id)).to_pylist():
        return row["image_id"], ImagePlace(*(row[name] for name in columns))
    seen = run.folder.table(TAG, partition, "images", ["object_id", "image_id", "reason"])
    listed = run.folder.table(LIST, partition, "objects", columns)
    of_object = seen.filter(pc.equal(seen.column("object_id"), object_id)).to_pylist()
    for row in listed.filter(pc.equal(listed.column("object_id"), object_id)).to_pylist():
        if not of_object:
            return "it is not looked at yet"
        if not of_object[0]["image_id"] or not row["uri"]:
            return str(of_object[0]["reason"] or "unreadable")
        return of_object[0]["image_id"], ImagePlace(*(row[name] for name in columns))
    return "there is no such image"
