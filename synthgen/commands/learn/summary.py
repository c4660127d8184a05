"""What has been learned as a mapping file and as a report.

Comes in: the weights, and how they came about. Goes out: YAML that `synth check` accepts and a person can read and edit, with
its origin in the comment at its top; and the lines that the command prints. The same seed gives the same bytes, so the file
says when the seed was last changed and not what time it is now.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from synthgen.commands.learn.records import BadRow
from synthgen.commands.learn.seed import Seed
from synthgen.commands.learn.tfidf import EVERY, TfidfSettings, Weights
from synthgen.commands.learn.twins import Twins
from synthgen.config.vocabulary import make_printable
from synthgen.console import pluralize

LINE = 112  # characters of a line of types
SHOWN = 5  # words of a kind that no tree knows, in the report


@dataclass
class RowCounts:
    """What became of the rows."""

    counted: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    first: dict[str, BadRow] = field(default_factory=dict)  # of each reason, an example
    unknown: dict[str, Counter[str]] = field(default_factory=lambda: {"types": Counter(), "tags": Counter()})

    def leave_out(self, bad: BadRow) -> None:
        """Counts a row that is left out; the example is the one that stands first, whichever comes first."""
        self.left_out[bad.reason] += 1
        self.first[bad.reason] = min(self.first.get(bad.reason, bad), bad, key=lambda one: one.where)

    @property
    def rows(self) -> int:
        """All rows of the seed."""
        return self.counted + self.left_out.total()


@dataclass(frozen=True)
class Origin:
    """How the weights came about."""

    seed: Seed
    tally: RowCounts
    settings: TfidfSettings
    types_by: str
    tags_by: str
    extends: str | None
    coverage: float  # share of the seed's own questions whose type gets a weight on their image
    rare: Sequence[str]  # types in the seed that are too rare to be learned
    absent: Sequence[str]  # types that the seed does not have
    twins: Sequence[Twins]
    are_merged: bool


def yaml_text(weights: Weights, origin: Origin) -> str:
    """The mapping file."""
    head = "\n".join(f"# {make_printable(line)}" for line in _head(weights, origin))
    about = f"Learned from {origin.tally.counted:,} rows of {origin.seed.name} by TF-IDF of their tags and instruction types."
    extends = [f"extends: {origin.extends}"] if origin.extends else []
    rules = [line for tag in sorted(weights, key=lambda tag: (tag != EVERY, tag)) for line in _rule(tag, weights[tag])]
    return "\n".join([head, f"about: {json.dumps(make_printable(about))}", *extends, "rules:", *rules]) + "\n"


def report(weights: Weights, origin: Origin) -> list[str]:
    """What the user is told."""
    tally = origin.tally
    lines = [
        f"{origin.seed.name}: {tally.rows:,} rows, {tally.counted:,} learned from, {tally.left_out.total():,} left out"
    ]
    for reason, times in tally.left_out.most_common():
        lines.append(f"  {times:>7,} {reason:<16} first: {tally.first[reason].where}: {tally.first[reason].detail}")
    for kind, unknown in tally.unknown.items():
        if unknown:
            shown = ", ".join(
                f"{word!r} ({times:,})"
                for word, times in sorted(unknown.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]
            )
            lines.append(f"  {unknown.total():,} words for {kind} that the pipeline does not know: {shown}")
    lines += [f"types {origin.types_by}; tags {origin.tags_by}", *_coverage(weights, origin)]
    lines += [
        f"twins{', merged' if origin.are_merged else ''}: {pair.other} is {pair.kept} "
        f"(tags {pair.tags_alike:.2f} alike, words {pair.words_alike:.2f})"
        for pair in origin.twins
    ]
    return [make_printable(line) for line in lines]


def _head(weights: Weights, origin: Origin) -> Iterator[str]:
    seed, settings = origin.seed, origin.settings
    yield "Written by `synth learn`. Edit it as you like: it is a mapping like any other."
    files = "1 file" if len(seed.files) == 1 else f"{len(seed.files):,} files"
    yield f"Seed        {seed.name}: {files}, {seed.bytes:,} bytes, last changed {seed.changed}"
    left_out = ", ".join(f"{times:,} {reason}" for reason, times in sorted(origin.tally.left_out.items()))
    yield f"Rows        {origin.tally.counted:,} of {origin.tally.rows:,}" + (
        f" (left out: {left_out})" if left_out else ""
    )
    yield f"Found       types {origin.types_by}; tags {origin.tags_by}"
    yield (
        f"Parameters  top_k {settings.top_k}, temperature {settings.temperature:g}, min_support {settings.min_support}"
        + (", twins merged" if origin.are_merged else "")
    )
    for number, line in enumerate(_coverage(weights, origin)):
        yield f"{'Coverage' if number == 0 else '':<11} {line}"
    for pair in origin.twins if origin.are_merged else ():
        yield f"Merged      {pair.other} into {pair.kept}"


def _coverage(weights: Weights, origin: Origin) -> Iterator[str]:
    if weights:
        types = {name for asked in weights.values() for name in asked}
        tags = pluralize(len(weights) - (EVERY in weights), "tag")
        yield f"{pluralize(len(types), 'instruction type')} in the rules of {tags}" + (
            " and of all images" if EVERY in weights else ""
        )
        yield f"{origin.coverage:.1%} of the seed's own questions are of a type that their image gets"
    fewer = f"in fewer than {origin.settings.min_support:,} rows (learn.min_support)"
    for names, why in ((origin.rare, fewer), (origin.absent, "not in the seed")):
        if names:
            yield f"not learned, {why}: {', '.join(names[:SHOWN])}" + (
                f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            )


def _rule(tag: str, asked: Mapping[str, float]) -> Iterator[str]:
    yield f"  - tags: {json.dumps(tag) if tag == EVERY else tag}"
    line = "    ask: {"
    for number, (name, weight) in enumerate(asked.items()):
        part = f"{name}: {weight:g}" + ("}" if number == len(asked) - 1 else ",")
        if number and len(line) + len(part) > LINE:
            yield line.rstrip()
            line = " " * 10
        line += part + " "
    yield line.rstrip()
