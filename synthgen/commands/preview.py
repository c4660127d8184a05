"""One image through every stage, with everything said on the way.

Comes in: an image file and a pipeline. Goes out: text: the tags with their scores and thresholds, the mapping lines that fired,
the types and their weights, the questions drawn, the prompts as the model gets them, the replies and the scores. The tagger
and the engine run in a Ray actor, as in a run, so that an interrupted preview leaves no engine behind. Nothing is stored.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from synthgen.commands.show import effects
from synthgen.config.pipeline import Pipeline, SourceConfig
from synthgen.engines import Reply, Request, open_engine
from synthgen.engines.recorder import Recorder
from synthgen.errors import Failure, SynthError, UserMistake
from synthgen.ingest.images import DecoderPool
from synthgen.ingest.sources import list_objects
from synthgen.job.job import Job, open_job
from synthgen.stages.generate import conversation
from synthgen.stages.generate.conversation import Assignment, LoadedImage, Outcome
from synthgen.stages.plan import Assigner
from synthgen.store import Folder
from synthgen.tables import image_id
from synthgen.taggers import ClipTaggerFile, Failed, Tagged, Taggers, prepared, tags_of_each, threshold
from synthgen.workers import leave_ray, once


@dataclass(frozen=True)
class PreviewTask:
    """What is sent to the actor."""

    job: Job
    image: Image  # as the models see it
    image_id: str
    width: int  # of the file
    height: int
    source_meta: str | None


def text(path: Path, pipeline: Pipeline) -> str:
    """The report on one image."""
    if not path.is_file():
        raise UserMistake(f"{path}: no such image file")
    data = path.read_bytes()
    with DecoderPool[int](pipeline.images, processes=1) as decoder:  # a stranger's file is decoded in a child here too
        [(_, decoded)] = decoder.decode_many([(0, data)])
    if isinstance(decoded, Failure):
        raise UserMistake(f"{path}: would be quarantined: {decoded.reason} ({decoded.detail})")
    job = open_job(
        Folder(str(Path.cwd())), pipeline, before={}
    )  # nothing is stored, and whatever was made here is not looked at
    try:
        look = PreviewTask(
            job, decoded.image, image_id(data), decoded.width, decoded.height, _meta(path, pipeline.source)
        )
        lines: list[str] = once(report, look, pipeline.generate.engine)
    finally:
        leave_ray()
    head = f"{path}: {decoded.format}, {decoded.width} x {decoded.height} pixels, image_id {image_id(data)[:16]}…"
    return "\n".join([head, *lines])


async def report(look: PreviewTask) -> list[str]:
    """Runs the stages on the image, in the actor; the lines of the report."""
    tagged = await asyncio.to_thread(_tags, look)
    tags = tagged.tags
    drawer = Assigner(look.job.plan_terms, {})
    row = {"image_id": look.image_id, "object_id": "", "tags": tags, "width": look.width, "height": look.height}
    drawn = drawer.draw(row)
    lines = [
        *_tag_lines(look, tags),
        *(f"  left out: {one}" for one in tagged.left_out),
        *_plan_lines(drawer, row, drawn),
    ]
    if not drawn:
        return [*lines, "", "no instruction type suits this image: nothing would be asked"]
    terms = look.job.generate_terms
    recipes = terms.recipes()
    engine = Recorder(await open_engine(terms.model, terms.engine))
    assignments = [_assignment(one, recipes[one["type"], one["form"]]) for one in drawn]
    subject = LoadedImage(look.image, look.image_id, tuple(tag["path"] for tag in tags))
    outcome = await conversation.converse(
        subject,
        assignments,
        engine,
        conversation.ConversationContext(terms.prompts, terms.sampling, terms.scores, terms.seed),
    )
    await engine.close()
    return [*lines, *_call_lines(engine.calls, terms.prompts.pack.system), *_pair_lines(outcome)]


def _meta(path: Path, source: SourceConfig) -> str | None:
    """What the source would carry along with this image."""
    alone = source.model_copy(update={"uri": str(path), "suffixes": (path.suffix,)})
    return next(list_objects(alone)).source_meta


def _tags(look: PreviewTask) -> Tagged:
    taggers = look.job.texts.taggers
    tool = Taggers(taggers)
    item = prepared(tool.prepare, look.image, look.source_meta)
    (found,) = [Tagged([], failure=item.why)] if isinstance(item, Failed) else tags_of_each(tool, [item])
    tool.close()  # a VLM would leave the generating model no room
    if found.failure:
        raise SynthError(f"tagger {', '.join(one.name for one in taggers)}: {found.failure}")
    return found


def _assignment(row: dict[str, Any], recipe: str) -> Assignment:
    named = {key: row[key] for key in ("assignment_id", "image_id", "object_id", "type", "form", "language", "ordinal")}
    return Assignment(**named, recipe=recipe, attempt=0)


def _tag_lines(look: PreviewTask, tags: list[dict[str, Any]]) -> Iterator[str]:
    files = {one.name: one.file for one in look.job.texts.taggers}
    yield from ("", f"TAG       {', '.join(files)}")
    for tag in tags:
        file = files[tag["tagger"]]
        limit = f"  (threshold {threshold(file, tag['path']):.2f})" if isinstance(file, ClipTaggerFile) else ""
        by = f"  by {tag['tagger']}" if len(files) > 1 else ""
        yield f"  {tag['score']:.2f}  {tag['path']}{limit}{by}"
    if not tags:
        yield "  no tag is sure enough"


def _plan_lines(drawer: Assigner, row: dict[str, Any], drawn: list[dict[str, Any]]) -> Iterator[str]:
    rules, fired = drawer.terms.rules, drawer.fired(row)
    yield from ("", f"PLAN      {len(fired)} of {len(rules.lines)} rules of mapping '{rules.name}' fire")
    for number in fired:
        line = rules.lines[number]
        yield f"  {line.where}  {', '.join(line.rule.patterns)}"
        yield from (f"      {told}" for told in effects(line.rule))
    weights = drawer.weights.named(fired)
    total = sum(weights.values()) or 1.0
    balance = drawer.terms.settings.balance
    unknown = ", before balancing, which takes all images to see" if balance.types or balance.tags else ""
    yield f"  {len(weights)} instruction types{unknown}; the likeliest:"
    for path, weight in sorted(weights.items(), key=lambda item: -item[1])[:8]:
        yield f"    {weight / total:5.1%}  {path}"
    yield "  drawn for this image:"
    for one in drawn:
        because = f"  because of {', '.join(one['because'])}" if one["because"] else ""
        yield f"    {one['type']} #{one['ordinal']}, {one['form']}, {one['language']}{because}"


def _call_lines(calls: Sequence[tuple[Request, Reply]], system: str | None) -> Iterator[str]:
    yield from ("", f"GENERATE  {len(calls)} calls")
    if system:
        yield f"  system: {system.strip()}"
    for request, reply in calls:
        seen = "image + " if request.image is not None else ""
        shown = (
            request.given
            if request.given is not None
            else f"({reply.failure}: {reply.detail})"
            if reply.failure
            else reply.text
        )
        counts = f"{reply.prompt_tokens} tokens in, {reply.cached_tokens} cached, {reply.output_tokens} out, {reply.seconds:.2f} s"
        yield from ("", f"  [{request.purpose}] {seen}text   {counts}")
        yield from (f"    | {line}" for line in request.text.splitlines())
        yield from (f"    > {line}" for line in str(shown).splitlines())


def _pair_lines(outcome: Outcome) -> Iterator[str]:
    yield from ("", "PAIRS")
    scores = {(row["pair_id"], name): row for name, rows in outcome.scores.items() for row in rows}
    for row in outcome.pairs:
        if row["outcome"] == "failed":
            yield f"  {row['type']}, {row['form']}: failed: {row['reason']} ({row['detail'] or row['raw_question']!r})"
            continue
        options = "".join(
            f"  {letter}. {option}" for letter, option in zip("ABCDEFGHIJ", row["options"] or [], strict=False)
        )
        yield f"  {row['type']}, {row['form']}"
        yield f"    Q: {row['question']}{options}"
        yield f"    A: {row['answer']}"
        yield "    " + ", ".join(_told(name, scores[row["pair_id"], name]) for name in outcome.scores)


def _told(name: str, row: dict[str, Any]) -> str:
    return f"{name}: {row['reason']}" if row["value"] is None else f"{name} {row['value']:.2f}"
