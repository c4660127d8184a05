"""Tags that come with an image: in a JSON file beside it, or in a column of the Parquet file that holds it.

The tagger reads one key of source_meta and looks at no pixels, so its tags are as good as their source. Entries that it
cannot use are reported in a phrase that begins with one of tables.LEFT_OUT, so that status can count them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from PIL.Image import Image
from pydantic import Field

from synthgen.config.source import SourceConfig
from synthgen.config.strict_yaml import Document, KeyPath
from synthgen.config.taxonomy import Taxonomy, Tree
from synthgen.config.vocabulary import Entry, Lexicon, read_entries
from synthgen.errors import UserMistake, listed, one_line
from synthgen.ingest.sources.kinds import FILES, kind_of_source
from synthgen.taggers.protocol import Tagged
from synthgen.taggers.spec import SourceTags, TaggerFile, TaggerSpec, WorksFrom

Entries = Sequence[Entry]
QUOTED_LENGTH = 80  # characters quoted for one reason; further words are only counted
PHRASE_LENGTH = 200  # characters


class SidecarTaggerFile(TaggerFile):
    """taggers/NAME.yaml with `engine: sidecar`."""

    engine: Literal["sidecar"]
    key: str = "tags"  # of source_meta
    names: dict[str, str] = Field(default_factory=dict)  # the source's word -> tag path, where they differ

    works_from: ClassVar[WorksFrom] = "source_meta"

    def open(self, spec: TaggerSpec) -> "SidecarTagger":
        """Return the reader."""
        return SidecarTagger(spec, self)

    def read_taxonomy(self, taxonomy: Taxonomy) -> Any:
        """Return the tag paths."""
        return sorted(taxonomy.tree.nodes)

    @classmethod
    def unknown_tags(cls, document: Document, tree: Tree) -> list[tuple[KeyPath, str]]:
        """Return the values of `names` that are not in the tree."""
        values = [(place, document.at(place)) for place in document.names_at(("names",))]
        return [(place, path) for place, path in values if isinstance(path, str) and path not in tree.nodes]

    def source_tags(self) -> SourceTags:
        """Return the key and the names."""
        return SourceTags(self.key, self.names)


def check_source_tags(specs: Sequence[TaggerSpec], source: SourceConfig) -> None:
    """Raise UserMistake if a tagger reads tags that come along with images, and files bring none with them."""
    if any(_brings_tags(place) for place in source.places.values()):
        return
    if spec := next((spec for spec in specs if spec.file.source_tags()), None):
        raise UserMistake(
            f"tagger '{spec.name}' reads tags that come along with the images, and none do: set source.sidecar=.json "
            "for a JSON file beside each image, or source.meta_columns for columns of Parquet files"
        )


def _brings_tags(source: SourceConfig) -> bool:
    return source.sidecar is not None or bool(source.meta_columns) or kind_of_source(source.uri) is not FILES


class SidecarTagger:
    """A reader of the tags in source_meta."""

    def __init__(self, spec: TaggerSpec, file: SidecarTaggerFile) -> None:
        self._file, self._spec = file, spec
        self._lexicon = Lexicon(spec.taxonomy.tree.nodes, file.names)

    def prepare(self, image: Image, source_meta: str | None) -> Entries | str:
        """Return the entries under the file's key or, as text, why there are none."""
        return self._read(source_meta)

    def tag(self, inputs: Sequence[Entries | str]) -> list[Tagged]:
        """Return the entries as tags, highest score first; an entry without a score has score 1."""
        return [
            Tagged([], left_out=(self._phrase(entries),)) if isinstance(entries, str) else self._tag_one(entries)
            for entries in inputs
        ]

    def tag_source_meta(self, source_metas: Sequence[str | None]) -> list[Tagged]:
        """Return the tags of each image."""
        return self.tag([self._read(source_meta) for source_meta in source_metas])

    def close(self) -> None:
        """Do nothing: the reader holds nothing."""

    def _read(self, source_meta: str | None) -> Entries | str:
        """Return the entries under the file's key or, as text, why there are none."""
        if not source_meta:
            return "no sidecar"
        try:
            meta = json.loads(source_meta)
        except (ValueError, RecursionError) as error:
            return f"unreadable sidecar: {error}"
        if not isinstance(meta, dict):
            return f"no tags: {_quote(meta)} in place of keys with values"
        if "sidecar_unreadable" in meta:
            return f"unreadable sidecar: {meta['sidecar_unreadable']}"
        key, members = self._file.key, meta.get("members")
        if key not in meta and isinstance(members, list):  # of a set, whose images say different things
            said = [read_entries(member[key]) for member in members if isinstance(member, dict) and key in member]
            if any(said):
                return [entry for entries in said for entry in entries or ()]
        if key not in meta:
            return f"no tags: no key {key!r}" + (
                f", only {_list_words([_quote(other) for other in meta])}" if meta else ""
            )
        entries = read_entries(meta[key])
        return f"no tags: {_quote(meta[key])} under {key!r}" if entries is None else entries

    def _tag_one(self, entries: Entries) -> Tagged:
        scores: dict[str, float] = {}
        unknown: list[str] = []
        wrong: list[str] = []
        for word, score in entries:
            path = self._lexicon.path(str(word)) if isinstance(word, str | int | float) else None
            if path is None:
                unknown.append(_quote(word))
            elif isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                wrong.append(f"{_quote(score)} of {_quote(word)}")
            else:
                scores[path] = max(float(score), scores.get(path, 0.0))
        surest = sorted(scores, key=lambda path: -scores[path])
        tags = [{"path": path, "score": scores[path], "tagger": self._spec.name} for path in surest]
        by_reason = {"no such tag": unknown, "bad score": wrong}
        reasons = [f"{reason}: {_list_words(words)}" for reason, words in by_reason.items() if words]
        if hint := self._hint(entries) if unknown else "":
            reasons[0] += f" ({hint})"
        return Tagged(tags, left_out=(self._phrase("; ".join(reasons)),) if reasons else ())

    def _hint(self, entries: Entries) -> str:
        """Return a question that names the tag nearest to the first unknown word, if any is near."""
        words = (str(word) for word, _ in entries if isinstance(word, str | int | float))
        first = next((word for word in words if self._lexicon.path(word) is None), "")
        return self._lexicon.nearest(first) if first else ""

    def _phrase(self, reason: str) -> str:
        return one_line(f"{self._spec.name}: {reason}", PHRASE_LENGTH)


def _quote(value: Any) -> str:
    """Return a value from the source's JSON, shortened."""
    if isinstance(value, Mapping):
        return f"{{{_quote(next(iter(value)))}: …}}" if value else "{}"
    text = "[…]" if isinstance(value, list) else repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= QUOTED_LENGTH // 2 else f"{text[: QUOTED_LENGTH // 2]}…"


def _list_words(words: Sequence[str]) -> str:
    """Return the first words, and how many more there are."""
    distinct = list(dict.fromkeys(words))
    fitting = 1
    while fitting < len(distinct) and len(", ".join(distinct[: fitting + 1])) <= QUOTED_LENGTH:
        fitting += 1
    return listed(distinct, fitting)
