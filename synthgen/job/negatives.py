"""Checks of `plan.negatives`: whether the pack can answer negatives, and whether they are verified before that."""

from collections.abc import Iterator

from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.stages.generate.measures import UNANSWERABLE_SCORE

PLACE: KeyPath = ("plan", "negatives")


def faults(document: Document, pipeline: Pipeline, prompts: Prompts) -> Iterator[str]:
    """Yield what negatives need and a pipeline or its prompt pack lacks, with the line of the setting."""
    if not pipeline.plan.negatives:
        return
    where = f"{document.where(PLACE)}: plan.negatives:"
    gate = pipeline.generate.gate.get(UNANSWERABLE_SCORE)
    if gate is None or gate.min is None:
        yield (
            f"{where} a negative is answered only if a judge says that its image cannot answer it; add "
            f"{UNANSWERABLE_SCORE}: {{min: 0.7}} to generate.gate, and {UNANSWERABLE_SCORE} to generate.scores"
        )
    if not any(kind.swap for kind in prompts.types.values()):
        yield f"{where} no instruction type of prompt pack '{prompts.name}' has `swap: true`, so none can be made"
    if prompts.pack.unanswerable is None:
        yield f"{where} prompt pack '{prompts.name}' has no prompt `unanswerable`, by which negatives are answered"
    elif prompts.pack.unanswerable.text is None:
        known = prompts.pack.unanswerable.replies
        planned = [name for name, share in pipeline.plan.languages.items() if share > 0]
        if lacking := [name for name in planned if name not in known]:
            yield (
                f"{where} prompt pack '{prompts.name}': unanswerable.replies has nothing for {', '.join(lacking)}; "
                "add some, or a text by which the model answers"
            )
