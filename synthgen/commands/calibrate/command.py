"""The steps of `synth calibrate`, from labelled images to a new tagger file.

The report is measured by cross-validation: the images are split into FOLDS parts, and each part is tagged with
thresholds fitted to the others. The thresholds in the new file are fitted to all images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthgen import taggers
from synthgen.commands.calibrate import fitting, labels, summary
from synthgen.commands.calibrate.fitting import Flags, Floats, LabelledScores
from synthgen.config import library
from synthgen.config.pipeline import Pipeline
from synthgen.config.taxonomy import Tree
from synthgen.errors import UserMistake
from synthgen.ingest.sources import Listed, open_listing
from synthgen.taggers import ClipTagger, ClipTaggerFile

FOLDS = 5
MIN_IMAGES = 20  # fewer give no meaningful numbers


@dataclass(frozen=True)
class CalibrateRequest:
    """The tagger to calibrate, the labelled images, and the name of the new tagger."""

    labelled: str
    tagger: str
    name: str
    key: str  # of source_meta, that holds the labels
    pipeline: Pipeline  # how to read the source, and the limits of images


@dataclass(frozen=True)
class Comparison:
    """Tags of the labelled images; Flags are (images, nodes) bool."""

    labelled: LabelledScores
    before: Flags  # with the tagger's own thresholds
    leaves: Flags  # with fitted thresholds, on leaves alone
    after: Flags  # with fitted thresholds and back-off to parents


def calibrate(request: CalibrateRequest) -> tuple[Path, list[str]]:
    """Write the calibrated tagger.

    Returns:
        The new file, and the lines of the report.

    Raises:
        UserMistake: If the tagger has no thresholds, the name is taken, or there are too few images.
    """
    target = library.new_path("tagger", request.name)
    spec = taggers.load(request.tagger)
    if not isinstance(spec.file, ClipTaggerFile):
        raise UserMistake(f"--tagger {request.tagger}: only the thresholds of open_clip taggers can be fitted")
    tree = spec.taxonomy.tree
    labelled_set = _open_labelled_set(request)  # before the model is loaded, so that a wrong path fails at once
    labelled, counts = labels.read(labelled_set, ClipTagger(spec, spec.file), tree)
    if counts.used < MIN_IMAGES:
        raise UserMistake(
            f"{request.labelled}: {counts.used} labelled images, too few to fit to (at least {MIN_IMAGES})"
            f"{f'; left out: {reasons}' if (reasons := counts.reasons()) else ''}"
        )
    thresholds, unfitted = fitting.fit(labelled, tree, own_thresholds(spec.file, tree))
    lines = [
        *counts.lines(request.labelled, "images"),
        *report(compare(labelled, spec.file, tree), tree, unfitted),
    ]
    text = summary.yaml_text(spec, spec.file, thresholds, [f"Fitted to {request.labelled}.", *lines])
    library.check_loads(text, taggers.load)
    library.write_new(target, text)
    return target, lines


def _open_labelled_set(request: CalibrateRequest) -> labels.LabelledSet:
    """Start listing the labelled images."""
    configured = request.pipeline.source.place(None)  # of several named sources no settings are taken
    source = configured.model_copy(
        update={
            "uri": request.labelled,
            "sidecar": configured.sidecar or ".json",
            "meta_columns": (request.key,),
        }
    )
    objects = (item for item in open_listing(source) if isinstance(item, Listed))
    return labels.LabelledSet(objects, source, request.pipeline.images, request.key)


def own_thresholds(file: ClipTaggerFile, tree: Tree) -> Floats:
    """Return the tagger's own threshold of each node: (nodes,) float64."""
    return np.array([file.threshold_of(path) for path in tree.nodes])


def compare(labelled: LabelledScores, file: ClipTaggerFile, tree: Tree) -> Comparison:
    """Tag the labelled images with the tagger's own thresholds, and with thresholds fitted to other images."""
    own = own_thresholds(file, tree)
    fitted_limits = replace(file.limits, least=0)  # as the new file has them
    before = fitting.apply_thresholds(labelled.scores, own, tree, file.limits)
    after, leaves = np.zeros_like(before), np.zeros_like(before)
    fold_of = np.arange(len(labelled.scores)) % FOLDS
    for fold in range(FOLDS):
        thresholds, _ = fitting.fit(labelled.select(np.flatnonzero(fold_of != fold)), tree, own)
        held_out = np.flatnonzero(fold_of == fold)
        scores = labelled.scores[held_out]
        after[held_out] = fitting.apply_thresholds(scores, thresholds, tree, fitted_limits)
        leaves[held_out] = fitting.apply_thresholds(scores, thresholds, tree, fitted_limits, backs_off=False)
    return Comparison(labelled, before, leaves, after)


def report(comparison: Comparison, tree: Tree, unfitted: Sequence[int]) -> Iterator[str]:
    """Yield precision, recall and F1 by level; `unfitted` are the levels that keep the tagger's own thresholds."""
    labelled, level = comparison.labelled, fitting.node_levels(tree)
    yield f"measured on {FOLDS} parts of the images, each with thresholds fitted to the others"
    yield f"{'':<12}{'':>6}{'as it is':>21}   {'calibrated, leaves':>21}   {'with back-off':>21}"
    yield f"{'level':<12}{'tags':>6}" + "   ".join([f"{'prec':>7}{'recall':>7}{'F1':>7}"] * 3)
    rows = [(str(depth + 1), level == depth) for depth in np.unique(level)] + [("all", level >= 0)]
    ways = (comparison.before, comparison.leaves, comparison.after)
    for name, nodes in rows:
        qualities = [fitting.evaluate(tags, labelled, nodes) for tags in ways]
        yield f"{name:<12}{nodes.sum():>6}" + "   ".join(
            f"{quality.precision:7.3f}{quality.recall:7.3f}{quality.f1:7.3f}" for quality in qualities
        )
    empty = ~labelled.true.any(axis=1)
    before, after = (int((~tags[empty].any(axis=1)).sum()) for tags in (comparison.before, comparison.after))
    yield f"of {int(empty.sum())} images without a label: {before} get no tag as it is, {after} with back-off"
    is_labelled = (labelled.true & labelled.known).any(axis=0)
    unseen = int((~is_labelled & ~np.isin(level, unfitted)).sum())
    yield f"{unseen} of {len(tree)} tags are on no labelled image: they get the threshold of their level's average tag"
    for depth in unfitted:
        yield (
            f"level {depth + 1}: no label reaches it, or the tags below it imply all of it; "
            "it keeps the tagger's own thresholds"
        )
