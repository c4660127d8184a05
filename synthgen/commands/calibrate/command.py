"""From labelled images to a tagger file, step by step.

Comes in: an Order, what the user asked for. Goes out: the file, on the user's shelf, and a report. What the report says is
measured on images that the thresholds were not fitted to: the set is cut in FOLDS parts, and each part is tagged with thresholds
of the others. The thresholds that are written are fitted to all. The tagger that they come from is left as it is.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthgen import taggers
from synthgen.commands.calibrate import fitting, labels, summary
from synthgen.commands.calibrate.fitting import Flags, Floats, LabelledScores
from synthgen.config import library
from synthgen.config.pipeline import Pipeline
from synthgen.config.taxonomy import Tree
from synthgen.errors import UserMistake
from synthgen.ingest.sources import open_listing
from synthgen.taggers import ClipTagger, ClipTaggerFile

FOLDS = 5
AT_LEAST = 20  # images, below which no number would mean anything


@dataclass(frozen=True)
class CalibrateRequest:
    """What is to be calibrated, on what."""

    labelled: str
    tagger: str
    name: str
    key: str
    pipeline: Pipeline  # how the source is read, and the limits of images


@dataclass(frozen=True)
class Measured:
    """Tags of the labelled images in three ways: as the tagger is, with new thresholds on leaves alone, and with back-off."""

    known: LabelledScores
    before: Flags
    leaves: Flags
    after: Flags


def calibrate(order: CalibrateRequest) -> tuple[Path, list[str]]:
    """Writes the tagger; its file and the lines of a report. One line if there is nothing to fit to."""
    target = library.vacant("tagger", order.name)
    spec = taggers.load(order.tagger)
    if not isinstance(spec.file, ClipTaggerFile):
        raise UserMistake(
            f"--tagger {order.tagger}: has no thresholds to fit; only taggers of `engine: open_clip` have"
        )
    tree = spec.taxonomy.tree
    source = order.pipeline.source.model_copy(
        update={
            "uri": order.labelled,
            "sidecar": order.pipeline.source.sidecar or ".json",
            "meta_columns": (order.key,),
        }
    )
    objects = open_listing(source)  # that there are images is seen before the model is looked for
    given = labels.LabelledSet(objects, source, order.pipeline.images, order.key)
    known, tally = labels.read(given, ClipTagger(spec, spec.file), tree)
    if tally.used < AT_LEAST:
        raise UserMistake(
            f"{order.labelled}: {tally.used} labelled images, too few to fit to (at least {AT_LEAST}){summary.why_left_out(tally)}"
        )
    thresholds, kept = fitting.fit(known, tree, own_thresholds(spec.file, tree))
    lines = [*summary.tally_lines(order.labelled, tally), *report(measure(known, spec.file, tree), tree, kept)]
    text = summary.yaml_text(spec, spec.file, thresholds, [f"Fitted to {order.labelled}.", *lines])
    _check(text)
    library.write_new(target, text)
    return target, lines


def own_thresholds(file: ClipTaggerFile, tree: Tree) -> Floats:
    """The threshold of each node as the tagger has it."""
    return np.array([taggers.threshold(file, path) for path in tree.nodes])


def measure(known: LabelledScores, file: ClipTaggerFile, tree: Tree) -> Measured:
    """Tags before, and with thresholds that were fitted to other images."""
    own = own_thresholds(file, tree)
    before = fitting.said(known.scores, own, tree, file.most)
    after, leaves = np.zeros_like(before), np.zeros_like(before)
    part = np.arange(len(known.scores)) % FOLDS
    for one in range(FOLDS):
        fitted, _ = fitting.fit(known.of(np.flatnonzero(part != one)), tree, own)
        mine = np.flatnonzero(part == one)
        after[mine] = fitting.said(known.scores[mine], fitted, tree, file.most)
        leaves[mine] = fitting.said(known.scores[mine], fitted, tree, file.most, backs_off=False)
    return Measured(known, before, leaves, after)


def report(measured: Measured, tree: Tree, kept: Sequence[int]) -> Iterator[str]:
    """Precision, recall and F1 by level; `kept` are the levels whose thresholds are the tagger's own."""
    known, level = measured.known, fitting.levels(tree)
    yield f"measured on {FOLDS} parts of the images, each with thresholds fitted to the others"
    yield f"{'':<12}{'':>6}{'as it is':>21}   {'calibrated, leaves':>21}   {'with back-off':>21}"
    yield f"{'level':<12}{'tags':>6}" + "   ".join([f"{'prec':>7}{'recall':>7}{'F1':>7}"] * 3)
    rows = [(str(one + 1), level == one) for one in np.unique(level)] + [("all", level >= 0)]
    for name, columns in rows:
        found = [fitting.quality(one, known, columns) for one in (measured.before, measured.leaves, measured.after)]
        yield f"{name:<12}{columns.sum():>6}" + "   ".join(
            f"{one.precision:7.3f}{one.recall:7.3f}{one.f1:7.3f}" for one in found
        )
    nothing = ~known.true.any(axis=1)
    before, after = (int((~one[nothing].any(axis=1)).sum()) for one in (measured.before, measured.after))
    yield f"of {int(nothing.sum())} images that hold nothing: {before} without a tag as it is, {after} with back-off"
    unseen = int((~(known.true & known.known).any(axis=0) & ~np.isin(level, kept)).sum())
    yield f"{unseen} of {len(tree)} tags are on no labelled image: the average tag of their level speaks for them"
    for one in kept:
        yield f"level {one + 1}: nothing to fit to, as no label reaches it or the tags below it say it all; its thresholds stay as they are"


def _check(text: str) -> None:
    """Loads the tagger as a run will."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibrated.yaml"
        path.write_text(text, encoding="utf-8")
        taggers.load(str(path))
