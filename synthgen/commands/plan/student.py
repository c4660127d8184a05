"""What a student that was trained on the pairs of a run still has to learn of each instruction type.

The trainer leaves the loss of each pair beside the tuned model (`synthgen/train/seen.py`), and the run has the loss of
the model which answered, the likelihood of the answer. Both are of the same text, cut into tokens in two ways perhaps:
they are compared in nats a token of the student.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthgen.errors import Damaged, UserMistake, one_line
from synthgen.store import RunFolder
from synthgen.store.patterns import expand_home
from synthgen.store.remote import path_errors
from synthgen.tables import GENERATE
from synthgen.train.record import read_record, stage_folders
from synthgen.train.reducible import TypeLosses

TEACHER = "likelihood"
LOSS, LOSS_AFTER = "student_loss", "student_loss_after"


@dataclass(frozen=True)
class Student:
    """A training that is finished.

    Attributes:
        folder: Its output folder.
        types: Type → its losses.
        pairs: The pairs that were compared.
        others: Pairs of the training that this run has no likelihood of.
    """

    folder: Path
    steps: int
    types: Mapping[str, TypeLosses]
    pairs: int
    others: int


class PairLoss(NamedTuple):
    """The loss of the student on a pair, the sum over its tokens."""

    type: str
    loss: float
    tokens: int


def read_student(folder: RunFolder, name: str, types: Collection[str]) -> Student:
    """Return a training as a student of a run.

    Args:
        folder: The run.
        name: The training's output folder, as typed.
        types: The instruction types that can be asked; others, such as those of negatives, are left out.

    Raises:
        UserMistake: It is no finished training, or knows no pair of the run.
        Damaged: Its scores cannot be read.
    """
    place, steps = _open(name)
    losses = {pair_id: loss for pair_id, loss in _losses(place, steps) if loss.type in types}
    if not losses:
        raise UserMistake(
            f"--from-student {name}: the shards of this training name no pairs of these instruction types; "
            "train on those of a run of synth"
        )
    of_types, pairs = _compare(folder, losses)
    if not pairs:
        raise UserMistake(
            f"--from-student {name}: {folder.out.url} has the score '{TEACHER}' of none of the {len(losses):,} pairs "
            "that were trained on; name the run whose shards they are from, with that score in generate.scores"
        )
    return Student(place, steps, of_types, pairs, len(losses) - pairs)


def _open(name: str) -> tuple[Path, int]:
    """Return the folder of a finished training, of the last stage of a recipe, and its steps."""
    with path_errors(f"--from-student {name}"):
        folders = stage_folders(expand_home(name))
        record = read_record(folders[-1]) if folders else None
    if record is None:
        raise UserMistake(f"--from-student {name}: no training is there; give the --out folder of a `synth train`")
    if not record["result"]:
        raise UserMistake(f"--from-student {name}: this training is not finished; the same `synth train` continues it")
    return folders[-1].resolve(), int(record["result"]["steps"])


def _losses(folder: Path, steps: int) -> Iterator[tuple[str, PairLoss]]:
    """Yield the losses by pair: of the finished model where it was tried, else those of the second half of the steps.

    What a model knew before says little of what it has to learn now.
    """
    after = folder / "scores" / f"{LOSS_AFTER}.parquet"
    rows, least = (_read(after), 0) if after.is_file() else (_read(after.with_name(f"{LOSS}.parquet")), steps // 2)
    for pair_id, value, said in rows:
        if said["type"] and said["step"] > least:
            yield pair_id, PairLoss(said["type"], value * said["tokens"], said["tokens"])


def _read(path: Path) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Yield the pairs of a score that have a value: id, value and detail."""
    if not path.is_file():
        return
    try:
        rows = pq.read_table(path, columns=["pair_id", "value", "detail"])
        for row in rows.filter(pc.is_valid(rows.column("value"))).to_pylist():
            yield row["pair_id"], row["value"], json.loads(row["detail"])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"{path}: cannot be read ({one_line(str(error))}); train again into another --out") from error


def _compare(folder: RunFolder, losses: Mapping[str, PairLoss]) -> tuple[dict[str, TypeLosses], int]:
    """Return the losses of each type, over the pairs that have both, and how many pairs these are."""
    sums = defaultdict[str, list[float]](lambda: [0, 0.0, 0.0, 0.0])  # answers, tokens, student, teacher
    for pair_id, teacher in _teacher_losses(folder, losses):
        own = losses[pair_id]
        for place, value in enumerate((1, own.tokens, own.loss, teacher)):
            sums[own.type][place] += value
    types = {
        path: TypeLosses(int(answers), student / tokens, teacher / tokens)
        for path, (answers, tokens, student, teacher) in sorted(sums.items())
    }
    return types, sum(of.answers for of in types.values())


def _teacher_losses(folder: RunFolder, losses: Mapping[str, PairLoss]) -> Iterator[tuple[str, float]]:
    """Yield the loss of the model which answered, the sum over its tokens, of each pair that has one."""
    wanted = pa.array(list(losses), pa.string())
    for partition in folder.log(GENERATE).partitions:
        rows = folder.scores(partition, TEACHER, ["pair_id", "value", "detail"])
        rows = rows.filter(pc.and_(pc.is_valid(rows.column("value")), pc.is_in(rows.column("pair_id"), wanted)))
        for row in rows.to_pylist():
            said = json.loads(row["detail"])
            if said["loss"] is not None:
                yield row["pair_id"], said["loss"] * said["tokens"]
