"""One image through every stage, with each step printed: tags, rules, types, prompts, replies, scores, verdicts.

The taggers and the engine run in a Ray actor, as in a run, so an interrupted preview leaves no engine behind. Nothing
is stored.
"""

import asyncio
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from synthgen.commands.show import effects
from synthgen.commands.verdicts import Scores, is_inapplicable, verdict_lines
from synthgen.config.pipeline import Pipeline
from synthgen.config.replies import LETTERS
from synthgen.config.source import SourceConfig
from synthgen.console import note, pluralize
from synthgen.engines import Reply, Request, open_engine
from synthgen.engines.kinds import gpus_of, kind_of
from synthgen.engines.recorder import Recorder
from synthgen.errors import Failure, SynthError, UserMistake
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.sources import Listed, ObjectRef, is_inside_source, list_objects, read_objects
from synthgen.ingest.sources.location import local_uri, page_uri, spell_out_path, split_folder
from synthgen.job.job import WITH_MODELS, open_job
from synthgen.stages import generate, plan
from synthgen.stages.contract import Job
from synthgen.stages.generate import GenerateContext, conversation
from synthgen.stages.generate.conversation import NO_QUESTIONS, Assignment, Outcome, PreparedImage
from synthgen.stages.generate.questions import read_questions
from synthgen.stages.generate.todo import assignment_of
from synthgen.stages.plan import Assigner
from synthgen.stages.plan.images import PlannedImage
from synthgen.stages.score import PassContext, contexts_of
from synthgen.stages.score.routing import Routes, decided_rows
from synthgen.store import Folder
from synthgen.store.remote import display_uri, path_errors
from synthgen.tables import GENERATE, archive_of, image_id, score_name
from synthgen.taggers import Tagged, Taggers, check_source_tags, prepare_image, tag_images
from synthgen.workers import leave_ray, run_in_actor

LIKELIEST = 8  # instruction types that are listed with their share


@dataclass(frozen=True)
class PreviewTask:
    """The job and the image, as sent to the actor."""

    job: Job
    image: Image  # as the models see it
    image_id: str
    width: int  # pixels of the file
    height: int
    source_meta: str | None


def preview_image(place: str, pipeline: Pipeline) -> str:
    """Return the report on one image.

    Args:
        place: The image: a path, s3://… or gs://…
        pipeline: What a run would do with it.

    Raises:
        UserMistake: There is no such image, or a run would quarantine it.
    """
    data, meta = _read_image(place, pipeline)
    with DecoderPool[int](pipeline.images, processes=1) as decoder:  # a stranger's file, so decoded in a child process
        [(_, decoded)] = decoder.decode_many([(0, data)])
    if isinstance(decoded, Failure):
        raise UserMistake(f"{display_uri(place)}: would be quarantined: {decoded.reason} ({decoded.detail})")
    assert isinstance(data, bytes), "what has pixels has bytes"
    # Nothing is stored, so a run that was made in this folder does not matter.
    job = open_job(Folder(str(Path.cwd())), pipeline)
    check_source_tags(job.definitions.taggers, pipeline.source)
    digest = image_id(data)
    try:
        task = PreviewTask(job, decoded.image, digest, decoded.width, decoded.height, meta)
        note(f"{_names_of_models(job)}: the report comes when the image is done")
        engines = (engine for _, engine in job.engines_of(WITH_MODELS))
        largest = max(engines, key=gpus_of)  # they work one after the other
        lines: list[str] = run_in_actor(report, task, largest, job.home, "tagging the image and asking the model")
    finally:
        leave_ray()
    head = f"{display_uri(place)}: {decoded.format}, {decoded.width} x {decoded.height} pixels, image_id {digest[:16]}…"
    return "\n".join([head, *lines])


def _read_image(place: str, pipeline: Pipeline) -> tuple[bytes | Failure, str | None]:
    """Return the bytes of an image, and the metadata that a source would carry along with it.

    Raises:
        UserMistake: It is not there.
    """
    listed = _list_image(place, pipeline.source)
    if listed is None:
        raise UserMistake(f"{display_uri(place)}: no such image file")
    ref = ObjectRef("", listed.uri, listed.version)
    [(_, data)] = read_objects([ref], pipeline.source, pipeline.images)
    return data, listed.source_meta


def _list_image(place: str, source: SourceConfig) -> Listed | None:
    """Return the object of exactly this name, as a listing of its source has it; None if there is none."""
    protocol, path = split_folder(archive_of(place))
    if protocol == "file":
        with path_errors(place):
            path = spell_out_path(path, Path.cwd())
            if not Path(path).is_file():
                return None
        uri = local_uri(path)
    else:
        uri = f"{protocol}://{path}"
    own = {"uri": uri, "suffixes": (posixpath.splitext(path)[1],), "group_by": None}
    alone = _place_around(uri, source).model_copy(update=own)
    wanted = f"{uri}{place[len(archive_of(place)) :]}"  # of a PDF the first page, if the place names none
    return next((listed for listed in list_objects(alone) if listed.uri in (wanted, page_uri(wanted, 1))), None)


def _place_around(uri: str, source: SourceConfig) -> SourceConfig:
    """Return the place of a source that lists the folder of a file; one with the default settings if none does."""
    if not source.named:
        return source
    around = (place for place in source.places.values() if is_inside_source(posixpath.dirname(uri), place))
    return next(around, SourceConfig())


async def report(task: PreviewTask) -> list[str]:
    """Run the stages on the image, in the actor, and return the lines of the report."""
    tagged = await asyncio.to_thread(_find_tags, task)
    image = PlannedImage("", task.image_id, _best_scores(tagged), task.width, task.height)
    assigner = Assigner(plan.context_of(task.job), {})
    assignments = assigner.draw_all([image]).to_pylist()
    lines = [*_tag_lines(task, tagged), *_plan_lines(assigner, image, assignments)]
    if not assignments:
        return [*lines, "", "no instruction type suits this image: nothing would be asked"]
    calls, outcome = await _converse(task, tagged, assignments)
    scores, passes = _scores_of(outcome), list[str]()
    for context in contexts_of(task.job):
        told, measured = await _score_lines(task, context, outcome, scores)
        passes += told
        scores |= measured
    verdicts = verdict_lines(outcome.pairs, scores, task.job.pipeline.select)
    return [*lines, *_call_lines(calls), *_pair_lines(outcome), *passes, *verdicts]


def _names_of_models(job: Job) -> str:
    """Return what is loaded for the image, or that no model is."""
    models = [model.model for model, engine in job.engines_of(WITH_MODELS) if kind_of(engine).is_model]
    names = [*(spec.name for spec in job.definitions.taggers), *dict.fromkeys(models)]
    return f"loading {', '.join(names)}" if models else f"tagging with {', '.join(names)} and asking without a model"


def _best_scores(tagged: Tagged) -> dict[str, float]:
    """Return the tags with their scores, as the plan reads them: of several taggers the best."""
    scores: dict[str, float] = {}
    for tag in tagged.tags:
        scores[tag["path"]] = max(tag["score"], scores.get(tag["path"], 0.0))
    return scores


def _find_tags(task: PreviewTask) -> Tagged:
    specs = task.job.definitions.taggers
    taggers = Taggers(specs)
    item = prepare_image(taggers.prepare, task.image, task.source_meta)
    [tagged] = [item] if isinstance(item, Failure) else tag_images(taggers, [item])
    taggers.close()  # a VLM would leave the generating model no room
    if isinstance(tagged, Failure):
        raise SynthError(f"tagger {', '.join(spec.name for spec in specs)}: {tagged.detail}")
    return tagged


async def _converse(
    task: PreviewTask, tagged: Tagged, rows: Sequence[dict[str, Any]]
) -> tuple[list[tuple[Request, Reply]], Outcome]:
    """Hold the conversation on the image; return its calls and its outcome."""
    context = generate.context_of(task.job)
    image = PreparedImage(task.image, task.image_id, tuple(tag["path"] for tag in tagged.tags))
    assignments, calls, questions = _assignments(context, rows), list[tuple[Request, Reply]](), NO_QUESTIONS
    if context.asker:
        first = context.first_pass()
        engine = Recorder(await open_engine(first.model, first.engine))
        own = _assignments(first, rows)
        asked = (await conversation.ask_ahead(image, own, engine, first.conversations())).pairs
        await engine.close()
        by = {"model": first.model.model, "revision": first.model.revision}
        calls, questions = engine.calls, read_questions([{**row, **by} for row in asked], assignments)
    engine = Recorder(await open_engine(context.model, context.engine))
    outcome = await conversation.converse(image, assignments, engine, context.conversations(), questions)
    await engine.close()
    return [*calls, *engine.calls], outcome


async def _score_lines(
    task: PreviewTask, context: PassContext, outcome: Outcome, known: Scores
) -> tuple[list[str], Scores]:
    """Let a pass score the pairs that the scores known by now leave open; return lines, and the scores."""
    pairs = [row for row in outcome.pairs if row["outcome"] == GENERATE.passes]
    names, after = list(context.judge.settings.scores), context.judge.after
    before = {pair: row for (pair, name), row in known.items() if after and name == after.score}
    routes = Routes(after, before)
    open_pairs = [row for row in pairs if routes.decided(row["pair_id"], names[0]) is None]
    calls, measured = await _measure(task, context, pairs, open_pairs)
    rows = (decided_rows([(row, names) for row in pairs], routes), measured)
    values = {(row["pair_id"], name): row for scored in rows for name in scored for row in scored[name]}
    lines = [*_call_lines(calls, f"SCORE     pass {context.name} ({context.model.model})")]
    lines += [f"  {after.score} leaves {len(open_pairs)} of {pluralize(len(pairs), 'pair')} open"] if after else []
    for row in pairs:
        scores = (_score(score_name(context.name, name), values[row["pair_id"], name]) for name in names)
        lines += ["", f"  Q: {row['question']}", f"  A: {row['answer']}", f"  {', '.join(scores)}"]
    return lines, {(pair, score_name(context.name, name)): row for (pair, name), row in values.items()}


async def _measure(
    task: PreviewTask, context: PassContext, pairs: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]
) -> tuple[list[tuple[Request, Reply]], Mapping[str, list[dict[str, Any]]]]:
    """Let a pass score the wanted pairs among those of the image; return its calls and its rows by score."""
    if not wanted:
        return [], {}  # so its engine is not even started
    image = PreparedImage(task.image, task.image_id, earlier=tuple(pairs))
    engine = Recorder(await open_engine(context.model, context.engine))
    unscored = [(row, list(context.judge.settings.scores)) for row in wanted]
    scored = await conversation.score_again(image, unscored, engine, context.conversations())
    await engine.close()
    return engine.calls, scored.scores


def _assignments(context: GenerateContext, rows: Sequence[dict[str, Any]]) -> list[Assignment]:
    recipes = context.recipes()
    return [assignment_of(row, recipes[row["type"], row["form"]], context.thing_of(row)) for row in rows]


def _tag_lines(task: PreviewTask, tagged: Tagged) -> Iterator[str]:
    files = {spec.name: spec.file for spec in task.job.definitions.taggers}
    yield from ("", f"TAG       {', '.join(files)}")
    for tag in tagged.tags:
        threshold = files[tag["tagger"]].threshold_of(tag["path"])
        limit = "" if threshold is None else f"  (threshold {threshold:.2f})"
        by = f"  by {tag['tagger']}" if len(files) > 1 else ""
        yield f"  {tag['score']:.2f}  {tag['path']}{limit}{by}"
    if not tagged.tags:
        yield "  no tag is sure enough"
    yield from (f"  left out: {phrase}" for phrase in tagged.left_out)


def _plan_lines(assigner: Assigner, image: PlannedImage, assignments: Sequence[dict[str, Any]]) -> Iterator[str]:
    rules, weighed = assigner.context.rules, assigner.weigh([image])
    [fired] = weighed.matches
    yield from ("", f"PLAN      {len(fired)} of {len(rules.rules)} rules of mapping '{rules.name}' fire")
    if hidden := [tag for tag in image.tags if tag not in weighed.seen[0]]:
        yield f"  rules do not see {', '.join(hidden)}: plan.most_a_parent"
    for number, share in fired.items():
        line, factor = rules.rules[number], float(assigner.weights.factor(np.array(share)))
        times = f"  x {factor:.2f}" if factor < 1 else ""
        yield f"  {line.where}  {', '.join(line.rule.patterns)}{times}"
        yield from (f"      {effect}" for effect in effects(line.rule))
    amounts = zip(assigner.types, weighed.weights[0].tolist(), strict=True)
    weights = {path: weight for path, weight in amounts if weight > 0}
    total = sum(weights.values()) or 1.0
    balance = assigner.context.settings.balance
    unbalanced = ", before balancing, which takes all images to see" if balance.types or balance.tags else ""
    yield f"  {len(weights)} instruction types{unbalanced}; the likeliest:"
    for path, weight in sorted(weights.items(), key=lambda item: -item[1])[:LIKELIEST]:
        yield f"    {weight / total:5.1%}  {path}"
    if any(assigner.context.types[path].thing == "absent" for path in assigner.types):
        yield "  types about absent things are left out: which things are likely takes all images to see"
    if assigner.context.settings.negatives:
        yield "  negatives are left out: their questions are written for another image"
    yield "  drawn for this image:"
    for drawn in assignments:
        because = f"  because of {', '.join(drawn['because'])}" if drawn["because"] else ""
        about = f"  about {drawn['thing']}" if drawn["thing"] else ""
        yield f"    {drawn['type']} #{drawn['ordinal']}, {drawn['form']}, {drawn['language']}{about}{because}"


def _call_lines(calls: Sequence[tuple[Request, Reply]], head: str = "GENERATE ") -> Iterator[str]:
    yield from ("", f"{head} {pluralize(len(calls), 'call')}")
    system = ""
    for request, reply in calls:
        if request.system and request.system != system:  # most calls share one
            system = request.system
            yield f"  system: {system.strip()}"
        content = "image + text" if request.image is not None else "text"
        into, cached, out = (
            "?" if count is None else count for count in (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens)
        )
        tokens = f"{into} tokens in, {cached} cached, {out} out"
        yield from ("", f"  [{request.purpose}] {content}   {tokens}, {reply.seconds:.2f} s")
        yield from (f"    | {line}" for line in request.text.splitlines())
        yield from (f"    > {line}" for line in _reply_text(request, reply).splitlines())


def _reply_text(request: Request, reply: Reply) -> str:
    if request.given is not None:
        return request.given
    return f"({reply.failure}: {reply.detail})" if reply.failure else reply.text


def _pair_lines(outcome: Outcome) -> Iterator[str]:
    yield from ("", "PAIRS")
    scores = _scores_of(outcome)
    for row in outcome.pairs:
        if row["outcome"] == "failed":
            why = row["detail"] or row["raw_question"]
            yield f"  {row['type']}, {row['form']}: failed: {row['reason']}" + (f" ({why!r})" if why else "")
            continue
        lettered = zip(LETTERS, row["options"] or [], strict=False)
        options = "".join(f"  {letter}. {option}" for letter, option in lettered)
        yield f"  {row['type']}, {row['form']}"
        yield f"    Q: {row['question']}{options}"
        yield f"    A: {row['answer']}"
        own = {name: scores[row["pair_id"], name] for name in outcome.scores}
        applying = {name: score for name, score in own.items() if not is_inapplicable(score)}
        yield "    " + ", ".join(_score(name, score) for name, score in applying.items())


def _scores_of(outcome: Outcome) -> Scores:
    return {(row["pair_id"], name): row for name, rows in outcome.scores.items() for row in rows}


def _score(name: str, row: Mapping[str, Any]) -> str:
    return f"{name}: {row['reason']}" if row["value"] is None else f"{name} {row['value']:.2f}"
