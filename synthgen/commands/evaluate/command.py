"""The steps of `synth evaluate`: read the questions, ask each model what it was not asked yet, judge, and write.

Replies are committed partition by partition and judged afterwards, so a killed evaluation goes on where it stopped,
another tolerance costs no call, and a second model is asked alone.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.evaluate import lmms_eval, vlmevalkit
from synthgen.commands.evaluate.items import RESULTS, Item, judged
from synthgen.commands.evaluate.question_set import QuestionSet, open_question_set, open_source
from synthgen.commands.evaluate.replies import Evaluation, image_ids
from synthgen.commands.evaluate.report import report
from synthgen.commands.evaluate.seen import seen_images, seen_in
from synthgen.commands.evaluate.summary import summarize
from synthgen.commands.evaluate.worker import build
from synthgen.config.engine import EngineConfig
from synthgen.config.pipeline import Pipeline
from synthgen.config.strict_yaml import Document
from synthgen.console import Loading, StageProgress, note
from synthgen.engines import ModelName, check_engine
from synthgen.engines.kinds import first_wait, gpus_of, kind_of, resolve_model
from synthgen.engines.section import engine_faults
from synthgen.errors import Damaged, JobFailing, Mistakes, UserMistake, nearest, one_line
from synthgen.store import Folder, Lease, Receipt
from synthgen.store.opening import open_folder
from synthgen.store.patterns import expand_home
from synthgen.train import uses
from synthgen.train.record import RECIPE, stage_folders
from synthgen.workers import (
    PoolSpec,
    StopSignals,
    Task,
    check_command_line,
    leave_ray,
    listening,
    run_in_actor,
    run_pool,
)

EXPORTS = ("lmms-eval", "vlmevalkit")
FLAGS = ("--model", "--against")
FAILURES_IN_A_ROW = 100  # calls, after which a model that answers nothing is asked no more
Json = dict[str, Any]


@dataclass(frozen=True)
class EvaluateRequest:
    """What is to be evaluated.

    Attributes:
        source: A run, shards or a question file.
        out: The folder of the evaluation.
        models: One, or two to be compared; none where only the questions are exported.
        limit: Of the images.
        exports: Of EXPORTS.
        images: The folder that paths in a question file start from; by default that of the file.
    """

    source: str
    out: str
    models: tuple[str, ...]
    limit: int | None = None
    exports: tuple[str, ...] = ()
    images: str | None = None


def check_request(request: EvaluateRequest, document: Document) -> None:
    """Check what can be known before anything is read.

    Raises:
        UserMistake: There is no folder, no model and no export, or one is named twice or unknown.
        Mistakes: The engine's settings are wrong.
    """
    if not request.out:
        example = f"synth evaluate {request.source} --model tuned --out evaluation"
        raise UserMistake(f"missing: --out, the folder for the results; for example: {example}")
    if not request.models and not request.exports:
        raise UserMistake("missing: --model, the model that is asked; or --export, for the questions alone")
    if len(set(request.models)) < len(request.models):
        raise UserMistake(f"--against {request.models[1]}: is the model itself; name another one to compare with")
    for name in request.exports:
        if name not in EXPORTS:
            raise UserMistake(f"--export {name}: no such form: {nearest(name, EXPORTS)}")
    marks = [mark for mark in vlmevalkit.CIRCULAR_NAMES if mark in export_name(request.out)]
    if marks and "vlmevalkit" in request.exports:
        raise UserMistake(
            f"--out {request.out}: VLMEvalKit takes every set with '{marks[0]}' in its name for rotated options; use "
            "another name"
        )
    place = ("evaluate", "engine") if document.at(("evaluate", "engine")) else ("generate", "engine")
    if faults := engine_faults(document, place):
        raise Mistakes(faults)


def evaluate(request: EvaluateRequest, pipeline: Pipeline) -> Json | None:
    """Ask models the questions that they were not asked yet, and return the numbers; None if there is no model.

    Raises:
        UserMistake: The questions, a model or the folder cannot be used.
        Damaged: A file of the folder, of the shards or of a training is missing or was changed.
        ModelUnavailable: A model cannot be loaded or reached.
        JobFailing: Every call fails.
        Stopped: A signal came; what was answered is kept.
    """
    check_command_line()
    out = open_folder(request.out)
    try:
        return _evaluate(request, out, pipeline)
    except Damaged as error:  # what repairs a run does not repair an evaluation
        what, repair, _ = str(error).partition("; redo it with")
        raise (Damaged(f"{what}; evaluate into another --out") if repair else error) from error


def _evaluate(request: EvaluateRequest, out: Folder, pipeline: Pipeline) -> Json | None:
    models = [_model_place(name) for name in request.models]
    settings = pipeline.evaluate
    known = [] if settings.seen else seen_images(models)
    named = [(name, *_resolved(pipeline, name, flag)) for name, flag in zip(models, FLAGS, strict=False)]
    source = open_source(request.source, request.images)
    questions = open_question_set(out, source, request.limit, pipeline.images)
    seen = seen_in(questions, known, pipeline.images)
    if source.run:
        uses.register(source.run.out, "evaluation", request.out)
    evaluations = [Evaluation(*each, questions, pipeline.images, settings, seen) for each in named]
    _note_seen(questions, seen)
    with listening() as signals:
        try:
            for evaluation in evaluations:
                _ask(evaluation, signals)
        finally:
            leave_ray()
    summary = _write(out, evaluations) if evaluations else None
    for name in request.exports:
        _export(name, out, questions, evaluations, pipeline)
    return summary


# --- the models -------------------------------------------------------------------------------------------------------


def _model_place(name: str) -> str:
    """Return a model as it was typed; of the folder of a training, or of a recipe, the tuned model in it."""
    folder = expand_home(name)
    if not (folder / "training.json").is_file() and not (folder / RECIPE).is_file():
        return name
    model = stage_folders(folder)[-1] / "model"
    return str(model) if model.is_dir() else name


def _resolved(pipeline: Pipeline, name: str, flag: str) -> tuple[ModelName, EngineConfig]:
    """Return the exact model and its engine. Raises UserMistake if there is no such model."""
    own = pipeline.generate.answerer
    engine = pipeline.evaluate.engine or own.engine
    named = own.model_copy(update={"model": name, "revision": None, "engine": engine})
    return resolve_model(named, flag), engine


def _note_seen(questions: QuestionSet, seen: frozenset[str]) -> None:
    """Report how many questions are about images of a training; raise UserMistake if all are."""
    left = [question.image_id in seen for question in questions.all()] if seen else []
    if left and all(left):
        raise UserMistake(
            "every question is about an image that a model was tuned on; give questions about other images, or "
            "--set evaluate.seen=true to ask these"
        )
    if any(left):
        note(f"{sum(left):,} of {len(left):,} questions are about images that a model was tuned on, and are not asked")


def _ask(evaluation: Evaluation, signals: StopSignals) -> None:
    """Have actors make the calls that are pending, and commit the replies."""
    found = list(evaluation.tasks())
    if not found:
        note(f"{evaluation.name}: every question has been asked")
        return
    engine, stage = evaluation.engine, evaluation.replies
    if not stage.log().partitions:
        _check_model(evaluation)
    tasks, calls = [task for task, _ in found], sum(count for _, count in found)
    strikes = stage.folder.child("strikes")
    size = min(engine.replicas, len(tasks))
    spec = PoolSpec(build, evaluation, _Images(evaluation), size, engine.cpus, gpus_of(engine), strikes, Path.cwd())
    loading, in_a_row = Loading(first_wait([engine])), 0
    with (
        Lease.take(evaluation.questions.out) as lease,
        StageProgress(f"evaluate {Path(evaluation.name).name}", calls, "call") as bar,
    ):

        def show(counters: Mapping[str, float]) -> None:
            failed = counters.get("failed", 0)
            detail = f"{failed:,.0f} failed" if failed else ""
            bar.show(counters.get("replies", 0), detail if counters.get("replies") else loading.note())

        for receipt in run_pool(spec, tasks, show, signals):
            stage.commit(receipt, lease)
            in_a_row = 0 if receipt.counts.get("replies") else in_a_row + receipt.counts.get("failed", 0)
            if in_a_row >= FAILURES_IN_A_ROW:
                raise _failing(evaluation, receipt, in_a_row)


def _check_model(evaluation: Evaluation) -> None:
    """Raise SynthError if the engine would not start or reach its model."""
    engine, task = evaluation.engine, (evaluation.model, evaluation.engine)
    if kind_of(engine).is_checked_here:
        asyncio.run(check_engine(task))
    else:
        run_in_actor(check_engine, task, engine, Path.cwd(), f"checking model {evaluation.name}")


@dataclass(frozen=True)
class _Images:
    """The images of a task, by which a pool cuts it in half."""

    evaluation: Evaluation

    def __call__(self, task: Task) -> tuple[str, ...]:
        return image_ids(self.evaluation, task)


def _failing(evaluation: Evaluation, receipt: Receipt, count: int) -> JobFailing:
    rows = [row for file in evaluation.replies.files(receipt, "replies", ["detail"]) for row in file.to_pylist()]
    why = one_line(rows[-1]["detail"] or "the engine gave no details")
    return JobFailing(
        f"{evaluation.name}: the last {count} calls failed one after the other, the last one: {why}; fix the cause, "
        "then start the same command again"
    )


# --- the results ------------------------------------------------------------------------------------------------------


def _write(out: Folder, evaluations: Sequence[Evaluation]) -> Json:
    """Judge all replies, and write them and the numbers."""
    items: list[list[Item]] = []
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, RESULTS, compression="zstd") as writer:
        for evaluation in evaluations:
            items.append([])
            for rows, of_partition in judged(evaluation):
                items[-1] += of_partition
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema=RESULTS))
    summary = summarize(evaluations, items)
    out.write("replies.parquet", sink.getvalue().to_pybytes())
    out.write("summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode())
    out.write("summary.txt", f"{report(summary)}\n".encode())
    return summary


def export_name(out: str) -> str:
    """Return the name under which other harnesses know the questions of a folder, in their letters."""
    return f"synth_{re.sub(r'[^a-z0-9]+', '_', PurePosixPath(out.rstrip('/')).name.lower())}"


def _export(
    form: str, out: Folder, questions: QuestionSet, evaluations: Sequence[Evaluation], pipeline: Pipeline
) -> None:
    name = export_name(out.path)
    if form == "lmms-eval":
        target = out.child(f"exports/lmms-eval/{name}")
        lmms_eval.export(questions, evaluations, target, pipeline.evaluate)
    else:
        target = out.child("exports/vlmevalkit")
        vlmevalkit.export(questions, evaluations, target, name)
    note(f"exported for {form}: {target.url}")
