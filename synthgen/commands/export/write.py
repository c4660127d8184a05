"""Writing an export: each part that is not there, then what only the whole has."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from synthgen.commands.export.form import REASONS, Facts, Form, Part
from synthgen.commands.export.readme import CARD, LEFT_OUT, readme
from synthgen.commands.export.record import (
    ExportRecord,
    PartRecord,
    images_folder,
    read_part,
    write_export,
    write_part,
)
from synthgen.commands.export.sample import Sample, read_pairs, read_samples, turned_upright
from synthgen.console import StageProgress
from synthgen.errors import NothingUsable
from synthgen.store import Folder, RunFolder
from synthgen.tables import PACK


def write_parts(
    folder: RunFolder, out: Folder, form: Form, facts: Facts, shards: Sequence[str]
) -> tuple[Counter[str], Counter[str]]:
    """Write every part that is not there.

    Returns:
        The samples, turns, rows and images of all parts, and reason → samples and turns that were left out.

    Raises:
        NothingUsable: No sample can be written in this form.
    """
    rows, counts, left_out = Counter[str](), Counter[str](samples=0, turns=0, rows=0, images=0), Counter[str]()
    with StageProgress("export", len(shards), "shard") as progress:
        for number, shard in enumerate(shards):
            part = read_part(out, number)
            if part is None:
                pairs = read_pairs(folder, shard) if form.needs_pairs else {}
                part = _write_part(read_samples(folder, shard), form, Part(out, facts, number, rows.copy(), pairs))
            rows = Counter(part.rows)
            counts.update(samples=part.samples, turns=part.turns, images=part.images)
            left_out.update(reason for _, reason in part.left_out)
            progress.show(number + 1, f"{counts['samples']:,} samples")
    counts["rows"] = rows.total()
    if not counts["rows"]:
        why = ", ".join(f"{count:,} because {REASONS[reason]}" for reason, count in left_out.items())
        raise NothingUsable(f"{out.url}: nothing can be written in the form {form.name}; left out: {why}")
    return counts, left_out


def finish(folder: RunFolder, out: Folder, form: Form, facts: Facts, record: ExportRecord) -> None:
    """Write what only the whole has; `export.json` is the last, and a kill before it leaves the parts as they are."""
    form.layout.finish(out, facts)
    for name, content in form.others(facts).items():
        out.write(name, content.encode())
    if record.left_out:
        with out.stream(LEFT_OUT) as sink:
            sink.writelines(_left_out(out, facts))
    if "README.md" in folder.stage(PACK).folder.names(".md"):
        out.write(CARD, folder.stage(PACK).folder.read("README.md"))
    out.write("README.md", readme(form, facts, record).encode())
    write_export(out, record)


def _write_part(samples: Iterable[Sample], form: Form, part: Part) -> PartRecord:
    counts = Counter[str]()
    form.layout.write(part, _prepared(samples, form, part, counts))
    record = PartRecord(
        counts["samples"],
        counts["turns"],
        counts["images"],
        counts["image_bytes"],
        rows=dict(part.rows),
        files=part.files,
        left_out=tuple(part.left_out),
    )
    write_part(part.target, part.number, record)
    return record


def _prepared(samples: Iterable[Sample], form: Form, part: Part, counts: Counter[str]) -> Iterator[Sample]:
    """Yield the samples that can be written, with their images as the reader takes them; count them."""
    names = set[str]()
    for sample in samples:
        if any(marker in text for marker in form.markers for _, text in sample.messages("")):
            part.leave_out(sample.id, "marker")
            continue
        if form.ignores_exif:
            sample = replace(sample, pictures=tuple(map(turned_upright, sample.pictures)))
        if form.images == "beside":
            sample = _with_images(sample, part, names, counts)
        counts.update(samples=1, turns=len(sample.turns))
        yield sample


def _with_images(sample: Sample, part: Part, names: set[str], counts: Counter[str]) -> Sample:
    """Write the images of a sample, each once, and return the sample with their paths."""
    place = images_folder(part.number)
    for picture in sample.pictures:
        if picture.name not in names:
            part.target.child(place).put(picture.name, picture.data)
            names.add(picture.name)
            counts.update(images=1, image_bytes=len(picture.data))
    return replace(sample, paths=tuple(f"{place}/{picture.name}" for picture in sample.pictures))


def _left_out(out: Folder, facts: Facts) -> Iterator[bytes]:
    for part in (read_part(out, number) for number in range(facts.parts)):
        for name, reason in part.left_out if part else ():
            yield json.dumps({"id": name, "reason": reason}).encode() + b"\n"
