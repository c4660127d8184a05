"""Checks of a pipeline and its prompt pack against the table of scores.

They are not in config/, which stands below the table. Each yields messages with the file and line of a mistake. Names
are looked up in the files as read, so that a mistake elsewhere hides none of these.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path

from jinja2 import TemplateError

from synthgen.config import library
from synthgen.config.pipeline import GenerateConfig
from synthgen.config.prompt_file import JudgePrompt, kind_of_judge
from synthgen.config.prompt_pack import SCORE_VARIABLES, Prompts
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.templates import variables_of
from synthgen.engines import Capability
from synthgen.engines.kinds import ENGINE_KINDS, EngineKind
from synthgen.engines.section import kind_at
from synthgen.errors import UserMistake, attempt, nearest
from synthgen.job import selections
from synthgen.stages.generate.measures import Scorer
from synthgen.stages.generate.scoring import all_scorers, find_scorer, is_score, scorer_names, scorers_using

JUDGE: KeyPath = ("judge",)
SCORES: KeyPath = ("generate", "scores")
GATE: KeyPath = ("generate", "gate")
ENGINE: KeyPath = ("generate", "engine")
PART_ENGINES: tuple[KeyPath, ...] = (("generate", "ask", "engine"), ("generate", "answer", "engine"))
SERVED: Mapping[Capability, str] = {
    "given": "prompt log-probabilities",
    "labels": "probabilities of labels",
    "schema": "replies that follow a schema",
}


def engine_places(pipeline: Document) -> list[KeyPath]:
    """Return the places of all engines of a pipeline; a part without one has that of `generate`."""
    return [ENGINE, *(place for place in PART_ENGINES if pipeline.at(place))]


def name_faults(pipeline: Document) -> Iterator[str]:
    """Yield the unknown scores of a pipeline, and its thresholds on scores that it does not measure."""
    configured = pipeline.names_at(SCORES)
    for place, name in configured.items():
        try:
            find_scorer(name)
        except UserMistake as mistake:
            yield f"{pipeline.where(place)}: generate.scores: {mistake}"
    default = GenerateConfig.model_fields["scores"].default
    measured = list(default if pipeline.at(SCORES) is None else configured.values())
    yield from _gate_faults(pipeline, measured)
    for place, name in selections.scores_named(pipeline).items():
        where = f"{pipeline.where(place)}: {selections.dotted(place)}: '{name}'"
        if not is_score(name):
            yield f"{where} is not a score: {nearest(name, scorer_names())}"
        elif name not in measured:
            yield f"{where} is not scored; add it to generate.scores ({', '.join(measured)})"


def _gate_faults(pipeline: Document, measured: Sequence[str]) -> Iterator[str]:
    """Yield the scores of `generate.gate` that do not exist, need an answer, or are not measured."""
    for place, name in pipeline.names_at(GATE).items():
        where = f"{pipeline.where(place)}: generate.gate: '{name}'"
        scorer = attempt([], partial(find_scorer, name))
        if not is_score(name):
            yield f"{where} is not a score: {nearest(name, scorer_names())}"
        elif scorer and not scorer.of_question:
            known = ", ".join(each.name for each in all_scorers() if each.of_question)
            yield f"{where} needs the answer; a gate is a score of the question alone: {known}"
        elif name not in measured:
            yield f"{where} is not scored; add it to generate.scores ({', '.join(measured)})"


def judge_faults(pack: str, home: Path = Path()) -> Iterator[str]:
    """Yield the prompts below `judge` of a pack that no score uses, or that do not suit the score that uses them."""
    document = attempt([], partial(library.load, "prompts", pack, home))
    if document is None or not isinstance(document.at(JUDGE), Mapping):
        return  # reported by the check of the pack itself
    for place, name in document.names_at(JUDGE).items():
        where = document.where(place)
        try:
            scorers = scorers_using(f"judge.{name}")
        except UserMistake as mistake:
            yield f"{where}: judge.{name}: no score that can be loaded uses it, and {mistake}"
            continue
        if not scorers:
            yield f"{where}: unknown key '{name}' in judge: no score uses it; {nearest(name, _judge_names())}"
        for scorer in scorers:
            if f"judge.{name}" in scorer.prompts:
                yield from _prompt_faults(document, place, scorer)


def serve_faults(pipeline: Document, prompts: Prompts) -> Iterator[str]:
    """Yield the scores of a pipeline that its prompt pack or its engine cannot serve."""
    measuring = PART_ENGINES[1] if pipeline.at(PART_ENGINES[1]) else ENGINE  # the engine that answers
    kind = attempt([], partial(kind_at, pipeline, measuring))  # None: reported by engine_faults
    for place, name in pipeline.names_at(SCORES).items():
        scorer = attempt([], partial(find_scorer, name))
        if scorer is None:
            continue  # reported by name_faults
        where = f"{pipeline.where(place)}: generate.scores: '{name}' needs"
        for key in scorer.missing_prompts(prompts.pack):
            yield f"{where} the prompt {key}, which pack '{prompts.name}' does not have"
        if kind:
            yield from (f"{where} {fault}" for fault in _engine_faults(scorer, kind, prompts))


def _judge_names() -> list[str]:
    keys = [key for scorer in all_scorers() for key in scorer.prompts]
    return [key.removeprefix("judge.") for key in keys if key.startswith("judge.")]


def _prompt_faults(pack: Document, place: KeyPath, scorer: Scorer) -> Iterator[str]:
    """Yield how a prompt below `judge` does not suit its score."""
    prompt, dotted = pack.at(place), ".".join(map(str, place))
    if not isinstance(prompt, Mapping):
        return
    needs_labels = "labels" in scorer.needs
    if needs_labels and kind_of_judge(prompt) == "PlainPrompt":
        yield f"{pack.where(place)}: {dotted}.labels is missing: score '{scorer.name}' reads their probabilities"
    elif not needs_labels and "labels" in prompt:
        where = pack.where((*place, "labels"))
        yield f"{where}: {dotted}.labels: score '{scorer.name}' reads the reply as text; give max_tokens instead"
    withheld = set(SCORE_VARIABLES) - set(scorer.variables)
    for variable in sorted(withheld & _variables_of(prompt.get("text"))):
        where = pack.where((*place, "text"))
        yield f"{where}: {dotted}.text: unknown variable '{variable}': {nearest(variable, scorer.variables)}"


def _variables_of(text: object) -> frozenset[str]:
    try:
        return variables_of(text) if isinstance(text, str) else frozenset()
    except TemplateError:
        return frozenset()  # reported by the check of the pack itself


def _engine_faults(scorer: Scorer, kind: EngineKind, prompts: Prompts) -> Iterator[str]:
    """Yield what a score needs that an engine of that kind does not give."""
    for need in sorted(set(scorer.needs) - kind.capabilities):
        yield (
            f"{SERVED[need]}, which engine kind {kind.name} does not give; take it out of generate.scores and "
            f"select.keep, or use engine kind {_kinds(need)}"
        )
    if not kind.shows_first_token:
        return
    others = _kinds("labels", shows_first_token=False)
    for key in scorer.prompts:
        prompt = prompts.pack.score_prompt(key)
        if isinstance(prompt, JudgePrompt) and (clash := _prefix_clash(prompt.labels)):
            label, longer = clash
            yield (
                f"labels with distinct first tokens, which is all that engine kind {kind.name} shows; "
                f"in pack '{prompts.name}' '{label}' begins '{longer}'; use other labels, or engine kind {others}"
            )


def _kinds(need: Capability, shows_first_token: bool = True) -> str:
    """Return the names of the kinds of engine with a model that give what a score needs."""
    kinds = [kind for kind in ENGINE_KINDS.values() if kind.is_model and need in kind.capabilities]
    return " or ".join(kind.name for kind in kinds if shows_first_token or not kind.shows_first_token)


def _prefix_clash(labels: Sequence[str]) -> tuple[str, str] | None:
    """Return a label and another one that begins with it, if there are such."""
    return next(((label, longer) for label, longer in permutations(labels, 2) if longer.startswith(label)), None)
