"""Checks of `plan.negatives`: whether negatives can be made, verified and answered."""

from collections.abc import Iterator

from synthgen.config.generation import UNANSWERABLE_SCORE
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.engines.kinds import kind_of
from synthgen.stages.generate.scoring import find_scorer

PLACE: KeyPath = ("plan", "negatives")


def faults(document: Document, pipeline: Pipeline, prompts: Prompts) -> Iterator[str]:
    """Yield what negatives need and a pipeline or its prompt pack lacks, with the line of the setting."""
    if not pipeline.plan.negatives:
        return
    where = f"{document.where(PLACE)}: plan.negatives:"
    if not any(kind.swap for kind in prompts.types.values()):
        yield f"{where} no instruction type of prompt pack '{prompts.name}' has `swap: true`, so none can be made"
    if prompts.pack.unanswerable is None:
        yield f"{where} prompt pack '{prompts.name}' has no prompt `unanswerable`, by which negatives are answered"
    scorer = find_scorer(UNANSWERABLE_SCORE)
    if missing := scorer.missing_prompts(prompts.pack):
        yield f"{where} prompt pack '{prompts.name}' has no prompt {missing[0]}, by which negatives are verified"
    kind = kind_of(pipeline.generate.answerer.engine)
    if unserved := set(scorer.needs) - kind.capabilities:
        yield f"{where} engine kind {kind.name} gives no {' or '.join(unserved)}, by which negatives are verified"
    if prompts.pack.unanswerable and prompts.pack.unanswerable.text is None:
        known = prompts.pack.unanswerable.replies
        planned = [name for name, share in pipeline.plan.languages.items() if share > 0]
        if lacking := [name for name in planned if name not in known]:
            yield (
                f"{where} prompt pack '{prompts.name}': unanswerable.replies has nothing for {', '.join(lacking)}; "
                "add some, or a text by which the model answers"
            )
