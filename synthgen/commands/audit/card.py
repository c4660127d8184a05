"""What people found wrong, for the card of the shards: how many pairs of each type are right, and what was not."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from synthgen.commands.audit.labels import RIGHT, UNSURE, WRONG, by_pair
from synthgen.commands.audit.measures import share_of
from synthgen.commands.audit.results import Audited, Labelled, precision
from synthgen.console import note
from synthgen.errors import SynthError, one_line
from synthgen.stages.pack.card_notes import Faults, TypeFaults, keep_faults
from synthgen.store import RunFolder

OTHER = "no reason given"


def show_in_card(folder: RunFolder, found: Audited) -> None:
    """Have the card say what people found wrong; a folder that cannot be written keeps its card, and a note says so."""
    faults = faults_of(found)
    if faults is None:
        return
    try:
        keep_faults(folder, faults)
    except (SynthError, OSError) as error:
        note(f"the card of the shards stays as it is: {one_line(error)}")


def faults_of(found: Audited) -> Faults | None:
    """Return what people found wrong in the kept pairs; None as long as nobody is sure of any."""
    share = precision(found)
    if share is None:
        return None
    types = sorted(_types(found), key=lambda each: (each.right - each.labelled, each.type))
    people = len({label.who for label in found.labels})
    labelled = sum(each.labelled for each in types)
    return Faults(people, labelled, (share.value, *share.interval), tuple(types))


def _types(found: Audited) -> Iterator[TypeFaults]:
    """Yield what is known of each type; pairs that people are unsure of are left out."""
    of_type = defaultdict[str, list[Labelled]](list)
    for pair in found.pairs:
        if pair.verdict != UNSURE:
            of_type[pair.type].append(pair)
    labels = by_pair(found.labels)
    for name, pairs in of_type.items():
        share = share_of([pair.verdict == RIGHT for pair in pairs])
        assert share is not None
        wrong = [pair.pair_id for pair in pairs if pair.verdict == WRONG]
        whys = Counter(label.why or OTHER for each in wrong for label in labels[each] if label.label == WRONG)
        yield TypeFaults(name, len(pairs), len(pairs) - len(wrong), *share.interval, dict(whys.most_common()))
