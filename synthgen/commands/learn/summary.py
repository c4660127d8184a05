"""Learned weights as a mapping file and as a report.

The file passes `synth check`, and a person can read and edit it. The same seed gives the same bytes, so its comment
names the day on which the seed last changed, and not today.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from synthgen.commands.learn.held_out import HeldOut
from synthgen.commands.learn.request import LearnPlan
from synthgen.commands.learn.tfidf import ALL_IMAGES, Weights
from synthgen.commands.learn.twins import Twins
from synthgen.commands.usable import UseCounts
from synthgen.config.vocabulary import make_printable
from synthgen.console import pluralize
from synthgen.errors import listed

WIDTH = 112  # characters of a line of types
TYPES = 5  # in a line of the report


@dataclass(frozen=True)
class Origin:
    """How the weights came about."""

    plan: LearnPlan
    rows: UseCounts
    held_out: HeldOut
    rare: Sequence[str]  # types in the seed that are too rare to be learned
    absent: Sequence[str]  # types that the seed does not have
    twins: Sequence[Twins]

    @property
    def has_merged_twins(self) -> bool:
        """Whether each pair of twins was made one type."""
        return self.plan.request.pipeline.learn.merge_twins


def mapping_yaml(weights: Weights, origin: Origin) -> str:
    """Return the mapping file."""
    head = "\n".join(f"# {make_printable(line)}" for line in _head(weights, origin))
    about = (
        f"Learned from {origin.rows.used:,} rows of {origin.plan.seed.name} "
        "by TF-IDF of their tags and instruction types."
    )
    extends = [f"extends: {origin.plan.request.extends}"] if origin.plan.request.extends else []
    tags = sorted(weights, key=lambda tag: (tag != ALL_IMAGES, tag))
    rules = [line for tag in tags for line in _rule(tag, weights[tag])]
    return "\n".join([head, f"about: {json.dumps(make_printable(about))}", *extends, "rules:", *rules]) + "\n"


def report(weights: Weights, origin: Origin) -> list[str]:
    """Return the lines that the command prints."""
    seed = origin.plan.seed
    lines = [*origin.rows.lines(seed.name, "rows")]
    if seed.others:
        files = ", ".join(pluralize(count, f"{suffix} file") for suffix, count in sorted(seed.others.items()))
        lines.append(f"not read: {files}, because the folder holds {posixpath.splitext(seed.files[0])[1]} files")
    lines += [_sources(origin), *_coverage(weights, origin)]
    lines += [
        f"twins{', merged' if origin.has_merged_twins else ''}: {pair.other} is {pair.kept} "
        f"(tags {pair.tag_similarity:.2f} alike, words {pair.word_similarity:.2f})"
        for pair in origin.twins
    ]
    return [make_printable(line) for line in lines]


def nothing_learned(origin: Origin) -> str:
    """Return why there are no weights, in one line."""
    reasons = [line.strip() for line in origin.rows.lines(origin.plan.seed.name, "rows")]
    return make_printable("; ".join([*reasons, _sources(origin), *_coverage({}, origin)]))


def _head(weights: Weights, origin: Origin) -> Iterator[str]:
    seed, counts, settings = origin.plan.seed, origin.rows, origin.plan.request.tfidf
    yield "Written by `synth learn`. Edit it as you like: it is a mapping like any other."
    files = pluralize(len(seed.files), "file")
    yield f"Seed        {seed.name}: {files}, {seed.bytes:,} bytes, last changed {seed.changed}"
    reasons = counts.reasons()
    yield f"Rows        {counts.used:,} of {counts.total:,}" + (f" (left out: {reasons})" if reasons else "")
    yield f"Found       {_sources(origin)}"
    parameters = (
        f"top_k {settings.top_k}, temperature {settings.temperature:g}, min_support {settings.min_support}"
        f"{', twins merged' if origin.has_merged_twins else ''}"
    )
    yield f"Parameters  {parameters}"
    for number, line in enumerate(_coverage(weights, origin)):
        yield f"{'Coverage' if number == 0 else '':<11} {line}"
    for pair in origin.twins if origin.has_merged_twins else ():
        yield f"Merged      {pair.other} into {pair.kept}"


def _sources(origin: Origin) -> str:
    return f"types {origin.plan.types_origin}; tags {origin.plan.tags_origin}"


def _coverage(weights: Weights, origin: Origin) -> Iterator[str]:
    if weights:
        types = {name for asked in weights.values() for name in asked}
        tags = pluralize(len(weights) - (ALL_IMAGES in weights), "tag")
        everywhere = " and of all images" if ALL_IMAGES in weights else ""
        yield f"{pluralize(len(types), 'instruction type')} in the rules of {tags}{everywhere}"
        yield from origin.held_out.lines()
    too_rare = f"in fewer than {origin.plan.request.tfidf.min_support:,} rows (learn.min_support)"
    for names, reason in ((origin.rare, too_rare), (origin.absent, "not in the seed")):
        if names:
            yield f"not learned, {reason}: {listed(names, TYPES)}"


def _rule(tag: str, asked: Mapping[str, float]) -> Iterator[str]:
    yield f"  - tags: {json.dumps(tag) if tag == ALL_IMAGES else tag}"
    line = "    ask: {"
    for number, (name, weight) in enumerate(asked.items()):
        part = f"{name}: {weight:g}" + ("}" if number == len(asked) - 1 else ",")
        if number and len(line) + len(part) > WIDTH:
            yield line.rstrip()
            line = " " * 10
        line += part + " "
    yield line.rstrip()
