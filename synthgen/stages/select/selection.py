"""What decisions depend on: the settings, and every commit that is read."""

import json
from dataclasses import dataclass
from pathlib import Path

from synthgen.config.selection import SelectConfig
from synthgen.config.source import ImagesConfig
from synthgen.engines.text_model import TextModel, find_text_model
from synthgen.errors import Mistakes, nearest
from synthgen.ingest.benchmark_sets import BenchmarkSet
from synthgen.stages.rules import RULES_VERSION
from synthgen.stages.select import contamination
from synthgen.stages.select.contamination import Contamination, find_contamination
from synthgen.stages.select.embedded import EmbeddedTexts
from synthgen.stages.select.functions import UserFunction, load_functions
from synthgen.store import CommitLog, RunFolder
from synthgen.store.earlier_runs import EarlierRun, open_earlier_runs
from synthgen.tables import GENERATE, PLAN, SCORE, SELECT, TAG, make_id, pass_of_score, split_count
from synthgen.tables.passes import RETIRED


@dataclass(frozen=True)
class Selection:
    """Everything that decisions depend on.

    Attributes:
        folder: The pairs, scores and plan by their commits.
        fingerprint: Of the settings and of every commit that is read.
        epoch: Of the new commits.
        against: The earlier runs whose kept pairs come first.
        benchmarks: The sets that no pair may come from.
        limits: Of their images.
        functions: Of the user, in the order in which they are asked.
        text_model: That embeds texts, with `select.semantic`.
    """

    folder: RunFolder
    settings: SelectConfig
    fingerprint: str
    epoch: int = 1
    against: tuple[EarlierRun, ...] = ()
    benchmarks: tuple[BenchmarkSet, ...] = ()
    limits: ImagesConfig | None = None
    functions: tuple[UserFunction, ...] = ()
    text_model: TextModel | None = None

    def embedded(self) -> EmbeddedTexts | None:
        """Return the embeddings of texts; None where none are compared."""
        others = [run.folder.out for run in self.against]
        return EmbeddedTexts(self.text_model, self.folder.out, others) if self.text_model else None

    def contamination(self) -> Contamination | None:
        """Return which images and questions are in benchmark sets; None where none is named."""
        wanted = self.settings.decontaminate
        limits = self.limits or ImagesConfig()
        return find_contamination(self.folder, self.benchmarks, wanted, limits) if wanted else None

    @property
    def scores(self) -> list[str]:
        """The scores that decisions depend on."""
        return scores_read(self.folder, self.settings)

    @property
    def todo(self) -> list[str]:
        """The partitions whose decisions were made with other settings or from other commits."""
        decided = self.folder.log(SELECT)
        return [
            name
            for name in self.folder.log(GENERATE).partitions
            if decided.fingerprint(name, "decisions") != self.fingerprint
        ]


def prepare(
    folder: RunFolder, settings: SelectConfig, home: Path = Path(), limits: ImagesConfig | None = None
) -> Selection:
    """Return what decisions depend on now; only commits are read.

    Args:
        folder: The output folder.
        settings: What is kept.
        home: The folder that relative names of folders start from, and that functions are imported from.
        limits: Of the images of benchmark sets.

    Raises:
        UserMistake: The settings name scores that no pair has, or folders or functions that cannot be used.
    """
    generated, planned = folder.log(GENERATE), folder.log(PLAN)
    _check_scores_exist(settings, folder)
    against = open_earlier_runs("select.against", settings.against, home, folder.out, SELECT)
    functions, text_model = load_functions(settings.functions, home), open_text_model(settings, home)
    replanned = [name for name in generated.partitions if planned.counts([name]).get("retired")]
    looks_at_images = settings.quotas.tags or settings.where
    read = list(generated.partitions) if looks_at_images else replanned
    digests = generated.digests(GENERATE, generated.partitions) | planned.digests(PLAN, read)
    if settings.same_pair is not None:
        digests |= folder.log(TAG).digests(TAG, generated.partitions)
    digests |= folder.pass_digests(list(generated.partitions), scores_read(folder, settings))
    given = json.dumps(settings.model_dump(mode="json"), sort_keys=True)  # the order of thresholds does not matter
    benchmarks, others = _open_benchmarks(folder, settings, home, limits or ImagesConfig())
    others += [*(run.digest(SELECT, GENERATE) for run in against), *(function.digest for function in functions)]
    others += text_model.named if text_model else []
    inputs = [f"{key} {digests[key]}" for key in sorted(digests)]
    fingerprint = make_id("select", RULES_VERSION, given, *inputs, *others)
    epoch = _epoch(folder.log(SELECT), fingerprint)
    return Selection(folder, settings, fingerprint, epoch, against, benchmarks, limits, functions, text_model)


def open_text_model(settings: SelectConfig, home: Path) -> TextModel | None:
    """Return the model that embeds texts, if one does. Raises UserMistake if it cannot be used."""
    if (wanted := settings.semantic) is None:
        return None
    return find_text_model("select.semantic", wanted, home)


def _open_benchmarks(
    folder: RunFolder, settings: SelectConfig, home: Path, limits: ImagesConfig
) -> tuple[tuple[BenchmarkSet, ...], list[str]]:
    """Return the benchmark sets, and digests of them and of the images that are compared with them."""
    if (wanted := settings.decontaminate) is None:
        return (), []
    benchmarks, tagged = contamination.open_sets(wanted, home), folder.log(TAG)
    images = sorted(tagged.digests(TAG, tagged.partitions).values())
    return benchmarks, [*contamination.digests(benchmarks, wanted, limits), *images]


def _epoch(decided: CommitLog, fingerprint: str) -> int:
    """Return the epoch of new commits: that of a selection which was cut short, or the next one."""
    last = decided.next_epoch - 1
    latest = {name: decided.latest(name) for name in decided.partitions}
    is_cut_short = any(
        commit and commit.epoch == last and decided.fingerprint(name, "decisions") == fingerprint
        for name, commit in latest.items()
    )
    return last if is_cut_short else last + 1


def scores_read(folder: RunFolder, settings: SelectConfig) -> list[str]:
    """Return the scores that decisions depend on: those that the settings name, and all where functions see them."""
    named = {name for _, name in settings.scores}
    return sorted(named | set(scores_in(folder) if settings.functions else ()))


def pending_notes(folder: RunFolder, settings: SelectConfig) -> list[str]:
    """Return a line for each threshold on a score of a pass that is not through all pairs."""
    pairs, counts, notes = folder.log(GENERATE).counts().get(GENERATE.passes, 0), folder.log(SCORE).counts(), []
    for name in sorted(settings.keep):
        if pass_name := pass_of_score(name):
            settled = sum(count for key, count in counts.items() if split_count(key)[0] == name)
            pending = pairs - settled - counts.get(f"{pass_name}.{RETIRED}", 0)
            if pending > 0:
                notes.append(
                    f"select.keep.{name}: {pending:,} of {pairs:,} pairs are not scored yet, and count as unscored; "
                    f"`synth run --out {folder.out.url}` scores them"
                )
    return notes


def scores_in(folder: RunFolder) -> list[str]:
    """Return the scores that any pair has, PASS.SCORE those of passes."""
    tables = {table for spec in (GENERATE, SCORE) for table in folder.log(spec).tables()}
    return sorted(name.removeprefix("scores/") for name in tables if name.startswith("scores/"))


def _check_scores_exist(settings: SelectConfig, folder: RunFolder) -> None:
    """Check that each score that the settings name exists.

    Raises:
        Mistakes: No pair has some of them.
    """
    known = scores_in(folder)
    unknown = [(place, name) for place, name in sorted(settings.scores) if name not in known]
    if unknown and folder.log(GENERATE).tables():
        raise Mistakes(
            [
                f"select.{place}: no pair has the score '{name}'{_when(name)}; {nearest(name, known)}"
                for place, name in unknown
            ]
        )


def _when(name: str) -> str:
    """Return when a score is measured that no pair has, if it is one of a pass."""
    return f", which is measured in the stage {SCORE.typed}: run it from there" if pass_of_score(name) else ""
