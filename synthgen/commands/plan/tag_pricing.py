"""The calls of taggers that ask a model, estimated before they tag a folder anew.

`synth plan` works on tagged images, so what was tagged is paid for. But a VLM tagger that was added, or edited, asks
again at the next `synth run --update`: about every image, or about those on which an earlier tagger found what it
refines. Numbers of images are exact, and so are the lists that the model gets on the first level; the levels below are
taken to be asked for as many tags as may be chosen.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synthgen.commands.plan.pricing import Usage, money
from synthgen.config.taxonomy import Tree
from synthgen.console import pluralize
from synthgen.engines.image_tokens import ImageRule, images_of
from synthgen.stages.contract import Job
from synthgen.store import RunFolder
from synthgen.tables import TAG, tags_table
from synthgen.taggers import TaggerSpec, VlmTaggerFile, starts_below

CHARACTERS_PER_TOKEN = 4.0  # of English text
PIXELS_PER_TOKEN = 28 * 28  # of an image, as in Qwen's models, where the rule of the model is not known
TOKENS_AROUND = 60  # of the question and the form of the reply
TOKENS_PER_NAME = 8  # of a reply


@dataclass(frozen=True)
class TagForecast:
    """What a tagger would ask its model; `usage` has no seconds, as the engine is not measured."""

    tagger: str
    images: int  # about which it is asked
    of: int  # tagged images
    calls: int  # at most
    usage: Usage


def forecast_tags(folder: RunFolder, job: Job) -> Iterator[TagForecast]:
    """Yield the calls of each tagger that asks a model and whose tags the folder lacks, or has of other settings."""
    log, taggers = folder.log(TAG), job.definitions.taggers
    for number, spec in enumerate(taggers):
        name = tags_table(spec.name)
        stale = [partition for partition in log.partitions if log.fingerprint(partition, name) != spec.fingerprint]
        if stale and isinstance(spec.file, VlmTaggerFile):
            yield _forecast(folder, spec, [before.name for before in taggers[:number]], stale, job)


def tag_notes(folder: RunFolder, job: Job) -> Iterator[str]:
    """Yield a line for each tagger that would ask its model."""
    price = job.pipeline.generate.price
    for forecast in forecast_tags(folder, job):
        usage = forecast.usage
        cost = money(usage, price, 0.0)
        paid = f", {cost:,.2f} {price.currency} by generate.price" if cost else ""
        yield (
            f"tagging with '{forecast.tagger}' asks its model about {forecast.images:,} of "
            f"{pluralize(forecast.of, 'image')}, in at most {pluralize(forecast.calls, 'call')}: about "
            f"{usage.prompt_tokens:,.0f} prompt tokens ({usage.cached_tokens:,.0f} of them cached) and "
            f"{usage.output_tokens:,.0f} written{paid}; they are not in the numbers below"
        )


def _forecast(
    folder: RunFolder, spec: TaggerSpec, before: Sequence[str], partitions: Sequence[str], job: Job
) -> TagForecast:
    """Return the calls of one tagger for some partitions."""
    pixels = job.pipeline.images.model_pixels
    assert isinstance(spec.file, VlmTaggerFile)
    rule = images_of(spec.model, spec.file.serve, may_download=False).rule if spec.model else None
    of = images = calls = 0
    usages: list[Usage] = []
    for partition in partitions:
        found = _found(folder, partition, before)
        for row in folder.table(TAG, partition, "images", ["object_id", "outcome", "width", "height"]).to_pylist():
            if row["outcome"] != "tagged":
                continue
            of += 1
            if levels := _levels(spec, found.get(row["object_id"], ())):
                images += 1
                calls += len(levels)
                usages.append(_usage(spec, levels, _image_tokens(rule, row["width"], row["height"], pixels)))
    return TagForecast(spec.name, images, of, calls, Usage.total(usages))


def _image_tokens(rule: ImageRule | None, width: int, height: int, pixels: int) -> float:
    """Return the tokens of an image that is scaled down to so many pixels."""
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    if rule is None:
        return scale**2 * width * height / PIXELS_PER_TOKEN
    return rule.tokens(max(1, round(scale * width)), max(1, round(scale * height))) + rule.around


def _found(folder: RunFolder, partition: str, taggers: Sequence[str]) -> dict[str, list[str]]:
    """Return object id -> paths of the tags that these taggers have given it."""
    found: dict[str, list[str]] = {}
    held = folder.log(TAG).tables()
    for name in map(tags_table, taggers):
        for row in folder.table(TAG, partition, name, ["object_id", "tags"]).to_pylist() if name in held else ():
            found.setdefault(row["object_id"], []).extend(tag["path"] for tag in row["tags"])
    return found


def _levels(spec: TaggerSpec, found: Sequence[str]) -> list[float]:
    """Return the tokens of the lists that the model gets for an image, level by level; none if it is not asked."""
    assert isinstance(spec.file, VlmTaggerFile)
    tree, most = spec.taxonomy.tree, spec.file.a_level
    starts = starts_below(spec, found) if spec.file.refines() else []
    if spec.file.refines() and not starts:
        return []
    level = [child for path in starts for child in tree.nodes[path].children] if starts else list(tree.roots)
    levels = []
    while level:
        levels.append(sum(_tokens(tree, path) for path in level))
        groups = sorted((path for path in level if tree.nodes[path].children), key=lambda path: -_size(tree, path))
        level = [child for path in groups[:most] for child in tree.nodes[path].children]
    return levels


def _usage(spec: TaggerSpec, levels: Sequence[float], image_tokens: float) -> Usage:
    """Return the usage of one image; from the second call on the image is in the engine's cache."""
    assert isinstance(spec.file, VlmTaggerFile)
    text = sum(levels) + TOKENS_AROUND * len(levels)
    return Usage(
        image_tokens * len(levels) + text,
        image_tokens * (len(levels) - 1),
        TOKENS_PER_NAME * spec.file.a_level * len(levels),
    )


def _tokens(tree: Tree, path: str) -> float:
    node = tree.nodes[path]
    return (len(node.name) + len(node.means) + len("- : \n")) / CHARACTERS_PER_TOKEN


def _size(tree: Tree, path: str) -> int:
    return len(tree.nodes[path].children)
