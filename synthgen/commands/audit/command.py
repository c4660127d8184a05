"""`synth audit`: draw the sample, serve the page until it is stopped, and say what the labels measure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from synthgen.commands import local_page
from synthgen.commands.audit.card import show_in_card
from synthgen.commands.audit.labels import add_label, check_name, read_labels
from synthgen.commands.audit.results import audited, text
from synthgen.commands.report.draw import Draw, Drawn
from synthgen.commands.report.examples import Example, load_examples
from synthgen.commands.report.outcomes import KEPT, Counts, count_rows, read_rows
from synthgen.commands.report.pictures import Picture, PictureSize, load_pictures
from synthgen.console import note
from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.stages.pack import redact
from synthgen.store import RunFolder
from synthgen.tables import GENERATE

LARGE = PictureSize(1024, 200_000, 10**9)
LEAST_OF_A_TYPE = 2  # pairs, where it has so many


@dataclass(frozen=True)
class AuditRequest:
    """What is labelled, and by whom.

    Attributes:
        pairs: In the sample.
        who: The name of the person.
        port: Of the page; 0 is any free one.
    """

    pairs: int
    who: str
    port: int = 0


def audit(folder: RunFolder, request: AuditRequest) -> None:
    """Serve the page of an audit until it is stopped by Ctrl-C.

    Raises:
        UserMistake: There is nothing to label, the person has no name, or the port is taken.
    """
    local_page.check_installed("audit")
    from synthgen.commands.audit.server import Desk, app_of

    who = check_name(request.who)
    listening = local_page.listen(request.port)
    examples, pictures = sample_of(folder, request.pairs)
    shown = {example.id for example in examples}
    done = {label.pair_id: label.label for label in read_labels(folder) if label.who == who and label.pair_id in shown}
    desk = Desk(examples, pictures, who, done, partial(add_label, folder))
    note(f"{len(done)} of {len(examples)} pairs are labelled by {who}; open this page, and stop with Ctrl-C:")
    note(local_page.address(listening, desk.token))
    local_page.serve(app_of(desk), listening)


def results_text(folder: RunFolder, wished: float) -> str:
    """Return what the labels of a run measure, with thresholds that reach a wished precision; the card says it too."""
    run_record.check_is_run(folder)
    found = audited(folder, read_labels(folder))
    show_in_card(folder, found)
    return "\n".join(text(found, wished))


def sample_of(folder: RunFolder, count: int) -> tuple[list[Example], dict[str, Picture | str]]:
    """Return the sample, in an order that mixes types, and the pictures of its images.

    Raises:
        UserMistake: No pair is kept.
    """
    pipeline = run_record.pipeline_of(folder)
    drawn = _draw(folder, count)
    if not drawn:
        raise UserMistake(f"{folder.out.url}: no pair is kept, so there is nothing to label")
    shown = partial(redact.uri, root=redact.root_of(pipeline.source))
    examples, places = load_examples(folder, [(KEPT, each) for each in drawn], (), shown)
    note(f"reading {len(places)} images again")
    return examples, load_pictures(folder, pipeline.source, pipeline.images, places, LARGE)


def _draw(folder: RunFolder, count: int) -> list[Drawn]:
    """Return kept pairs of each type in proportion, those with the lowest ids: the same whoever asks."""
    drawn, counts = Draw({KEPT: (count, count)}), Counts()
    for partition in folder.log(GENERATE).partitions:
        rows = read_rows(folder, partition)
        drawn.add(partition, rows)
        count_rows(rows, counts)
    shares = allot({name: of_type[KEPT] for name, of_type in counts.get("type", {}).items()}, count)
    chosen = [each for name, of_type in drawn.groups.get(KEPT, {}).items() for each in of_type[: shares[name]]]
    return sorted(chosen, key=lambda each: each.id)


def allot(sizes: Mapping[str, int], count: int) -> Counter[str]:
    """Return how many of each group are drawn: LEAST_OF_A_TYPE where it has so many, then in proportion to its size.

    They are `count` in all, or everything. Where that is too few for LEAST_OF_A_TYPE the largest groups come first.
    """
    allotted: Counter[str] = Counter()
    ordered: Sequence[str] = sorted(sizes, key=lambda name: (-sizes[name], name))
    for _ in range(LEAST_OF_A_TYPE):
        for name in ordered:
            if allotted[name] < sizes[name] and allotted.total() < count:
                allotted[name] += 1
    total = sum(sizes.values())
    while allotted.total() < min(count, total):
        # the group that is furthest below its share
        open_groups = (name for name in ordered if allotted[name] < sizes[name])
        allotted[max(open_groups, key=lambda name: sizes[name] / total - allotted[name] / count)] += 1
    return allotted
