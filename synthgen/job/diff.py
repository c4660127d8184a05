"""Differences between the settings that an output folder was made with and those of a job.

They are structure (path, before, after), so that code can decide by them; words are made only for messages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.errors import listed

MISSING: Any = object()  # in place of a value that one side does not have
LONG = 40  # characters of a text, from which on it is not quoted


@dataclass(frozen=True)
class Difference:
    """One setting that differs.

    Attributes:
        path: Its place in the shape of a job; the first part is the group of tables that it shapes.
        before: Its value in the folder, or MISSING.
        after: Its value in the job, or MISSING.
    """

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def group(self) -> str:
        """The group of tables that the setting shapes."""
        return self.path[0]


def differences(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Yield the places where two nested mappings differ, in the order of their keys."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from differences(before.get(key, MISSING), after.get(key, MISSING), (*path, key))
    elif before != after:
        yield Difference(path, before, after)


def describe(found: Sequence[Difference], most: int = 12) -> str:
    """Return differences in the user's words, the first `most` of them."""
    return listed(words_of(found), most, "; ")


def words_of(found: Sequence[Difference]) -> list[str]:
    """Return differences in the user's words, each phrase once."""
    return list(dict.fromkeys(map(_phrase, found)))


def _phrase(difference: Difference) -> str:
    subject, has_value = _subject(difference.path)
    before, after = difference.before, difference.after
    if before is MISSING and len(difference.path) > 1:
        return f"{subject} is new"
    if after is MISSING:
        return f"{subject} is gone"
    is_long = difference.path != ("listed", "uri") and any(
        isinstance(value, str) and len(value) > LONG for value in (before, after)
    )
    if not has_value or is_long or isinstance(before, list):
        return f"{subject} changed"
    return f"{subject} was {before!r} and is {after!r}"


def _subject(path: tuple[str, ...]) -> tuple[str, bool]:
    """Return what the user calls a setting, and whether its value means something to the user."""
    match path:
        case ("listed", *rest):
            return _dotted("source", rest), True
        case ("images", "decoding"):
            return "the way synth reads images", False
        case ("images", "embedding", *_):
            return "the model that embeds the images", False
        case ("tags", tagger, *_):
            return f"the tagger '{tagger}'", False
        case ("planned", "settings", *rest):
            return _dotted("plan", rest), True
        case ("planned", "mapping"):
            return "the mapping", True
        case ("planned" | "generated", "types", kind, *_):
            return f"the instruction type '{kind}'", True
        case ("generated", "seed"):
            return "plan.seed", True
        case ("generated", "ask_model"):
            return "generate.ask.model", True
        case ("generated", "ask_engine", *rest):
            return _dotted("generate.ask.engine.options", rest), True
        case ("generated", "engine", *rest):
            return _dotted("generate.engine.options", rest), True
        case ("generated", "model" | "sampling", *_):
            return _dotted("generate", path[1:]), True
        case ("generated", *rest):
            return f"{'.'.join(rest)} of the prompts", True
        case ("passes", name, "model"):
            return f"score.{name}.model", True
        case ("passes", name, "engine", *rest):
            return _dotted(f"score.{name}.engine.options", rest), True
        case ("passes", name, "after", *rest):
            return _dotted(f"score.{name}.after", rest), True
        case ("passes", name, "scores", score, *rest):
            return _dotted(f"the score '{name}.{score}'", rest), True
        case ("passes", name):
            return f"the scoring pass '{name}'", True
        case ("scores", "agreement", *rest) if rest:
            return _dotted("generate.sampling", rest), True
        case ("scores", name, *rest):
            return _dotted(f"the score '{name}'", rest), True
    return ".".join(path), True


def _dotted(head: str, rest: Sequence[str]) -> str:
    return ".".join([head, *rest])
