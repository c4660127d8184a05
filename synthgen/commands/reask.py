"""`synth reask`: asks pairs that `select` dropped again along a stronger path, and does everything that follows.

What is asked again, and about what that takes, is told before anything is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from synthgen.commands.plan.pricing import Usage, money
from synthgen.config import library, overrides
from synthgen.config.pipeline import Pipeline
from synthgen.config.strict_yaml import Document
from synthgen.console import note, pluralize
from synthgen.engines.kinds import gpus_of
from synthgen.errors import UserMistake
from synthgen.job import request as requests
from synthgen.job import run_record
from synthgen.job.given import check_is_asked
from synthgen.job.request import RunRequest
from synthgen.run import StageRange, run, run_stage
from synthgen.stages.contract import Job, StageRun
from synthgen.stages.generate.reask import context_for
from synthgen.stages.generate.reasking import count_reasons, of_reason, todo
from synthgen.stages.spending import has_price
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, SCORE, SELECT, STAGES
from synthgen.workers import leave_ray, listening, recording

REASK = replace(GENERATE, module="synthgen.stages.generate.reask")  # the same tables, filled by another module
SECTION = "reask"


def with_own_section(job: Job, folder: RunFolder) -> Job:
    """Return a job with the section `reask` as the pipeline's file has it now, which is written when pairs fell.

    A run that was started in another folder has the section of its last start, as names there mean other files.

    Raises:
        Mistakes: The file has some.
    """
    record = run_record.record_of(folder)
    if Path(record["started_in"]) != Path.cwd():
        return job
    document = requests.read(RunRequest.of(record), record, folder.out.url)
    section = library.check(document, Pipeline).reask
    return replace(job, pipeline=job.pipeline.model_copy(update={SECTION: section}))


def with_settings(job: Job, settings: Sequence[str]) -> Job:
    """Return a job with other settings of the section `reask`.

    Raises:
        UserMistake: A setting is of another section, or is none.
    """
    document = Document(Path(), job.pipeline.model_dump(mode="json"), {(): "the pipeline of the run"}, home=job.home)
    for setting in settings:
        if overrides.keys_of(setting.partition("=")[0])[0] != SECTION:
            raise UserMistake(
                f"--set {overrides.redact(setting)}: synth reask takes settings of the section reask alone"
            )
        document = overrides.with_override(document, setting)
    return replace(job, pipeline=library.check(document, Pipeline)) if settings else job


def forecast(folder: RunFolder, job: Job) -> list[str]:
    """Return lines that say which pairs would be asked again, by their reasons, and about what that takes.

    Raises:
        UserMistake: No pair was decided on yet, or the model of the path cannot be found.
    """
    check_is_asked(folder.out.url, job.has_pairs, "reask")
    context = context_for(job)
    if not folder.log(SELECT).partitions:
        url = folder.out.url
        raise UserMistake(f"{url}: no pair was decided on yet; finish that with `synth run --out {url}`")
    reasons, tokens = count_reasons(folder, context, todo(folder, context))
    if not reasons:
        wanted = ", ".join(context.reasons)
        return [f"nothing to ask again: every pair that was dropped for {wanted} was asked again before, if any was"]
    answers = pluralize(context.samples, "answer")
    head = f"{pluralize(reasons.total(), 'pair')} to ask again, {answers} each by {context.model.model}, dropped for:"
    return [head, *of_reason(reasons), *_cost(job, tokens)]


def _cost(job: Job, tokens: Mapping[str, int]) -> Iterator[str]:
    """Yield about what the answers take, by what the pairs took before."""
    settings, samples = job.pipeline.reasker, job.pipeline.reask.samples
    prompt, output = (samples * tokens[name] for name in ("prompt_tokens", "output_tokens"))
    price = ""
    if has_price(settings.price):
        cost = money(Usage(prompt, 0, output), settings.price, gpus_of(settings.engine) or 0.0)
        price = f", {cost:,.2f} {settings.price.currency} by the price of tokens"
    yield (
        f"by what these pairs took before, about {prompt:,} tokens in and {output:,} out{price}, "
        "and the scores of the new ones"
    )


def reask(folder: RunFolder, job: Job) -> None:
    """Ask dropped pairs again, then score, select and pack.

    Raises:
        UserMistake: As `forecast`, or a purge was cut short.
    """
    for line in forecast(folder, job):
        note(line)
    if message := run_record.unfinished_purge(folder):
        raise UserMistake(f"{folder.out.url}: {message}")
    with listening() as signals, recording():
        try:
            with folder.lease() as lease:
                run_stage(StageRun(REASK, job, folder, lease, signals))
        finally:
            leave_ray()
    run(folder, job, RunRequest.of(run_record.record_of(folder)), StageRange(SCORE.typed, STAGES[-1].typed))
