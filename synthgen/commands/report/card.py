"""Examples for the card of the shards: some kept pairs of the gallery, with their pictures."""

import base64
from collections.abc import Iterator, Sequence

from synthgen.commands.report.examples import Example
from synthgen.commands.report.outcomes import KEPT
from synthgen.commands.report.pictures import Picture
from synthgen.stages.pack.card_notes import PICTURES, CardExample, keep_examples
from synthgen.store import RunFolder

EXAMPLES = 4


def show_in_card(folder: RunFolder, examples: Sequence[Example], pictures: dict[str, Picture | str]) -> None:
    """Have the card show kept pairs: of different types, and of different images."""
    shown, files = list[CardExample](), dict[str, bytes]()
    for example, picture in _chosen(examples, pictures):
        name = f"{example.image_id[:16]}{PICTURES}"
        files[name] = base64.b64decode(picture.url.partition(",")[2])
        options = " ".join(f"{letter}. {option}" for letter, option in example.options)
        question = f"{example.question} {options}".strip()
        shown.append(CardExample(name, example.type, question, example.answer))
    keep_examples(folder, shown, files)


def _chosen(examples: Sequence[Example], pictures: dict[str, Picture | str]) -> Iterator[tuple[Example, Picture]]:
    """Yield EXAMPLES kept pairs, as far as there are so many types and images with a picture."""
    types, images = set[str](), set[str]()
    for example in examples:
        picture = pictures.get(example.image_id)
        if example.outcome != KEPT or example.before or not isinstance(picture, Picture):
            continue
        if example.type in types or example.image_id in images:
            continue
        types.add(example.type)
        images.add(example.image_id)
        yield example, picture
        if len(types) == EXAMPLES:
            return
