"""What decisions depend on: the settings, and every commit that is read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from synthgen.config.pipeline import SelectConfig
from synthgen.errors import Mistakes, nearest
from synthgen.stages.rules import RULES_VERSION
from synthgen.store import CommitLog, RunFolder
from synthgen.tables import GENERATE, PLAN, SCORE, SELECT, make_id


@dataclass(frozen=True)
class Selection:
    """Everything that decisions depend on.

    Attributes:
        folder: The pairs, scores and plan by their commits.
        fingerprint: Of the settings and of every commit that is read.
        epoch: Of the new commits.
    """

    folder: RunFolder
    settings: SelectConfig
    fingerprint: str
    epoch: int = 1

    @property
    def todo(self) -> list[str]:
        """The partitions whose decisions were made with other settings or from other commits."""
        decided = self.folder.log(SELECT)
        return [
            name
            for name in self.folder.log(GENERATE).partitions
            if decided.fingerprint(name, "decisions") != self.fingerprint
        ]


def prepare(folder: RunFolder, settings: SelectConfig) -> Selection:
    """Return what decisions depend on now; only commits are read.

    Raises:
        Mistakes: The settings name scores that no pair has.
    """
    generated, planned = folder.log(GENERATE), folder.log(PLAN)
    _check_scores_exist(settings, [generated, folder.log(SCORE)])
    replanned = [name for name in generated.partitions if planned.counts([name]).get("retired")]
    digests = generated.digests(GENERATE, generated.partitions) | planned.digests(PLAN, replanned)
    digests |= folder.pass_digests(list(generated.partitions), settings.keep)
    limits = json.dumps(settings.model_dump(mode="json"), sort_keys=True)  # the order of thresholds does not matter
    fingerprint = make_id("select", RULES_VERSION, limits, *(f"{key} {digests[key]}" for key in sorted(digests)))
    return Selection(folder, settings, fingerprint, folder.log(SELECT).next_epoch)


def _check_scores_exist(settings: SelectConfig, logs: Sequence[CommitLog]) -> None:
    """Check that each score with a threshold exists.

    Raises:
        Mistakes: No pair has some of them.
    """
    tables = {table for log in logs for table in log.tables()}
    known = {table.removeprefix("scores/") for table in tables if table.startswith("scores/")}
    unknown = sorted(set(settings.keep) - known) if tables else []
    if unknown:
        raise Mistakes([f"select.keep: no pair has the score '{name}'; {nearest(name, known)}" for name in unknown])
