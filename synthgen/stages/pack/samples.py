"""Shards and their samples.

A sample is an image with its kept pairs; an image with more than `max_turns` pairs has several samples. The order of
the pairs is drawn: in the order of the plan, every conversation would begin with a description. The id of a sample is a
hash of its image and pairs, so comparing ids shows every change.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from synthgen import __version__
from synthgen.config.packing import PackConfig
from synthgen.config.prompt_file import AnswerPrompt
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.config.turns import turn_text
from synthgen.engines.kinds import kind_of
from synthgen.ingest.images import DECODING
from synthgen.ingest.sources.instructions import name_of_set
from synthgen.stages.contract import Job
from synthgen.stages.pack import redact
from synthgen.store import Folder
from synthgen.tables import make_id, sample_id
from synthgen.workers import Task

FORMAT_VERSION = "4"  # part of the fingerprint; raise it when the columns or the order of turns change

TURN_KINDS = ("type", "form", "language")  # of a turn: what the dataset card counts
ORIGINS = ("license", "source")  # of an image

# Answer form, question, options, language and pair id → the text of the user's turn.
TurnText = Callable[[str, str, Sequence[str], str, str], str]


@dataclass(frozen=True)
class PackContext:
    """Everything that shapes the shards; it is sent to the workers.

    Attributes:
        scores: The names of the scores that have columns, PASS.SCORE those of passes.
        wording: The fingerprint of `turn_text`.
        root: The local folder of the source, or of each of several, which no sample shows.
        annotations: The fingerprint of tags and scores.
    """

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    pack: PackConfig
    scores: tuple[str, ...]
    turn_text: TurnText
    wording: str
    root: redact.Root = ""
    annotations: str = ""

    @property
    def image_policy(self) -> str:
        """The fingerprint of the images in samples."""
        pixels = str(self.images.model_pixels) if self.pack.images == "resized" else ""
        return make_id("images", DECODING, self.pack.images, self.pack.metadata, pixels)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of samples; the size of shards is no part of it."""
        shape = (self.image_policy, str(self.pack.max_turns), str(self.pack.worked), self.wording, self.annotations)
        return make_id("shards", FORMAT_VERSION, *shape, *sorted(self.scores))


def context_of(job: Job) -> PackContext:
    """Return the context of a job."""
    pipeline, prompts = job.pipeline, job.definitions.prompts
    turns = {form: _turn_settings(answer) for form, answer in prompts.pack.answer.items()}
    wording = hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()[:32]
    return PackContext(
        job.out,
        pipeline.source,
        pipeline.images,
        pipeline.pack,
        job.scores,
        partial(turn_text, prompts),
        wording,
        redact.root_of(pipeline.source),
        job.fingerprint("tags") + job.fingerprint("scores") + (job.fingerprint("passes") if job.passes else ""),
    )


def _turn_settings(answer: AnswerPrompt) -> object:
    """Return the keys of an answer prompt that shape turns."""
    return answer.model_dump(mode="json", include={"turn", "wordings"}) if answer.wordings else answer.turn


def origin_of(job: Job) -> dict[str, str]:
    """Return the origin of the data for the dataset card, without secrets and folders of this machine."""
    pipeline = job.pipeline
    asked = {
        "Prompts": redact.shelf_name(pipeline.generate.prompts),
        "Mapping": redact.shelf_name(pipeline.plan.mapping),
    }
    return {
        **(_set_of(job) if job.has_pairs else _models_of(job)),
        **_judges_of(job),
        **({} if job.has_pairs else asked),
        "Tagger": ", ".join(map(redact.shelf_name, pipeline.tag.taggers)),
        "Taxonomy": redact.shelf_name(job.definitions.taxonomy.name),
        **({"View": pipeline.view} if pipeline.view else {}),
        "Made by": f"synthgen {__version__}",
        **_engines_of(job),
    }


def _set_of(job: Job) -> dict[str, str]:
    """Return the instruction set that the pairs came with."""
    rows = job.pipeline.source.rows
    return {"Set": name_of_set(job.pipeline.source), **({"Form": rows.form} if rows and rows.form else {})}


def _models_of(job: Job) -> dict[str, str]:
    """Return the models for the card; of two, the one that answers is the model of the samples."""
    answering = {"Model": redact.model(job.model.model), "Model revision": job.model.revision}
    if job.asking is None:
        return answering
    return {**answering, "Asked by": redact.model(job.asking.model), "Asked by revision": job.asking.revision}


def _judges_of(job: Job) -> dict[str, str]:
    """Return the models that scored in passes, each with its engine and what it scored."""
    return {
        f"Scored by {judge.name}": f"{redact.model(judge.model.model)} at {judge.model.revision} "
        f"({kind_of(judge.settings.engine).name}): {', '.join(judge.scores)}"
        for judge in job.passes
    }


def _engines_of(job: Job) -> dict[str, str]:
    names = [kind_of(engine).name for _, engine in job.engines]
    return {} if not names else {"Engine": names[-1], **({"Engine that asked": names[0]} if job.asking else {})}


@dataclass(frozen=True, kw_only=True)
class Shard(Task):
    """A shard to be written; its `inputs` are the commits that its samples are made from.

    Attributes:
        samples: The ids of the samples, in order.
        images: The id of the image of each sample.
    """

    samples: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The ids of the samples to write, in order: of a piece of a shard, those of its images."""
        if self.only is None:
            return self.samples
        only = set(self.only)
        return tuple(sample for sample, image in zip(self.samples, self.images, strict=True) if image in only)


@dataclass(frozen=True)
class ShardSummary:
    """The numbers of a written shard that the dataset card adds up.

    Attributes:
        bytes: Of its samples.
        turns: "type", "form" or "language" → name → turns.
        unpacked: Reason → samples.
        origins: "license" or "source" → name, or "" for none → images.
    """

    images: int
    samples: int
    bytes: int
    turns: Mapping[str, Counter[str]]
    unpacked: Counter[str]
    origins: Mapping[str, Counter[str]]


def summarize(index: pa.Table, unpacked: pa.Table) -> ShardSummary:
    """Return the summary of a shard from its tables."""
    turns = {kind: Counter(pc.list_flatten(index.column(f"{kind}s")).to_pylist()) for kind in TURN_KINDS}
    images = len(index.column("image_id").unique())
    of_images = {origin: index.group_by(["image_id", origin]).aggregate([]) for origin in ORIGINS}
    origins = {
        origin: Counter(name or "" for name in of_images[origin].column(origin).to_pylist()) for origin in ORIGINS
    }
    size = pc.sum(index.column("bytes"), min_count=0).as_py()
    reasons = Counter(unpacked.column("reason").to_pylist())
    return ShardSummary(images, index.num_rows, size, turns, reasons, origins)


def samples_of(decisions: pa.Table, max_turns: int) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the samples of a partition as (image_id, sample_id, pair ids), images in the order of their first pair.

    A pair and those that go on from it stay together, also where they are more than `max_turns`.
    """
    kept = decisions.filter(decisions.column("kept")).select(["image_id", "pair_id", "follows"]).to_pylist()
    talks: dict[str, dict[str, list[str]]] = {}
    for row in kept:
        if row["follows"] is None:
            talks.setdefault(row["image_id"], {})[row["pair_id"]] = [row["pair_id"]]
    for row in kept:
        if row["follows"] is not None:
            talks[row["image_id"]][row["follows"]].append(row["pair_id"])
    for image, of_image in talks.items():
        drawn = sorted(of_image, key=lambda first: make_id("turn", first))
        for turns in _runs([of_image[first] for first in drawn], max_turns):
            yield image, sample_id(image, turns), turns


def _runs(talks: Sequence[Sequence[str]], most: int) -> Iterator[list[str]]:
    """Yield talks one after the other as runs of at most so many pairs; a longer talk is a run of its own."""
    run: list[str] = []
    for talk in talks:
        if run and len(run) + len(talk) > most:
            yield run
            run = []
        run += talk
    if run:
        yield run
