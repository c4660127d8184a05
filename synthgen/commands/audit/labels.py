"""Labels of people on pairs: one small file each in `audit/`, so that several people can label at the same time."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from synthgen.errors import UserMistake
from synthgen.store import RunFolder
from synthgen.store.records import checked_record, is_text, or_none

FOLDER = "audit"
RIGHT, WRONG, UNSURE = LABELS = ("right", "wrong", "unsure")
WHYS = (  # closed, so that a label holds nothing of what an image shows
    "the answer is wrong",
    "it is not in the picture",
    "the question cannot be answered",
    "the question is unclear",
    "the answer is incomplete",
    "other",
)
REPAIR = "delete it; the pair can be labelled again"
_SHAPE = {
    "pair_id": is_text,
    "label": lambda value: value in LABELS,
    "why": or_none(lambda value: value in WHYS),
    "who": is_text,
    "at": is_text,
}


@dataclass(frozen=True)
class Label:
    """What a person says of a pair; `why` is one of WHYS, or None."""

    pair_id: str
    label: str
    why: str | None
    who: str
    at: str


def new_label(pair_id: str, label: object, why: object, who: str) -> Label:
    """Return a label of now. Raises ValueError if it is none of LABELS, or its reason none of WHYS."""
    if not isinstance(label, str) or label not in LABELS:
        raise ValueError(f"a label is one of {', '.join(LABELS)}")
    if why is not None and (not isinstance(why, str) or why not in WHYS):
        raise ValueError(f"a reason is one of {'; '.join(WHYS)}")
    return Label(pair_id, label, why, who, datetime.now(UTC).isoformat(timespec="seconds"))


def add_label(folder: RunFolder, label: Label) -> None:
    """Store a label after those that are there."""
    folder.out.child(FOLDER).append(json.dumps(asdict(label), ensure_ascii=False).encode())


def read_labels(folder: RunFolder) -> list[Label]:
    """Return the labels of a run: of two by one person on one pair, the later."""
    place = folder.out.child(FOLDER)
    values = place.read_every_json(REPAIR)
    latest: dict[tuple[str, str], Label] = {}
    for name in place.numbered():
        record = checked_record(values[name], _SHAPE, f"{place.url}/{name}", REPAIR)
        label = Label(**{key: record[key] for key in _SHAPE})
        latest[label.pair_id, label.who] = label
    return list(latest.values())


def check_name(who: str) -> str:
    """Return the name of a person without spaces around it. Raises UserMistake if it is empty."""
    if not who.strip():
        raise UserMistake("--by: labels have the name of who gave them; name yourself, for example --by ada")
    return who.strip()


def by_pair(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """Return the labels of each pair."""
    found: dict[str, list[Label]] = {}
    for label in labels:
        found.setdefault(label.pair_id, []).append(label)
    return found
