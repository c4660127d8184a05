"""The quality of tags before calibration and after, and the gain of backing off to the parent.

The nano CLIP tags pictures of the drawn world that it was not trained on; their scene graphs give the truth. Before:
one threshold for every tag, as for a tagger of unknown scores, and the tagger as it is shipped (trained on these very
tags with a sigmoid loss, so its 0.5 is hard to better). After: thresholds fitted by `synth calibrate` to so many other
pictures, first with leaves alone, where a group is a tag only if one of its members is, then with back-off, where a
group that is sure stands for members that are not. Precision, recall and F1 are over all cells of a level together.

    python benchmarks/tagging_quality.py [--quick]
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np
from drawn_pictures import Picture, pictures

from synthgen import taggers
from synthgen.commands.calibrate import fitting
from synthgen.commands.calibrate.fitting import Flags, LabelledScores
from synthgen.config.taxonomy import Tree
from synthgen.taggers import ClipTagger, ClipTaggerFile

BATCH = 64
UNFITTED = 0.05  # the threshold of a tagger of photographs before anything is known of its scores
LEVELS = {"groups": 0, "leaves": 1}


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="600 pictures to judge by instead of 2000, and fewer to fit to"
    )
    quick = parser.parse_args().quick
    spec = taggers.load("drawn-clip")
    assert isinstance(spec.file, ClipTaggerFile)
    tagger, tree, limits = ClipTagger(spec, spec.file), spec.taxonomy.tree, spec.file.limits
    sizes = (50, 200, 600) if quick else (50, 200, 800, 3200)
    labelled = score(tagger, tree, pictures("teach", sizes[-1]))
    test = score(tagger, tree, pictures("test", 600 if quick else 2000))
    shipped = np.array([spec.file.threshold_of(path) for path in tree.nodes])
    flags = {
        f"{UNFITTED:g} for every tag": fitting.apply_thresholds(
            test.scores, np.full(len(tree), UNFITTED), tree, limits
        ),
        "as shipped, leaves alone": fitting.apply_thresholds(test.scores, shipped, tree, limits, backs_off=False),
        "as shipped": fitting.apply_thresholds(test.scores, shipped, tree, limits),
    }
    for size in sizes:
        fitted, _ = fitting.fit(labelled.select(np.arange(size)), tree, shipped)
        flags[f"fitted to {size:,}, leaves alone"] = fitting.apply_thresholds(
            test.scores, fitted, tree, limits, backs_off=False
        )
        flags[f"fitted to {size:,}"] = fitting.apply_thresholds(test.scores, fitted, tree, limits)
    f1 = print_table(flags, test, tree)
    ours, unfitted = f1[f"fitted to {sizes[-1]:,}"]["all"], f1[f"{UNFITTED:g} for every tag"]["all"]
    record = {
        "benchmark": "tagging_quality",
        "ours": ours,
        "shipped": f1["as shipped"]["all"],
        "unfitted": unfitted,
        "ratio": round(ours / unfitted, 3),
        "f1": f1,
    }
    print(json.dumps(record))


def score(tagger: ClipTagger, tree: Tree, test: Sequence[Picture]) -> LabelledScores:
    """Return the pictures as a labelled set in which every tag is known, (pictures, tags)."""
    batches = []
    for start in range(0, len(test), BATCH):
        prepared = [tagger.prepare(picture.image, None) for picture in test[start : start + BATCH]]
        batches.append(tagger.probabilities(tagger.embed(prepared)))  # (B, tags)
    is_true = np.array([[path in picture.tags for path in tree.nodes] for picture in test])  # (pictures, tags)
    return LabelledScores(np.concatenate(batches), is_true, np.ones_like(is_true))


def print_table(flags: dict[str, Flags], test: LabelledScores, tree: Tree) -> dict[str, dict[str, float]]:
    """Print precision, recall and F1 of each way by level; return F1."""
    level = fitting.node_levels(tree)
    columns = {name: level == depth for name, depth in LEVELS.items()} | {"all": level >= 0}
    print(f"{len(test.scores):,} pictures, {len(tree)} tags; precision, recall, F1")
    print(f"{'':<32}" + "".join(f"{f'{name} ({int(column.sum())})':>24}" for name, column in columns.items()))
    f1: dict[str, dict[str, float]] = {}
    for name, found in flags.items():
        of = {part: fitting.evaluate(found, test, column) for part, column in columns.items()}
        print(f"{name:<32}" + "".join(f"{q.precision:10.3f}{q.recall:7.3f}{q.f1:7.3f}" for q in of.values()))
        f1[name] = {part: round(quality.f1, 4) for part, quality in of.items()}
    return f1


if __name__ == "__main__":
    main()
