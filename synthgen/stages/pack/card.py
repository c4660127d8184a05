"""The dataset card: the README.md beside the shards, in the form of the Hugging Face hub.

It is made from plain values. Licence and languages appear only if the user configured them; nothing is guessed. Text
from data, models or settings is escaped: every character that Markdown or HTML could interpret becomes a character
reference, and the front matter is written by a YAML library.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.console.markdown import CITE, escape, make_table
from synthgen.engines.kinds import engine_kind

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
COLUMNS = {
    "id": "the sample: a hash of its image and its pairs in order",
    "images": "the image, or all images of a set in order, decoded to PIL images by the datasets library",
    "messages": "the conversation, the image first in the first turn; the form that TRL trains on",
    "image_id": "SHA-256 of the source image's bytes; an image with many turns can be in several samples",
    "width, height": "of the upright image, in pixels",
    "object_id": "the object of the source that the image was read from, as in the records of the run",
    "uris": "every place where the source had these bytes; of local files, the path below the source",
    "tags": "the tags of the image, with scores",
    "license, author, copyright, source_url": "of the image, where its source or its file states them",
    "source": "the name of the place that the image is from, where the run had several",
    "source_meta": "metadata of the image in the source, as JSON",
    "model, model_revision": "the model that answered; it asked too, unless Asked by names another",
    "pair_ids": "for each turn, the pair in 3-generated/pairs, with its recipe, raw replies and tokens",
    "types, forms, languages": "for each turn, the instruction type, answer form and language that were asked for",
    "score_…": "for each turn, the value of a score, or empty; that of a scoring pass is score_PASS_NAME",
}

ENGINES = ("Engine", "Engine that asked")  # facts
SET = "Set"  # the fact that names an instruction set whose pairs these are
WRITTEN = (
    "Questions and answers were written by a model that looked at the images, then scored and selected by `synth`. "
    "They are synthetic: some will be wrong. Check them before you rely on them."
)
IMPORTED = (
    "Questions and answers came with the instruction set that is named below; `synth` checked and selected them. Its "
    "terms and those of its images hold for this data set too."
)
SCRIPTED = (
    "> **The replies mean nothing.** A script made them, for tests; no model saw the images. Train nothing on them."
)


@dataclass(frozen=True)
class ShardContents:
    """The contents of all shards.

    Attributes:
        files: (name, bytes) of each, in order.
        features: Columns as of `schema.card_features`.
        turns: "type", "form" or "language" → name → turns.
        decisions: Reason → pairs.
        unpacked: Reason → samples.
        origins: "license" or "source" → name, or "" for none → images.
        reserved: Objects that nobody may teach a model with, and that were left out.
    """

    files: Sequence[tuple[str, int]]
    features: Sequence[Mapping[str, Any]]
    images: int
    samples: int
    turns: Mapping[str, Mapping[str, int]]
    decisions: Mapping[str, int]
    unpacked: Mapping[str, int]
    origins: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reserved: int = 0


@dataclass(frozen=True)
class CardNotes:
    """What a card has from the record of the run: sections, or "", and the command that made it, or "".

    Attributes:
        version: Of synthgen.
    """

    examples: str = ""
    faults: str = ""
    command: str = ""
    version: str = ""


def card(
    contents: ShardContents,
    facts: Mapping[str, str],
    select: SelectConfig,
    pack: PackConfig,
    notes: CardNotes = CardNotes(),
) -> str:
    """Return the text of the card.

    Args:
        contents: The contents of the shards.
        facts: The origin of the data under headings as `Model` or `Prompts`; `Engine` is one, and `Engine that asked`
            where it is another.
        select: The settings that pairs were selected with.
        pack: The settings of the shards, with licence and languages.
        notes: What the record of the run adds.
    """
    count = sum(contents.turns["type"].values())
    sections = [
        f"# {contents.samples:,} samples, {count:,} questions and answers about {contents.images:,} images",
        _origin(facts),
        *([notes.examples] if notes.examples else []),
        "## Where it comes from\n" + make_table(("", ""), facts.items()),
        "## Contents\n" + "\n\n".join(count_table(kind, contents.turns[kind]) for kind in ("type", "form", "language")),
        "## Rights to the images\n" + _rights(contents),
        "## Kept and dropped pairs\n" + _thresholds(select) + "\n\n" + _decisions(contents),
        *([notes.faults] if notes.faults else []),
        _USE,
        "## Columns\n"
        + make_table(("column", "content"), ((f"`{name}`", text) for name, text in COLUMNS.items()), is_escaped=True),
        _LOAD,
        *([_again(notes)] if notes.command else []),
        CITE,
    ]
    front = yaml.safe_dump(_front_matter(contents, pack, SET in facts), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _origin(facts: Mapping[str, str]) -> str:
    """Return who wrote the pairs."""
    if SET in facts:
        return IMPORTED
    return WRITTEN if all(engine_kind(facts[name]).is_model for name in ENGINES if name in facts) else SCRIPTED


def _again(notes: CardNotes) -> str:
    """Return the section with the command; the fence is longer than any that a setting may hold."""
    command = " ".join(notes.command.split())
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return f"## How to make it again\n{fence}\n{command}\n{fence}\n\n{_AGAIN.format(version=notes.version)}"


def _front_matter(contents: ShardContents, pack: PackConfig, is_imported: bool) -> dict[str, Any]:
    configured = {"license": pack.license, "language": list(pack.languages)}
    size = sum(size for _, size in contents.files)
    split = {"name": "train", "num_bytes": size, "num_examples": contents.samples}
    files = [f"data/{name}" for name, _ in contents.files]
    return {
        **{key: value for key, value in configured.items() if value},
        "pretty_name": "Visual instructions" if is_imported else "Synthetic visual instructions",
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "tags": [*([] if is_imported else ["synthetic"]), "vlm", "instruction-tuning", "synthgen"],
        "size_categories": [next((name for most, name in SIZES if contents.samples < most), "n>100M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": files}]}] if files else [],
        "dataset_info": {
            "features": list(contents.features),
            "splits": [split],
            "download_size": size,
            "dataset_size": size,
        },
    }


def _thresholds(select: SelectConfig) -> str:
    """Return the thresholds in words, or that there is none; then the rules over the whole set."""
    rows = []
    for name, rule in sorted(select.keep.items()):
        ends = [f"at least {rule.min:g}"] if rule.min is not None else []
        ends += [f"at most {rule.max:g}"] if rule.max is not None else []
        kept = " and ".join(ends) or "any value"
        if rule.drop is not None:
            kept += f", but not the lowest {rule.drop:.3g} of {_groups(rule.within)}"
        rows.append((name, kept, ", ".join(rule.forms), ", ".join(rule.types)))
    table = make_table(("score", "kept", "answer forms", "types"), rows) if rows else "No score had a threshold."
    return "\n\n".join([table, *(f"- {escape(rule)}" for rule in _whole_set(select))])


def _whole_set(select: SelectConfig) -> Iterator[str]:
    """Yield the rules over the whole set, and the code of the user that dropped pairs, a sentence each."""
    for name in select.functions:
        yield f"Pairs were dropped by the function {name}."
    for pattern, balance in sorted(select.balance.items()):
        times = f"{balance.ratio:g} times as many" if balance.ratio > 1 else "as many"
        where = _groups(balance.within)
        yield f"Of the types {pattern}, at most {times} answers say yes as say no, and no as yes, in {where}."
    if select.letters is not None:
        yield f"Each letter of multiple choice is right at most {select.letters:g} times as often as the rarest."
    for kind, pattern, quota in select.quotas.all():
        most = f"{quota.most:,} pairs" if quota.most is not None else f"a share of {quota.share:g} of the pairs"
        best = f", the best by {quota.by}" if quota.by else ""
        yield f"Of the {kind} {pattern} at most {most} are kept{best}."


def _groups(within: Sequence[str]) -> str:
    return f"each {' and '.join(within)}" if within else "all of them together"


def _decisions(contents: ShardContents) -> str:
    pairs = sum(contents.decisions.values())
    rows = [(reason, f"{count:,}", f"{count / pairs:.1%}") for reason, count in _by_count(contents.decisions)]
    text = make_table(("pairs", "how many", "share"), rows)
    if contents.unpacked:
        text += "\n\nSamples that could not be packed, because their image could not be fetched again:\n\n"
        text += make_table(
            ("reason", "samples"), ((reason, f"{count:,}") for reason, count in _by_count(contents.unpacked))
        )
    return text


def _rights(contents: ShardContents) -> str:
    """Return the images by licence and by source, and how many were left out for what is said of them."""
    parts = [share_table("licence", contents.origins.get("license", {}), "none stated")]
    if set(sources := contents.origins.get("source", {})) - {""}:
        parts.append(share_table("source", sources, "no name"))
    if contents.reserved:
        parts.append(
            "Objects of the source that were left out, because their file, their metadata or their server says that no "
            f"model may learn from them: {contents.reserved:,}."
        )
    return "\n\n".join(parts)


def share_table(kind: str, counts: Mapping[str, int], without: str, unit: str = "images") -> str:
    """Return the images, or another unit, of each name of a kind as a table with shares, the most frequent first."""
    total = sum(counts.values())
    rows = [(name or without, f"{count:,}", f"{count / total:.1%}") for name, count in _by_count(counts)]
    return make_table((kind, unit, "share"), rows)


def count_table(kind: str, counts: Mapping[str, int]) -> str:
    """Return the turns of each name of a kind as a table, the most frequent first."""
    return make_table((kind, "turns"), ((name, f"{count:,}") for name, count in _by_count(counts)))


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


_LOAD = """## How to load it
```python
from datasets import load_dataset

data = load_dataset("parquet", data_files="data/*.parquet", split="train")
data[0]["images"][0]  # a PIL image
```

TRL's `SFTTrainer` takes `data.select_columns(["images", "messages"])`. With its defaults TRL 1.16 also learns the
questions, and cuts at 1,024 tokens; `SFTConfig(assistant_only_loss=True, max_length=None)` trains on the answers alone.
`synth export` writes the forms of other trainers."""

_USE = """## Intended use
To tune vision-language models that answer questions about images, and to study how such data should be chosen.

- **Not to evaluate models.** Some answers are wrong; a benchmark needs answers that people checked.
- **Not as a source of facts**, about persons least of all: the texts describe images, and some describe them wrong.
- **Not beyond the licences of the images.** The column `license` has what the source states of each, if it does.

A tuned model learns the manners of whoever answered, and the errors and gaps with them."""

_AGAIN = """With synthgen {version}; SOURCE is where the images are, FOLDER is where the data go. The same images,
settings and definition files give the same plan; replies of a model can differ with its hardware and its version. The
record in the output folder, `frozen/`, has all settings and definition files word by word."""
