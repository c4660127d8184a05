"""What a card shows beside counts: examples with pictures, and what people found wrong.

Both come after the shards: examples from the report of a run, faults from an audit. They are kept in `5-shards/card`,
so that each writing of the card has them, and their sections can be put into a card that is there.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthgen.console.markdown import escape, make_table
from synthgen.errors import Damaged
from synthgen.store import Folder, RunFolder
from synthgen.tables import PACK

FOLDER = "card"
PICTURES = ".webp"
EXAMPLES, FAULTS = "examples.json", "faults.json"
CARD = "README.md"
SIDE = 320  # pixels of the longer side of a picture, as it is shown
LONGEST = 600  # characters of a question or an answer
REPAIR = "remove it; the next report or audit of the run writes it again"


@dataclass(frozen=True)
class CardExample:
    """A kept pair; its picture is in the folder of the card, and its options are part of the question."""

    picture: str
    type: str
    question: str
    answer: str


@dataclass(frozen=True)
class TypeFaults:
    """What people said of the pairs of a type; `low` and `high` are the ends of the interval of the share right."""

    type: str
    labelled: int
    right: int
    low: float
    high: float
    whys: Mapping[str, int]


@dataclass(frozen=True)
class Faults:
    """What people found wrong.

    Attributes:
        people: How many they were.
        share: Of right pairs among all kept ones, with the ends of its interval.
        types: Those with the most wrong pairs first.
    """

    people: int
    labelled: int
    share: tuple[float, float, float]
    types: tuple[TypeFaults, ...]


def place_of(folder: RunFolder) -> Folder:
    """Return the folder of what a card shows."""
    return folder.stage(PACK).folder.child(FOLDER)


def pictures_of(folder: RunFolder) -> list[str]:
    """Return the names of the pictures of a card."""
    return place_of(folder).names(PICTURES)


def keep_examples(folder: RunFolder, examples: Sequence[CardExample], pictures: Mapping[str, bytes]) -> None:
    """Keep examples in place of earlier ones, and show them in the card."""
    place = place_of(folder)
    for name, data in pictures.items():
        place.write(name, data)
    place.write(EXAMPLES, json.dumps([asdict(each) for each in examples], ensure_ascii=False).encode())
    _show(folder, "Examples", examples_section(folder))
    place.remove([name for name in place.names(PICTURES) if name not in pictures])


def forget_examples(folder: RunFolder) -> None:
    """Delete the examples of a card, as of a run from which images are taken out."""
    place = place_of(folder)
    place.remove([EXAMPLES, *place.names(PICTURES)])


def keep_faults(folder: RunFolder, faults: Faults) -> None:
    """Keep what people found wrong, in place of what they found before, and say it in the card."""
    place, data = place_of(folder), json.dumps(asdict(faults), ensure_ascii=False).encode()
    if FAULTS in place.names(".json") and place.read(FAULTS) == data:
        return
    place.write(FAULTS, data)
    _show(folder, "Known faults", faults_section(folder))


def examples_section(folder: RunFolder) -> str:
    """Return the section with the examples; empty without any."""
    kept = _read(folder, EXAMPLES, lambda value: [CardExample(**each) for each in value])
    return "## Examples\n" + "\n\n".join(map(_example, kept)) if kept else ""


def faults_section(folder: RunFolder) -> str:
    """Return the section on what people found wrong, or that nobody has looked."""
    kept = _read(folder, FAULTS, _faults)
    if not kept:
        return (
            "## Known faults\nNobody has labelled a sample of these pairs yet, so it is not known how many are wrong. "
            "`synth audit` draws one, and this section then says what people found, by type."
        )
    value, low, high = kept.share
    people = "1 person" if kept.people == 1 else f"{kept.people:,} people"
    rows = (
        (each.type, f"{each.labelled:,}", f"{each.right / each.labelled:.0%}", f"{each.low:.0%} to {each.high:.0%}",
         ", ".join(f"{why} ({count:,})" for why, count in each.whys.items()))
        for each in kept.types if each.labelled
    )  # fmt: skip
    return (
        f"## Known faults\n{people} labelled {kept.labelled:,} pairs, drawn by type. By them {value:.1%} of the pairs "
        f"are right ({low:.1%} to {high:.1%}, at 95 %). Types with the most wrong pairs come first:\n\n"
        + make_table(("type", "labelled", "right", "95 %", "what was wrong"), rows)
    )


def with_section(card: str, title: str, section: str) -> str:
    """Return a card with a section in place of the one of that title, or before the second one; "" takes it out."""
    parts = re.split(r"^(?=## )", card, flags=re.MULTILINE)  # no text of others begins a line with that: it is escaped
    own = [number for number, part in enumerate(parts) if part.partition("\n")[0] == f"## {title}"]
    new = [f"{section}\n\n"] if section else []
    if own:
        parts[own[0] : own[0] + 1] = new
    else:
        parts[1:1] = new
    return "".join(parts)


def _example(example: CardExample) -> str:
    question, answer = (escape(text, LONGEST) for text in (example.question, example.answer))
    picture = f'<img src="{FOLDER}/{escape(example.picture)}" alt="The picture that the question is about">'
    return f"{picture}\n\n**{question}**\n\n{answer}\n\n*{escape(example.type)}*"


def _faults(value: Any) -> Faults:
    types = tuple(TypeFaults(**each) for each in value["types"])
    return Faults(value["people"], value["labelled"], tuple(value["share"]), types)


def _read(folder: RunFolder, name: str, parse: Callable[[Any], Any]) -> Any:
    """Return a record of the card; None if there is none."""
    place = place_of(folder)
    if name not in place.names(".json"):
        return None
    try:
        return parse(place.read_json(name, REPAIR))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Damaged(f"{place.url}/{name}: is not from here ({error}); {REPAIR}") from error


def _show(folder: RunFolder, title: str, section: str) -> None:
    """Put a section into the card, where there is a card."""
    place = folder.stage(PACK).folder
    if CARD in place.names(".md"):
        place.write(CARD, with_section(place.read(CARD).decode(), title, section).encode())
