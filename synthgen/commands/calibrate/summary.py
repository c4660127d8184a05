"""A calibrated tagger as a file, and what became of the labelled images in words.

Comes in: thresholds and a report. Goes out: YAML for the user's shelf, with the report as its head, and lines to print. Most nodes of
a level share one threshold, that of the average node; so the file says it once as a pattern, and then names the others.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from synthgen.commands.calibrate.fitting import Floats
from synthgen.commands.calibrate.labels import LabelCounts
from synthgen.config.taxonomy import Tree
from synthgen.config.vocabulary import make_printable
from synthgen.taggers import ClipTaggerFile, TaggerSpec

SHOWN = 5  # unknown words


def patterns(thresholds: Floats, tree: Tree) -> dict[str, float]:
    """Tag pattern -> threshold, a pattern a level and then the nodes that differ; the last that matches counts."""
    by_path = dict(zip(tree.nodes, map(float, thresholds), strict=True))
    depths = sorted({path.count("/") for path in by_path})
    common = {
        depth: Counter(value for path, value in by_path.items() if path.count("/") == depth).most_common(1)[0][0]
        for depth in depths
    }
    found = {"/".join(["*"] * (depth + 1)): common[depth] for depth in depths}
    return found | {path: value for path, value in by_path.items() if value != common[path.count("/")]}


def yaml_text(spec: TaggerSpec, file: ClipTaggerFile, thresholds: Floats, head: Sequence[str]) -> str:
    """The tagger file."""
    about = f"Tagger '{spec.name}' with thresholds fitted to labelled images by `synth calibrate`."
    settings: Mapping[str, object] = {
        "about": about,
        "engine": file.engine,
        "taxonomy": file.taxonomy,
        "model": file.model,
        **({"pretrained": file.pretrained} if file.pretrained else {}),
        "most": file.most,
        "threshold": file.threshold,
    }
    lines = [f"# {make_printable(line)}".rstrip() for line in head]
    lines += [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
    lines += [
        "thresholds:",
        *(f"  {json.dumps(path)}: {value}" for path, value in patterns(thresholds, spec.taxonomy.tree).items()),
    ]
    return "\n".join(lines) + "\n"


def tally_lines(name: str, tally: LabelCounts) -> Iterator[str]:
    """How many images were used, and why others were not."""
    yield make_printable(
        f"{name}: {tally.used + tally.left_out.total():,} images, {tally.used:,} used, {tally.left_out.total():,} left out"
    )
    for reason, times in tally.left_out.most_common():
        yield make_printable(f"  {times:>7,} {reason:<16} first: {tally.first[reason]}")
    if tally.unknown:
        shown = ", ".join(
            f"{word!r} ({times:,})"
            for word, times in sorted(tally.unknown.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]
        )
        yield make_printable(f"  {tally.unknown.total():,} labels that the taxonomy does not have: {shown}")


def why_left_out(tally: LabelCounts) -> str:
    """The end of a message about too few images."""
    reasons = ", ".join(f"{times:,} {reason}" for reason, times in tally.left_out.most_common())
    return f"; left out: {reasons}" if reasons else ""
