"""Checks of a pipeline and its prompt pack against the table of scores.

They are not in config/, which stands below the table. Each yields messages with the file and line of a mistake. Names
are looked up in the files as read, so that a mistake elsewhere hides none of these.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path

from jinja2 import TemplateError

from synthgen.config import library
from synthgen.config.generation import UNANSWERABLE_SCORE, GenerateConfig
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
from synthgen.tables import pass_of_score, score_column, score_name

JUDGE: KeyPath = ("judge",)
SCORES: KeyPath = ("generate", "scores")
GATE: KeyPath = ("generate", "gate")
NEGATIVES: KeyPath = ("plan", "negatives")
PASSES: KeyPath = ("score",)
ENGINE: KeyPath = ("generate", "engine")
PART_ENGINES: tuple[KeyPath, ...] = (("generate", "ask", "engine"), ("generate", "answer", "engine"))
SERVED: Mapping[Capability, str] = {
    "given": "prompt log-probabilities",
    "labels": "probabilities of labels",
    "schema": "replies that follow a schema",
}


@dataclass(frozen=True)
class Measuring:
    """The places in a pipeline of the scores that one engine measures, and of that engine.

    Attributes:
        pass_name: Of the scoring pass; None for `generate`.
    """

    scores: KeyPath
    engine: KeyPath
    pass_name: str | None = None


def measuring(pipeline: Document) -> list[Measuring]:
    """Return the places of `generate`, whose engine is that which answers, and those of each scoring pass."""
    answering = PART_ENGINES[1] if pipeline.at(PART_ENGINES[1]) else ENGINE
    return [
        Measuring(SCORES, answering),
        *(
            Measuring((*place, "scores"), own if pipeline.at(own := (*place, "engine")) else ENGINE, name)
            for place, name in pipeline.names_at(PASSES).items()
        ),
    ]


def engine_places(pipeline: Document) -> list[KeyPath]:
    """Return the places of all engines of a pipeline; a part or a pass without one has that of `generate`."""
    own = (*PART_ENGINES, *((*place, "engine") for place in pipeline.names_at(PASSES)))
    return [ENGINE, *(place for place in own if pipeline.at(place))]


def name_faults(pipeline: Document) -> Iterator[str]:
    """Yield the unknown scores of a pipeline, and its thresholds on scores that it does not measure."""
    default = GenerateConfig.model_fields["scores"].default
    measured = list(default) if pipeline.at(SCORES) is None else []
    for part in measuring(pipeline):
        for place, name in pipeline.names_at(part.scores).items():
            try:
                find_scorer(name)
            except UserMistake as mistake:
                yield f"{pipeline.where(place)}: {_dotted(part.scores)}: {mistake}"
            measured.append(score_name(part.pass_name, name) if part.pass_name else name)
    if pipeline.at(NEGATIVES) and UNANSWERABLE_SCORE not in measured:
        measured.append(UNANSWERABLE_SCORE)
    yield from _gate_faults(pipeline, measured)
    yield from _column_faults(pipeline, measured)
    passes = list(pipeline.names_at(PASSES).values())
    yield from _circle_faults(pipeline)
    for place, name in {**selections.scores_named(pipeline), **_waited_for(pipeline)}.items():
        where = f"{pipeline.where(place)}: {selections.dotted(place)}: '{name}'"
        pass_name = pass_of_score(name)
        if not is_score(name.rpartition(".")[2]):
            yield f"{where} is not a score: {nearest(name, {*scorer_names(), *measured})}"
        elif pass_name and pass_name not in passes:
            known = nearest(pass_name, passes) if passes else "there is none; add one to the section score"
            yield f"{where}: no scoring pass is called '{pass_name}': {known}"
        elif name not in measured:
            section = f"score.{pass_name}.scores" if pass_name else "generate.scores"
            yield f"{where} is not scored; add it to {section} ({', '.join(measured)})"


def _waited_for(pipeline: Document) -> dict[KeyPath, str]:
    """Return the scores that passes wait for, each by its place."""
    places = ((*place, "after", "score") for place in pipeline.names_at(PASSES))
    return {place: name for place in places if isinstance(name := pipeline.at(place), str)}


def _circle_faults(pipeline: Document) -> Iterator[str]:
    """Yield the passes that wait for themselves, or for each other in a circle."""
    waited = {str(place[1]): (place, pass_of_score(name)) for place, name in _waited_for(pipeline).items()}
    for name, (place, before) in waited.items():
        chain = [name]
        while before in waited and before not in chain:
            chain.append(before)
            before = waited[before][1]
        if before == name:
            circle = " waits for ".join([*chain, name])
            where = f"{pipeline.where(place)}: {_dotted(place)}"
            yield f"{where}: {circle}, so none could start; let one of them wait for none"


def _scale_faults(pipeline: Document, prompts: Prompts, passes: Mapping[str, Prompts]) -> Iterator[str]:
    """Yield the passes that would take over values of another scale than that of their own score."""
    known: dict[str | None, Prompts] = {None: prompts}
    known.update(passes)
    for place, name in _waited_for(pipeline).items():
        alone, own, before = name.rpartition(".")[2], str(place[1]), pass_of_score(name)
        scorer = attempt([], partial(find_scorer, alone))
        is_taken = alone in pipeline.names_at((*place[:2], "scores")).values()
        if scorer is None or not is_taken or not {own, before} <= known.keys():
            continue
        if any(scorer.missing_prompts(known[part].pack) for part in (own, before)):
            continue  # reported by serve_faults
        (low, high), (own_low, own_high) = (scorer.bounds(known[part].pack) for part in (before, own))
        if (low, high) != (own_low, own_high):
            scales = (
                f"{name} goes from {low:g} to {high:g} and {score_name(own, alone)} from {own_low:g} to {own_high:g}"
            )
            where = f"{pipeline.where(place)}: {_dotted(place)}"
            yield f"{where}: {scales}, so its values cannot be taken over; use one prompt pack"


def _column_faults(pipeline: Document, measured: Sequence[str]) -> Iterator[str]:
    """Yield the scores that would have one column in the shards."""
    names: dict[str, str] = {}
    for name in measured:
        other = names.setdefault(score_column(name), name)
        if other != name:
            where = pipeline.where((*PASSES, pass_of_score(name) or ""))
            column = score_column(name)
            yield f"{where}: the scores {other} and {name} would both be {column} in the shards; rename the pass"


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
        elif name == UNANSWERABLE_SCORE:
            yield f"{where} is set by generate.unanswerable: 0.7, the least with which a negative is answered"
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


def serve_faults(pipeline: Document, prompts: Prompts, passes: Mapping[str, Prompts]) -> Iterator[str]:
    """Yield the scores of a pipeline that the prompt pack or the engine that measures them cannot serve.

    Args:
        pipeline: The pipeline.
        prompts: The pack of `generate`.
        passes: The packs of scoring passes, as far as they are known.
    """
    for part in measuring(pipeline):
        kind = attempt([], partial(kind_at, pipeline, part.engine))  # None: reported by engine_faults
        own = passes.get(part.pass_name) if part.pass_name else prompts
        if own is None:  # its pack has mistakes of its own
            continue
        for place, name in pipeline.names_at(part.scores).items():
            scorer = attempt([], partial(find_scorer, name))
            if scorer is None:
                continue  # reported by name_faults
            where = f"{pipeline.where(place)}: {_dotted(part.scores)}: '{name}' needs"
            yield from (f"{where} {fault}" for fault in _pack_faults(scorer, own, is_pass=bool(part.pass_name)))
            needs = {*scorer.needs, *(("given",) if part.pass_name and scorer.from_logprobs else ())}
            if kind:
                yield from (f"{where} {fault}" for fault in _engine_faults(scorer, needs, kind, own))
    yield from _scale_faults(pipeline, prompts, passes)


def _pack_faults(scorer: Scorer, prompts: Prompts, *, is_pass: bool) -> Iterator[str]:
    """Yield what a score needs that a pack does not have; in a pass also the prompts of answers."""
    for key in scorer.missing_prompts(prompts.pack):
        yield f"the prompt {key}, which pack '{prompts.name}' does not have"
    if is_pass and scorer.asks_answers:
        forms = {form for kind in prompts.types.values() for form in kind.forms}
        for form in sorted(forms - set(prompts.pack.answer)):
            yield f"the prompt answer.{form}, which pack '{prompts.name}' does not have"


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


def _engine_faults(scorer: Scorer, needs: Set[Capability], kind: EngineKind, prompts: Prompts) -> Iterator[str]:
    """Yield what a score needs that an engine of that kind does not give."""
    for need in sorted(needs - kind.capabilities):
        yield (
            f"{SERVED[need]}, which engine kind {kind.name} does not give; take it out of the scores and "
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
    """Return the names of the kinds of engine with a model that answers and gives what a score needs."""
    answering = [kind for kind in ENGINE_KINDS.values() if kind.is_model and kind.capabilities > {"labels"}]
    kinds = [kind for kind in answering if need in kind.capabilities]
    return " or ".join(kind.name for kind in kinds if shows_first_token or not kind.shows_first_token)


def _dotted(place: KeyPath) -> str:
    return ".".join(map(str, place))


def _prefix_clash(labels: Sequence[str]) -> tuple[str, str] | None:
    """Return a label and another one that begins with it, if there are such."""
    return next(((label, longer) for label, longer in permutations(labels, 2) if longer.startswith(label)), None)
