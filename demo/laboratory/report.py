"""The tables and the plot of the laboratory, and how they get into a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo.laboratory.gates import Trial

Row = dict[str, str]
COLOURS = {"self": "tab:blue", "judge": "tab:orange", "large": "tab:green"}
SEVERAL = "tab:purple"


def spread(values: Sequence[float], places: int = 1, scale: float = 100) -> str:
    """Return a mean and half the range of values, in percent unless another scale is given: `97.1 ± 0.3`."""
    known = [value * scale for value in values if value == value]
    if not known:
        return ""
    return f"{np.mean(known):.{places}f} ± {(max(known) - min(known)) / 2:.{places}f}"


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as a table of Markdown, with the keys of the first as its head."""
    head = list(rows[0])
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head))]
    return "\n".join([*lines, *("| " + " | ".join(row[name] for name in head) + " |" for row in rows)])


def gate_row(name: str, trials: Sequence[Trial], cost: tuple[float, float]) -> Row:
    """Return the row of a gate or of a combination.

    Args:
        name: Its name.
        trials: One for each seed.
        cost: Engine calls and new tokens a pair.
    """
    return {
        "gate": name,
        "ROC area": spread([trial.area for trial in trials], 3, 1),
        "true of kept, %": spread([trial.true_of_kept for trial in trials]),
        "true ones dropped, %": spread([1 - trial.true_kept for trial in trials]),
        "kept, %": spread([trial.kept for trial in trials]),
        "calls a pair": f"{cost[0]:.2f}",
        "new tokens a pair": f"{cost[1]:.0f}",
    }


def write_table(page: Path, name: str, table: str) -> None:
    """Put a table between the marks `<!-- name -->` and `<!-- /name -->` of a page.

    Raises:
        ValueError: The page has no such marks.
    """
    text = page.read_text()
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise ValueError(f"{page}: has no marks {start.strip()} and {end.strip()}")
    before, after = text[: text.index(start) + len(start)], text[text.index(end) :]
    page.write_text(f"{before}{table}\n{after}")


def plot(points: Mapping[str, Mapping[str, Sequence[Trial]]], path: Path) -> None:
    """Draw what is true of the kept pairs over what is lost of the true ones, a panel for each generator.

    Args:
        points: Generator → gate → its trials.
        path: Of the SVG.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "laboratory", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(points), figsize=(4 * len(points), 4.2), squeeze=False)
    for axis, (generator, gates) in zip(axes[0], points.items(), strict=True):
        for name, trials in gates.items():
            lost = 100 * np.mean([1 - trial.true_kept for trial in trials])
            true = 100 * np.mean([trial.true_of_kept for trial in trials])
            axis.scatter([lost], [true], color=_colour(name), s=22)
            axis.annotate(name, (lost, true), xytext=(4, 2), textcoords="offset points", fontsize=6)
        axis.set(title=generator, xlabel="true pairs dropped, %", ylabel="true of the kept pairs, %")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _colour(name: str) -> str:
    """Return the colour of whoever judges; one of its own where several do."""
    models = {part.partition(".")[0] for part in name.split(" + ")}
    return COLOURS[models.pop()] if len(models) == 1 else SEVERAL


def as_json(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the trials of a gate as lists, one value for each seed."""
    names = ("area", "kept", "true_of_kept", "true_kept", "thresholds")
    return {name: [getattr(trial, name) for trial in trials] for name in names}
