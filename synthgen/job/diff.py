"""What differs between the settings that a folder was made with and those of a job, in the user's words.

Comes in: two `shape`s, nested mappings as job.py gathers them. Goes out: a phrase for each place that differs, and these together as
the text of a message.
"""

import re
from collections.abc import Mapping
from typing import Any

WORDS = (  # where settings stand in a shape -> what the user calls them
    (r"listed\.", "source."),
    (r"images\.embedding\b.*", "the model that embeds the images changed"),
    (r"tags\.(.+?) was '.*", r"the tagger '\1' changed"),
    (r"tags\.(.+?) is ", r"the tagger '\1' is "),
    (r"planned\.settings\.|generated\.(?=seed )", "plan."),
    (r"planned\.mapping ", "the mapping "),
    (r"(planned|generated)\.types\.(\S+) ", r"the instruction type '\2' "),
    (r"generated\.engine\.", "generate.engine.options."),
    (r"generated\.(?=model |sampling\.)", "generate."),
    (r"generated\.(\S+) ", r"\1 of the prompts "),
    (r"scores\.agreement\.", "generate.sampling."),
    (r"scores\.(\S+) ", r"the score '\1' "),
)


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """What differs, in words, a phrase for each place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found = []
        for key in sorted({*before, *after}):
            place = f"{where}.{key}" if where else key
            if key not in before:
                found.append(f"{place} is new")
            elif key not in after:
                found.append(f"{place} is gone")
            else:
                found += differences(before[key], after[key], place)
        return found
    if before == after:
        return []
    is_text = where != "listed.uri" and any(isinstance(value, str) and len(value) > 40 for value in (before, after))
    if is_text or isinstance(before, list):
        return [f"{where} changed"]
    return [f"{where} was {before!r} and is {after!r}"]


def in_words(found: list[str], most: int = 12) -> str:
    """Differences in the user's words, as many as fit."""
    found = list(dict.fromkeys(map(_worded, found)))
    return "; ".join(found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else []))


def _worded(difference: str) -> str:
    return next(
        (
            found.expand(words) + difference[found.end() :]
            for place, words in WORDS
            if (found := re.match(place, difference))
        ),
        difference,
    )
