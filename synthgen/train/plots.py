"""The plots of a training: `monitor.html` in its folder, one page without requests or scripts, drawn as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from synthgen.train.record import LOG, read_log

FILE = "monitor.html"
MONITOR = "monitor.jsonl"
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 240, 56, 28, 12  # pixels
MOST_LINES = 8  # of a plot; of more, those that end highest
SMOOTHED = 20  # points in the mean of a line of every step
COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#e0a100", "#7d53a8", "#008f95", "#8c564b", "#5f6b73")
STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:680px;color:#222;background:#fff}"
    "h2{font-size:1rem;margin:1.5rem 0 .2rem}svg{width:100%;height:auto}text{font-size:11px;fill:#555}"
    "span{margin-right:1rem;white-space:nowrap}.grid{stroke:#ddd}.line{fill:none;stroke-width:1.6}"
    ".spike{stroke:#d1495b;stroke-dasharray:2 3}"
)

Line = Mapping[str, Any]
Points = list[tuple[float, float]]
Curves = Mapping[str, Points]


def write_plots(out: Path) -> None:
    """Write the page from the logs of a training."""
    log, monitor = read_log(out, LOG), read_log(out, MONITOR)
    spikes = [line["step"] for line in monitor if "spike" in line]
    plots = "".join(_plot(title, curves, spikes) for title, curves in curves_of(log, monitor) if any(curves.values()))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Training</title><style>{STYLE}</style>'
        f"<h1>{escape(out.resolve().name)}</h1>{plots}</html>"
    )
    writing = out / f"{FILE}.writing"
    writing.write_text(page, encoding="utf-8")
    writing.rename(out / FILE)


def curves_of(log: Sequence[Line], monitor: Sequence[Line]) -> Iterator[tuple[str, Curves]]:
    """Yield the title of each plot with its curves, points of a step and a value each."""
    yield "Loss", {"loss": _smooth([(line["step"], line["loss"]) for line in log])}
    losses = [line for line in monitor if "loss" in line]
    for view in ("family", "type", "source", "language", "form", "turn", "branch"):
        curves = _by_value(losses, "loss", view, "loss")
        if len(curves) > 1:
            yield f"Loss by {view}", curves
    held = [line for line in monitor if "held_out" in line]
    yield "Right answers about held-out pictures", _by_value(held, "held_out", "all", "right")
    for view in ("family", "type"):
        curves = _by_value(held, "held_out", view, "right")
        if len(curves) > 1:
            yield f"Right answers about held-out pictures by {view}", curves
    yield "Norm of the gradient", {"norm": _smooth([(line["step"], line["norm"]) for line in log])}
    layers: dict[str, Points] = {}
    for line in losses:
        for layer, way in line["drift"].items():
            layers.setdefault(layer, []).append((line["step"], way))
    yield "Drift of layers from the starting model", layers
    yield "Learning rate", {"rate": [(line["step"], line["lr"]) for line in log]}


def _by_value(lines: Sequence[Line], part: str, view: str, key: str) -> dict[str, Points]:
    curves: dict[str, Points] = {}
    for line in lines:
        for value, found in line[part].get(view, {}).items():
            if key in found:
                curves.setdefault(value, []).append((line["step"], found[key]))
    return curves


def _smooth(points: Points) -> Points:
    """Return the running mean over SMOOTHED points, at WIDTH places at most."""
    means = list[tuple[float, float]]()
    for end in range(1, len(points) + 1):
        part = points[max(0, end - SMOOTHED) : end]
        means.append((part[-1][0], sum(value for _, value in part) / len(part)))
    return means[:: max(1, len(means) // WIDTH)]


def _plot(title: str, curves: Curves, spikes: Sequence[int]) -> str:
    """Return a plot with its title and its legend."""
    shown = dict(sorted(curves.items(), key=lambda each: each[1][-1][1], reverse=True)[:MOST_LINES])
    points = [point for curve in shown.values() for point in curve]
    steps, values = ([point[axis] for point in points] for axis in (0, 1))
    low, high = min(0.0, *values), max(values) or 1.0
    first, last = min(steps), max(steps)

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - first) / (last - first or 1)
        up = (value - low) / (high - low or 1)
        return LEFT + across * (WIDTH - LEFT - 8), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    parts = list(_grid(place, (first, last), (low, high)))
    if title == "Loss":
        parts += [_spike(place(step, low), place(step, high)) for step in spikes if first <= step <= last]
    legend = ""
    for colour, (name, curve) in zip(COLOURS, shown.items(), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
        mark = f'<circle cx="{path.partition(",")[0]}" cy="{path.partition(",")[2]}" r="2.5" fill="{colour}"/>'
        line = f'<polyline class="line" stroke="{colour}" points="{path}"/>'
        parts.append(line if len(curve) > 1 else mark)
        legend += f'<span><b style="color:{colour}">■</b> {escape(name)} {curve[-1][1]:.4g}</span>'
    left_out = f"<span>and {len(curves) - len(shown)} lower ones</span>" if len(curves) > len(shown) else ""
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
    return f"<h2>{escape(title)}</h2>{drawing}<p>{legend}{left_out}</p>"


def _grid(place: Any, steps: tuple[float, float], values: tuple[float, float]) -> Iterator[str]:
    for part in range(5):
        value = values[0] + (values[1] - values[0]) * part / 4
        _, y = place(steps[0], value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
    for step, anchor in zip(steps, ("start", "end"), strict=True):
        x, _ = place(step, values[0])
        yield f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">step {step:,.0f}</text>'


def _spike(bottom: tuple[float, float], top: tuple[float, float]) -> str:
    return f'<line class="spike" x1="{bottom[0]:.1f}" x2="{top[0]:.1f}" y1="{bottom[1]:.1f}" y2="{top[1]:.1f}"/>'
