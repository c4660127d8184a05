"""Tags that came with an image: in a JSON file beside it, or in a column of the Parquet file that holds it.

Comes in: source_meta. Goes out: the words under the file's key as tags, and in a phrase what of them was left out and why, which
begins with one of tables.LEFT_OUT, so that it can be counted. Nothing is looked at, so this tagger is as right as its source.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from synthgen.taggers.protocol import Tagged, in_a_line
from synthgen.taggers.spec import SidecarTaggerFile, TaggerSpec

Entries = Sequence[tuple[Any, Any]]  # a word and its score
SHOWN = 80  # characters of what was left out for one reason, and then how many more there are


class SidecarTagger:
    """Reads the tags that came with an image; a word that the taxonomy does not know is no tag."""

    def __init__(self, spec: TaggerSpec, file: SidecarTaggerFile) -> None:
        self._file, self._spec = file, spec
        self._paths = {node.name: node.path for node in spec.taxonomy.tree} | {
            path: path for path in spec.taxonomy.tree.nodes
        }

    def prepare(self, image: Image | None, source_meta: str | None) -> Any:
        """The entries under the file's key; or, as text, why there are none to read."""
        if not source_meta:
            return "no sidecar"
        try:
            meta = json.loads(source_meta)
        except (ValueError, RecursionError) as error:
            return f"unreadable sidecar: {error}"
        if not isinstance(meta, dict):
            return f"no tags: {_shown(meta)} in place of keys with values"
        if "sidecar_unreadable" in meta:
            return f"unreadable sidecar: {meta['sidecar_unreadable']}"
        key = self._file.key
        if key not in meta:
            return f"no tags: no key {key!r}" + (f", only {_some([_shown(one) for one in meta])}" if meta else "")
        entries = _entries(meta[key])
        return f"no tags: {_shown(meta[key])} under {key!r}" if entries is None else entries

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """The words as tags, surest first; one without a score has score 1."""
        return [
            Tagged([], left_out=(self._phrase(one),)) if isinstance(one, str) else self._tagged(one) for one in inputs
        ]

    def close(self) -> None:
        """Holds nothing."""

    def _tagged(self, entries: Entries) -> Tagged:
        scores: dict[str, float] = {}
        unknown: list[str] = []
        wrong: list[str] = []
        for word, score in entries:
            path = self._path(str(word).strip()) if isinstance(word, str | int | float) else None
            if path is None:
                unknown.append(_shown(word))
            elif isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                wrong.append(f"{_shown(score)} of {_shown(word)}")
            else:
                scores[path] = max(float(score), scores.get(path, 0.0))
        reasons = [f"{why}: {_some(some)}" for why, some in (("no such tag", unknown), ("bad score", wrong)) if some]
        surest = sorted(scores, key=lambda path: -scores[path])
        tags = [{"path": path, "score": scores[path], "tagger": self._spec.name} for path in surest]
        return Tagged(tags, left_out=(self._phrase("; ".join(reasons)),) if reasons else ())

    def _phrase(self, why: str) -> str:
        return in_a_line(f"{self._spec.name}: {why}")[:200]

    def _path(self, word: str) -> str | None:
        return self._paths.get(self._file.names.get(word, "_".join(word.lower().split())))


def _entries(found: Any) -> Entries | None:
    """Words with scores, of whichever form; None where it is none of them."""
    if found is None:
        return []
    if isinstance(found, str):
        return [(word, 1.0) for word in found.split(",") if word.strip()]
    if isinstance(found, Mapping):
        return list(found.items())
    if not isinstance(found, list):
        return None
    return [_entry(one) for one in found if one != ""]


def _entry(one: Any) -> tuple[Any, Any]:
    if not isinstance(one, Mapping) or "path" not in one:
        return one, 1.0
    return one["path"], 1.0 if one.get("score") is None else one["score"]


def _shown(value: Any) -> str:
    """A value of somebody else's JSON, short."""
    if isinstance(value, Mapping):
        return f"{{{_shown(next(iter(value)))}: …}}" if value else "{}"
    text = "[…]" if isinstance(value, list) else repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN // 2 else f"{text[: SHOWN // 2]}…"


def _some(words: Sequence[str]) -> str:
    """The first words, and how many more there are."""
    distinct = list(dict.fromkeys(words))
    told = distinct[:1]
    for word in distinct[1:]:
        if len(", ".join([*told, word])) > SHOWN:
            break
        told.append(word)
    return ", ".join(told) + (f" and {len(distinct) - len(told):,} more" if len(distinct) > len(told) else "")
