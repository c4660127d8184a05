"""The dataset card: the README.md beside the shards, in the form of the Hugging Face hub.

It is made from plain values. Licence and languages appear only if the user configured them; nothing is guessed. Text
from data, models or settings is escaped: every character that Markdown or HTML could interpret becomes a character
reference, and the front matter is written by a YAML library.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.engines.kinds import engine_kind

PLAIN = frozenset(" -.,;/()%+=")  # beside letters and digits; Markdown does not interpret them inside a line
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
    "images": "one image, decoded to a PIL image by the datasets library",
    "messages": "the conversation, the image first in the first turn; the form that TRL trains on",
    "image_id": "SHA-256 of the source image's bytes; an image with many turns can be in several samples",
    "width, height": "of the upright image, in pixels",
    "object_id": "the object of the source that the image was read from, as in the records of the run",
    "uris": "every place where the source had these bytes; of local files, the path below the source",
    "tags": "the tags of the image, with scores",
    "license": "of the image, where the source states one",
    "source_meta": "metadata of the image in the source, as JSON",
    "model, model_revision": "the model that answered; it asked too, unless Asked by names another",
    "pair_ids": "for each turn, the pair in 3-generated/pairs, with its recipe, raw replies and tokens",
    "types, forms, languages": "for each turn, the instruction type, answer form and language that were asked for",
    "score_…": "for each turn, the value of a score, or empty; that of a scoring pass is score_PASS_NAME",
}

ENGINES = ("Engine", "Engine that asked")  # facts
WRITTEN = (
    "Questions and answers were written by a model that looked at the images, then scored and selected by `synth`. "
    "They are synthetic: some will be wrong. Check them before you rely on them."
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
    """

    files: Sequence[tuple[str, int]]
    features: Sequence[Mapping[str, Any]]
    images: int
    samples: int
    turns: Mapping[str, Mapping[str, int]]
    decisions: Mapping[str, int]
    unpacked: Mapping[str, int]


def card(contents: ShardContents, facts: Mapping[str, str], select: SelectConfig, pack: PackConfig) -> str:
    """Return the text of the card.

    Args:
        contents: The contents of the shards.
        facts: The origin of the data under headings as `Model` or `Prompts`; `Engine` is one, and `Engine that asked`
            where it is another.
        select: The settings that pairs were selected with.
        pack: The settings of the shards, with licence and languages.
    """
    count = sum(contents.turns["type"].values())
    sections = [
        f"# {contents.samples:,} samples, {count:,} questions and answers about {contents.images:,} images",
        WRITTEN if all(engine_kind(facts[name]).is_model for name in ENGINES if name in facts) else SCRIPTED,
        "## Where it comes from\n" + _table(("", ""), facts.items()),
        "## Contents\n"
        + "\n\n".join(_count_table(kind, contents.turns[kind]) for kind in ("type", "form", "language")),
        "## Kept and dropped pairs\n" + _thresholds(select) + "\n\n" + _decisions(contents),
        "## Columns\n"
        + _table(("column", "content"), ((f"`{name}`", text) for name, text in COLUMNS.items()), is_escaped=True),
        _LOAD,
    ]
    front = yaml.safe_dump(_front_matter(contents, pack), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _escape(text: object, length: int = 200) -> str:
    """Return a text as one line that Markdown and HTML show unchanged."""
    line = " ".join(str(text).split())
    line = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(c if c.isalnum() or c in PLAIN else f"&#{ord(c)};" for c in line)


def _front_matter(contents: ShardContents, pack: PackConfig) -> dict[str, Any]:
    configured = {"license": pack.license, "language": list(pack.languages)}
    size = sum(size for _, size in contents.files)
    split = {"name": "train", "num_bytes": size, "num_examples": contents.samples}
    files = [f"data/{name}" for name, _ in contents.files]
    return {
        **{key: value for key, value in configured.items() if value},
        "pretty_name": "Synthetic visual instructions",
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "tags": ["synthetic", "vlm", "instruction-tuning", "synthgen"],
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
    table = _table(("score", "kept", "answer forms", "types"), rows) if rows else "No score had a threshold."
    return "\n\n".join([table, *(f"- {_escape(rule)}" for rule in _whole_set(select))])


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
    text = _table(("pairs", "how many", "share"), rows)
    if contents.unpacked:
        text += "\n\nSamples that could not be packed, because their image could not be fetched again:\n\n"
        text += _table(
            ("reason", "samples"), ((reason, f"{count:,}") for reason, count in _by_count(contents.unpacked))
        )
    return text


def _count_table(kind: str, counts: Mapping[str, int]) -> str:
    return _table((kind, "turns"), ((name, f"{count:,}") for name, count in _by_count(counts)))


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], *, is_escaped: bool = False) -> str:
    cells = ([cell if is_escaped else _escape(cell) for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


_LOAD = """## How to load it
```python
from datasets import load_dataset

data = load_dataset("parquet", data_files="data/*.parquet", split="train")
data[0]["images"][0]  # a PIL image
```

TRL's `SFTTrainer` takes `data.select_columns(["images", "messages"])`. With its defaults TRL 1.16 also learns the
questions, and cuts at 1,024 tokens; `SFTConfig(assistant_only_loss=True, max_length=None)` trains on the answers alone.
`synth export` writes the forms of other trainers."""
