"""A run as it was before: the commits up to a moment, whose files are there until they are collected or purged."""

import posixpath
from collections.abc import Callable
from datetime import UTC, datetime

from synthgen.errors import UserMistake
from synthgen.job import run_record
from synthgen.store import Commit, CommitLog, RunFolder
from synthgen.store.gc import current_files
from synthgen.tables import STAGES, StageSpec

TIMES = "write a time as 2026-11-30T18:00 (UTC), or with an offset as 2026-11-30T18:00+02:00"


def before_last(folder: RunFolder) -> RunFolder:
    """Return a run as it was before its last command that changed anything.

    Raises:
        UserMistake: One command made all of it, or its files of then are gone.
    """
    run_record.check_is_run(folder)
    terms = {commit.term for spec in STAGES for commit in _commits(folder.log(spec))}
    if len(terms) < 2:
        why = "was made by one command, so there is nothing before it; name another run to compare it with"
        raise UserMistake(f"{folder.out.url}: {why}")
    last = max(terms)
    return _limited(folder, lambda commit: commit.term < last)


def as_of(folder: RunFolder, moment: datetime) -> RunFolder:
    """Return a run as it was at a moment. Raises UserMistake if it did not exist, or its files of then are gone."""
    run_record.check_is_run(folder)
    limited = _limited(folder, lambda commit: datetime.fromisoformat(commit.at) <= moment)
    if not any(limited.log(spec).partitions for spec in STAGES):
        first = min((commit.at for spec in STAGES for commit in _commits(folder.log(spec))), default="never")
        raise UserMistake(
            f"{folder.out.url}: held nothing at {moment:%Y-%m-%d %H:%M} UTC; its first commit is of {first}"
        )
    return limited


def parse_moment(text: str) -> datetime:
    """Return a time as it was typed, in UTC where it names no offset. Raises UserMistake if it is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UserMistake(f"--before {text}: is no time; {TIMES}") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _limited(folder: RunFolder, is_then: Callable[[Commit], bool]) -> RunFolder:
    logs = {spec.folder: _log_of(folder.log(spec), is_then) for spec in STAGES}
    limited = RunFolder(folder.out, logs)
    for spec in STAGES:
        _check_files(limited, spec, folder.log(spec))
    return limited


def _log_of(log: CommitLog, is_then: Callable[[Commit], bool]) -> CommitLog:
    commits = {name: tuple(filter(is_then, revisions)) for name, revisions in log.partitions.items()}
    return CommitLog({name: revisions for name, revisions in commits.items() if revisions})


def _check_files(folder: RunFolder, spec: StageSpec, now: CommitLog) -> None:
    """Raise UserMistake if files that counted then, and do not count any more, were deleted."""
    replaced = current_files(folder.log(spec)) - current_files(now)
    if not replaced:
        return
    there = {posixpath.normpath(path) for path in folder.stage(spec).folder.sizes(".parquet")}
    if gone := sorted(replaced - there):
        why = f"{len(gone):,} of its files of then were deleted since, by `synth gc` or `synth purge`"
        raise UserMistake(f"{folder.out.url}: {why}; compare it with a copy, or with a later time")


def _commits(log: CommitLog) -> list[Commit]:
    return [commit for revisions in log.partitions.values() for commit in revisions]
