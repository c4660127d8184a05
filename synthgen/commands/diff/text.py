"""What changed, as lines for a terminal and as JSON."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from synthgen.commands.diff.compare import STATES, Change, Compared, ScoreChange
from synthgen.commands.diff.examples import SideBySide
from synthgen.commands.report.page import NOTHING
from synthgen.console import pluralize

MOST_LINES = 12  # of a table
LONGEST = 90  # characters of a text in a line
EXAMPLES = 3  # of questions that are answered or asked otherwise


def text(found: Compared, names: tuple[str, str], settings: Sequence[str], shown: Sequence[SideBySide]) -> str:
    """Return what changed, as lines."""
    lines = [f"before: {names[0]}", f"after:  {names[1]}"]
    if found.is_equal and not settings:
        return "\n".join([*lines, "", "nothing changed: the same questions, answers, decisions and scores"])
    lines += ["", *_flow(found)]
    lines += [line for part in _parts(found, settings, shown) if part for line in ("", *part)]
    return "\n".join(lines)


def _parts(found: Compared, settings: Sequence[str], shown: Sequence[SideBySide]) -> Iterator[list[str]]:
    yield [f"settings: {'; '.join(settings)}"] if settings else []
    yield list(_texts(found))
    yield list(_reasons("kept before and not after", found.lost))
    yield list(_reasons("kept after and not before", found.won))
    yield list(_changes("type", "asked", found.types))
    yield list(_changes("tag", "images", found.tags))
    yield list(_scores(found.scores))
    yield list(_examples(shown))


def _flow(found: Compared) -> Iterator[str]:
    """Yield the outcomes of all questions before (rows) and after (columns)."""
    states = [state for state in STATES if any(state in pair for pair, count in found.flow.items() if count)]
    yield f"{'questions, before ↓ after →':<28}" + "".join(f"{state:>11}" for state in states)
    for state in states:
        counts = [found.flow[state, other] for other in states]
        if any(counts):
            yield f"  {state:<26}" + "".join(f"{count:>11,}" if count else f"{'·':>11}" for count in counts)


def _texts(found: Compared) -> Iterator[str]:
    yield f"{pluralize(found.same, 'pair')} the same in both"
    if found.rewritten:
        yield f"{pluralize(found.rewritten, 'pair')} made again, word for word the same"
    if len(found.asked[0]):
        yield f"{pluralize(len(found.asked[0]), 'place')} of the plan with another question"
    if len(found.answered[0]):
        yield f"{pluralize(len(found.answered[0]), 'question')} answered otherwise"


def _reasons(head: str, counts: Counter[tuple[str, str]]) -> Iterator[str]:
    if not counts:
        return
    yield f"{head}: {sum(counts.values()):,}"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for (before, after), count in ordered[:MOST_LINES]:
        yield f"  {count:>9,}  {before} → {after}"
    if len(ordered) > MOST_LINES:
        yield f"  {'':>9}  and {pluralize(len(ordered) - MOST_LINES, 'more reason')}"


def _changes(head: str, what: str, changes: Sequence[Change]) -> Iterator[str]:
    changed = [each for each in changes if each.change or each.asked[0] != each.asked[1]]
    if not changed:
        return
    yield f"{head:<44} {f'{what} before':>14} {'after':>9} {'kept before':>12} {'after':>9} {'change':>9}"
    for each in changed[:MOST_LINES]:
        asked = f"{each.asked[0]:>14,} {each.asked[1]:>9,}"
        yield f"{each.name:<44} {asked} {each.kept[0]:>12,} {each.kept[1]:>9,} {each.change:>+9,}"
    if len(changed) > MOST_LINES:
        yield f"and {pluralize(len(changed) - MOST_LINES, f'more {head}')} that changed"


def _scores(scores: Sequence[ScoreChange]) -> Iterator[str]:
    if not any(score.moved or score.counts[0] != score.counts[1] for score in scores):
        return
    means = f"{'mean before':>12} {'after':>9} {'kept before':>12} {'after':>9}"
    yield f"{'score':<28} {means}  of pairs with the same words"
    for score in scores:
        means = f"{_number(score.means[0]):>12} {_number(score.means[1]):>9}"
        kept = f"{_number(score.kept_means[0]):>12} {_number(score.kept_means[1]):>9}"
        moved = f"{score.moved:,} of {score.both:,} moved" + (f" by {score.shift:+.3g}" if score.shift else "")
        yield f"{score.name:<28} {means} {kept}  {moved if score.both else 'none has both'}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def _examples(shown: Sequence[SideBySide]) -> Iterator[str]:
    for each in [side for side in shown if side.kind == "answered"][:EXAMPLES]:
        if each.before and each.after:
            yield f"Q: {_short(each.after.question)}   ({each.place or each.image_id[:12]})"
            yield from (f"  before: {_short(each.before.answer)}", f"  after:  {_short(each.after.answer)}")
    for each in [side for side in shown if side.kind == "asked"][:EXAMPLES]:
        if each.before and each.after:
            yield f"{each.after.type}, {each.after.form}   ({each.place or each.image_id[:12]})"
            yield from (f"  before: {_short(each.before.question)}", f"  after:  {_short(each.after.question)}")


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def as_json(found: Compared, names: tuple[str, str], settings: Sequence[str]) -> dict[str, Any]:
    """Return what changed under names."""
    flow = [{"before": old, "after": new, "questions": count} for (old, new), count in sorted(found.flow.items())]
    return {
        "before": names[0],
        "after": names[1],
        "is_equal": found.is_equal and not settings,
        "settings": list(settings),
        "questions": flow,
        "same_pairs": found.same,
        "rewritten": found.rewritten,
        "answered_otherwise": len(found.answered[0]),
        "asked_otherwise": len(found.asked[0]),
        "lost": _json_reasons(found.lost),
        "won": _json_reasons(found.won),
        "types": [_json_change(each, "asked") for each in found.types],
        "tags": [_json_change(each, "images") for each in found.tags],
        "scores": [vars(each) for each in found.scores],
    }


def _json_reasons(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"before": old, "after": new, "questions": count} for (old, new), count in sorted(counts.items())]


def _json_change(change: Change, what: str) -> dict[str, Any]:
    return {"name": change.name, what: list(change.asked), "kept": list(change.kept)}
