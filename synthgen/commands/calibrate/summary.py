"""Writes the calibrated tagger as YAML.

Most nodes of a level share one threshold, that of the average node. The file gives it once as a pattern, and then names
the nodes that differ. It has no `least`: that is for thresholds that were not fitted.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from synthgen.commands.calibrate.fitting import Floats
from synthgen.config.taxonomy import Tree
from synthgen.config.vocabulary import make_printable
from synthgen.taggers import ClipTaggerFile, TaggerSpec


def patterns(thresholds: Floats, tree: Tree) -> dict[str, float]:
    """Return tag pattern -> threshold, given (nodes,) float64; the last pattern that matches a node counts.

    First comes a pattern per level, then each node that differs from it.
    """
    by_path = dict(zip(tree.nodes, map(float, thresholds), strict=True))
    by_level: dict[int, Counter[float]] = {}
    for path, threshold in by_path.items():
        by_level.setdefault(path.count("/"), Counter())[threshold] += 1
    common = {level: counts.most_common(1)[0][0] for level, counts in by_level.items()}
    of_levels = {"/".join(["*"] * (level + 1)): common[level] for level in sorted(common)}
    return of_levels | {path: value for path, value in by_path.items() if value != common[path.count("/")]}


def yaml_text(spec: TaggerSpec, file: ClipTaggerFile, thresholds: Floats, comments: Sequence[str]) -> str:
    """Return the tagger file.

    Args:
        spec: The tagger that was calibrated.
        file: Its file.
        thresholds: The fitted thresholds, (nodes,) float64.
        comments: Lines at the head of the file.
    """
    settings: Mapping[str, object] = {
        "about": f"Tagger '{spec.name}' with thresholds fitted to labelled images by `synth calibrate`.",
        "engine": file.engine,
        "taxonomy": file.taxonomy,
        "model": file.model,
        **({"pretrained": file.pretrained} if file.pretrained else {}),
        "most": file.most,
        **({"most_a_parent": file.most_a_parent} if file.most_a_parent else {}),
        "gate": file.gate,
        "threshold": file.threshold,
    }
    fitted = patterns(thresholds, spec.taxonomy.tree)
    lines = [f"# {make_printable(comment)}".rstrip() for comment in comments]
    lines += [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
    lines += ["thresholds:", *(f"  {json.dumps(pattern)}: {value}" for pattern, value in fitted.items())]
    return "\n".join(lines) + "\n"
