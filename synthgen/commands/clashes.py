"""Notes of `synth check` on tags that a CLIP cannot tell apart, since its tokenizer cleans their names to one text."""

from collections.abc import Iterator, Sequence

from synthgen.config.phrasings import own_sentences
from synthgen.config.taxonomy import Node, Taxonomy
from synthgen.taggers import TaggerSpec
from synthgen.taggers.cleaning import Cleaning, clean, cleaning_of


def clash_notes(taxonomy: Taxonomy, taggers: Sequence[TaggerSpec]) -> Iterator[str]:
    """Yield a line for each pair of tags of which a name of one is a name of the other once it is cleaned.

    Names are compared in the form that SigLIP models read, whatever the taggers are, and in the form that the model of
    each tagger reads, where that is known.
    """
    cleanings: dict[str, Cleaning] = {spec.name: how for spec in taggers if (how := cleaning_of(spec))}
    told: set[tuple[str, str]] = set()
    for how in dict.fromkeys((*cleanings.values(), "canonicalize")):
        readers = [f"tagger '{name}'" for name, other in cleanings.items() if other == how]
        reader = f"the model of {' and '.join(readers)}" if readers else "a SigLIP model"
        for (first, first_name), (second, second_name), text in clashes(taxonomy, how):
            if (first, second) not in told:
                told.add((first, second))
                yield (
                    f"note: {reader} reads '{first_name}' of {first} and '{second_name}' of {second} as one text, "
                    f"'{text}'; give one of them other words"
                )


def clashes(taxonomy: Taxonomy, how: Cleaning) -> Iterator[tuple[tuple[str, str], tuple[str, str], str]]:
    """Yield two tags, each with its name, and the text to which both names are cleaned."""
    first_use: dict[str, tuple[str, str]] = {}
    for node in taxonomy.tree:
        if node.path not in taxonomy.compared:
            continue
        for name in names_of(node):
            text = clean(name, how)
            other = first_use.setdefault(text, (node.path, name))
            if other[0] != node.path:
                yield other, (node.path, name), text


def names_of(node: Node) -> list[str]:
    """Return the names under which a CLIP knows a tag: its own sentences, or its name and the others of it."""
    return list(own_sentences(node.values.get("text"))) or [node.words, *node.values.get("also", ())]
