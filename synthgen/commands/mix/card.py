"""The card of a mixture: every set with its origin and licences, what was taken of it and why not the rest."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
import yaml

from synthgen import __version__
from synthgen.commands.mix.choice import OUTCOMES, SetCounts
from synthgen.commands.mix.survey import Source
from synthgen.commands.mix.write import MixContext
from synthgen.commands.report.settings import facts_of
from synthgen.config.mixture import MixtureFile
from synthgen.console.markdown import make_table
from synthgen.job import run_record
from synthgen.stages.pack.card import COLUMNS, SIZES, count_table, share_table
from synthgen.stages.pack.schema import card_features
from synthgen.store import RunFolder
from synthgen.tables import PACK

Counts = Mapping[tuple[int, str], SetCounts]
KINDS = ("type", "form", "language")
MORE = {
    "mixed_from": "the set of the mixture that the sample is from",
    "stage": "of the training, for which the sample is meant",
}
ORIGIN = ("Set", "Form", "Model", "Asked by")  # facts of a run that say where its pairs are from
LOAD = """## How to load it
```python
from datasets import load_dataset

data = load_dataset("parquet", data_files="data/*.parquet", split="train")
first = load_dataset("parquet", data_files="data/stage-STAGE-*.parquet", split="train")
```

`synth train` takes the folder, or the files of a stage by such a pattern."""


def mixture_card(
    folder: RunFolder,
    mixture: MixtureFile,
    stages: Mapping[int, Sequence[Source]],
    counts: Counts,
    context: MixContext,
) -> str:
    """Return the text of the card of a mixture whose shards are committed."""
    index = _Index(folder)
    sources = [(stage, source) for stage, own in stages.items() for source in own]
    samples, turns = sum(index.samples.values()), index.turns["type"].total()
    sections = [
        f"# {samples:,} samples, {turns:,} questions and answers from {len(sources):,} sets",
        f"{mixture.about} Mixed by `synth mix` of synthgen {__version__}; a sample is as its set has it. The terms of "
        "each set and of its images hold for its samples.",
        "## Sets\n" + make_table(SETS, (_set_row(stage, source, counts, index) for stage, source in sources)),
        "## Rights to the images\n" + share_table("licence of the image", index.licenses, "not stated", "samples"),
        "## What was taken\n" + _rules(mixture, sources) + "\n\n" + _outcomes(counts),
        "## Contents\n" + "\n\n".join(count_table(kind, index.turns[kind]) for kind in KINDS),
        "## Columns\n"
        + make_table(
            ("column", "content"), ((f"`{name}`", text) for name, text in {**COLUMNS, **MORE}.items()), is_escaped=True
        ),
        LOAD.replace("STAGE", str(min(stages))),
    ]
    front = yaml.safe_dump(_front(folder, mixture, context, samples), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


SETS = ("stage", "set", "origin", "licences of its images", "samples", "turns")


class _Index:
    """The counts of a mixture's shards.

    Attributes:
        samples: Set and stage → samples.
        of_sets: The same → licence → samples.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.samples, self.licenses = Counter[tuple[int, str]](), Counter[str]()
        self.of_sets: dict[tuple[int, str], Counter[str]] = {}
        self.turns = {kind: Counter[str]() for kind in KINDS}
        for partition, name in _set_of_partitions(folder).items():
            rows = folder.table(PACK, partition, "index")
            stage = folder.log(PACK).partitions[partition][-1].epoch
            licenses = Counter(each or "not stated" for each in rows.column("license").to_pylist())
            self.samples[stage, name] += rows.num_rows
            self.licenses.update(licenses)
            self.of_sets.setdefault((stage, name), Counter()).update(licenses)
            for kind in KINDS:
                self.turns[kind].update(pc.list_flatten(rows.column(f"{kind}s")).to_pylist())


def _set_of_partitions(folder: RunFolder) -> dict[str, str]:
    """Return the set that each partition is of, by the name of its file: stage-NUMBER-SET-PARTITION."""
    found = {}
    for partition in folder.log(PACK).partitions:
        files = [file for part in folder.log(PACK).parts(partition, "data") for file in part.files]
        for file in files[:1]:
            found[partition] = file.name.split("-", 2)[2].partition(f"-{partition}")[0]
    return found


def _set_row(stage: int, source: Source, counts: Counts, index: _Index) -> list[object]:
    facts = dict(facts_of(source.run, run_record.pipeline_of(source.run)))
    origin = ", ".join(f"{name.lower()} {facts[name]}" for name in ORIGIN if name in facts)
    licenses = index.of_sets.get((stage, source.name), Counter())
    named = ", ".join(f"{name} ({count:,})" for name, count in licenses.most_common(5))
    more = f" and {len(licenses) - 5} more" if len(licenses) > 5 else ""
    own = counts[stage, source.name]
    return [stage, source.name, origin, f"{named}{more}", f"{own.samples:,}", f"{own.pairs['taken']:,}"]


def _rules(mixture: MixtureFile, sources: Sequence[tuple[int, Source]]) -> str:
    """Return in words how much of each set is taken."""
    lines = [
        f"- {source.name}: " + ", ".join(_amounts(source))
        for _, source in sources
        if source.settings.weight is not None or source.settings.most is not None
    ]
    for kind, pattern, quota in mixture.quotas.all():
        most = f"{quota.most:,} pairs" if quota.most is not None else f"a share of {quota.share:g}"
        lines.append(f"- of the {kind} `{pattern}` at most {most} of a stage")
    if mixture.same_pair is not None:
        lines.append("- the same question and answer about the same picture comes once in a stage")
    return "\n".join(lines) or "Everything was taken."


def _amounts(source: Source) -> Iterator[str]:
    if source.settings.weight is not None:
        yield f"weight {source.settings.weight:g} in its stage"
    if source.settings.most is not None:
        yield f"at most {source.settings.most:,} samples"


def _outcomes(counts: Counts) -> str:
    total = sum((own.pairs for own in counts.values()), Counter[str]())
    rows = [(name, text, f"{total[name]:,}") for name, text in OUTCOMES.items() if total[name]]
    return make_table(
        ("pairs", "meaning", "how many"), [*rows, ("all", "kept pairs of all sets", f"{total.total():,}")]
    )


def _front(folder: RunFolder, mixture: MixtureFile, context: MixContext, samples: int) -> dict[str, Any]:
    files = [(file.name, file.bytes) for file in folder.log(PACK).files("data")]
    size = sum(each for _, each in files)
    by_stage: dict[str, list[str]] = {}
    for name, _ in files:
        by_stage.setdefault("-".join(name.split("-", 2)[:2]), []).append(f"data/{name}")
    everything = [path for paths in by_stage.values() for path in paths]
    configs = [("default", everything), *by_stage.items()] if len(by_stage) > 1 else [("default", everything)]
    configured = {"license": mixture.pack.license, "language": list(mixture.pack.languages)}
    return {
        **{key: value for key, value in configured.items() if value},
        "pretty_name": "Mixed visual instructions",
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "tags": ["vlm", "instruction-tuning", "synthgen"],
        "size_categories": [next((name for most, name in SIZES if samples < most), "n>100M")],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": paths}]} for name, paths in configs
        ],
        "dataset_info": {
            "features": card_features(context.schema),
            "splits": [{"name": "train", "num_bytes": size, "num_examples": samples}],
            "download_size": size,
            "dataset_size": size,
        },
    }
