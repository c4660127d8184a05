"""How good tags are, before calibration and after, and what backing off to the parent is worth.

    python benchmarks/tagging_quality.py [--quick]

The nano CLIP tags pictures of the drawn world that it was not trained on; their scene graphs say what is true. Before: one
threshold for every tag, as a tagger begins of whose scores nothing is known, and the tagger as it is shipped: trained on these
very tags with a sigmoid loss, its 0.5 is hard to better. After: thresholds fitted by `synth calibrate` to so many other
pictures, first with leaves alone, where a group is a tag only if one of its members is, then with back-off, where a group that
is sure stands for members that are not. Precision, recall and F1 are over all cells of a level together.
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np
from drawn import Picture, pictures

from synthgen import taggers
from synthgen.commands.calibrate import fitting
from synthgen.commands.calibrate.fitting import Flags, LabelledScores
from synthgen.config.taxonomy import Tree
from synthgen.taggers import ClipTagger, ClipTaggerFile

BATCH = 64
BEGUN = 0.05  # the threshold that a tagger of photographs begins with here, before anything is known of its scores
LEVELS = {"groups": 0, "leaves": 1}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="600 pictures to judge by instead of 2000, and fewer to fit to"
    )
    quick = parser.parse_args().quick
    spec = taggers.load("drawn-clip")
    assert isinstance(spec.file, ClipTaggerFile)
    tool, tree, most = ClipTagger(spec, spec.file), spec.taxonomy.tree, spec.file.most
    sizes = (50, 200, 600) if quick else (50, 200, 800, 3200)
    labelled, test = (
        scored(tool, tree, pictures("teach", sizes[-1])),
        scored(tool, tree, pictures("test", 600 if quick else 2000)),
    )
    shipped = np.array([spec.file.threshold_of(path) for path in tree.nodes])
    said = {
        f"{BEGUN:g} for every tag": fitting.apply_thresholds(test.scores, np.full(len(tree), BEGUN), tree, most),
        "as shipped, leaves alone": fitting.apply_thresholds(test.scores, shipped, tree, most, backs_off=False),
        "as shipped": fitting.apply_thresholds(test.scores, shipped, tree, most),
    }
    for size in sizes:
        fitted, _ = fitting.fit(labelled.select(np.arange(size)), tree, shipped)
        said[f"fitted to {size:,}, leaves alone"] = fitting.apply_thresholds(
            test.scores, fitted, tree, most, backs_off=False
        )
        said[f"fitted to {size:,}"] = fitting.apply_thresholds(test.scores, fitted, tree, most)
    found = table(said, test, tree)
    ours, before = found[f"fitted to {sizes[-1]:,}"]["all"], found["as shipped"]["all"]
    begun = found[f"{BEGUN:g} for every tag"]["all"]
    print(
        json.dumps(
            {
                "benchmark": "tagging_quality",
                "ours": ours,
                "shipped": before,
                "unfitted": begun,
                "ratio": round(ours / begun, 3),
                "f1": found,
            }
        )
    )


def scored(tool: ClipTagger, tree: Tree, given: Sequence[Picture]) -> LabelledScores:
    """The pictures as a labelled set of which all is known."""
    parts = [
        tool.probabilities(tool.embed([tool.prepare(one.image, None) for one in given[start : start + BATCH]]))
        for start in range(0, len(given), BATCH)
    ]
    true = np.array([[path in one.tags for path in tree.nodes] for one in given])
    return LabelledScores(np.concatenate(parts), true, np.ones_like(true))


def table(said: dict[str, Flags], test: LabelledScores, tree: Tree) -> dict[str, dict[str, float]]:
    """Prints precision, recall and F1 by level; returns F1."""
    level = fitting.node_levels(tree)
    columns = {name: level == depth for name, depth in LEVELS.items()} | {"all": level >= 0}
    print(f"{len(test.scores):,} pictures, {len(tree)} tags; precision, recall, F1")
    print(f"{'':<32}" + "".join(f"{f'{name} ({int(one.sum())})':>24}" for name, one in columns.items()))
    found: dict[str, dict[str, float]] = {}
    for name, flags in said.items():
        of = {one: fitting.evaluate(flags, test, where) for one, where in columns.items()}
        print(f"{name:<32}" + "".join(f"{one.precision:10.3f}{one.recall:7.3f}{one.f1:7.3f}" for one in of.values()))
        found[name] = {one: round(value.f1, 4) for one, value in of.items()}
    return found


if __name__ == "__main__":
    main()
