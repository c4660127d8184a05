"""The README.md beside the preferences: what they are, how they were chosen, and why other pairs gave none."""

from collections.abc import Mapping, Sequence

from synthgen.commands.preferences.rows import COLUMNS

OUTCOMES = {
    "preference": "a preference was written",
    "not_kept": "`select` dropped the pair, so its answer is not preferred to anything",
    "no_samples": "no score has further answers to the question: none is measured for its form, or it failed",
    "not_clustered": "answers in sentences, whose meanings only the score `consistency` compares",
    "unanimous": "all answers say the same",
    "not_majority": "as many answers or more say something else than the kept one",
    "below_margin": "the shares of the answers are too near to each other",
    "unusable": "what the others say is no answer: empty, or no letter of an option",
    "not_packed": "the image of the pair could not be packed",
}


def card(outcomes: Mapping[str, int], margin: float, scores: Sequence[str]) -> str:
    """Return the text of the card.

    Args:
        outcomes: Outcome → pairs of the run.
        margin: The least difference of the shares.
        scores: The scores that had the samples.
    """
    rows = [f"| {outcomes[name]:,} | {text} |" for name, text in OUTCOMES.items() if outcomes.get(name)]
    columns = [f"| `{name}` | {text} |" for name, text in COLUMNS.items()]
    return "\n".join(
        [
            f"# {outcomes.get('preference', 0):,} preferences between answers about images",
            "",
            "A vision-language model answered each question several times. The chosen answer is the one that `synth` "
            "selected for the instruction data and that most of the samples agree with; the rejected one is what the "
            f"fewest say (scores: {', '.join(scores)}). The shares of the two differ by {margin:g} or more. Nobody "
            "checked either: a model can agree with itself and be wrong.",
            "",
            "## What became of each pair of the run",
            "| pairs | |",
            "| --- | --- |",
            *rows,
            f"| {sum(outcomes.values()):,} | all pairs |",
            "",
            "## Columns",
            "| column | content |",
            "| --- | --- |",
            *columns,
            "",
            "## How to load it",
            "```python",
            "from datasets import load_dataset",
            "",
            'data = load_dataset("parquet", data_files="data/*.parquet", split="train")',
            "```",
            "",
            'TRL\'s `DPOTrainer` takes `data.select_columns(["images", "prompt", "chosen", "rejected"])` as it is.',
            "",
        ]
    )


def text(outcomes: Mapping[str, int]) -> str:
    """Return the outcomes as lines for a terminal, which add up to the pairs of the run."""
    lines = [f"{outcomes[name]:>12,}  {name:<14} {told}" for name, told in OUTCOMES.items() if outcomes.get(name)]
    return "\n".join([*lines, f"{sum(outcomes.values()):>12,}  pairs"])
