"""From a seed to a mapping file, step by step.

Comes in: an Order, what the user asked for. Goes out: the file, in the user's working folder, and a report. Every row of the
seed ends up counted or left out with a reason. Nothing is written before the new mapping has been loaded the way a run will
load it, and a file that is there is never overwritten.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from synthgen.commands.learn import classify, seed, summary, tagging, tfidf, twins, vocabulary
from synthgen.commands.learn.records import BadRow, Fields, Row
from synthgen.commands.learn.seed import Columns, Seed
from synthgen.commands.learn.similarity import TypeTexts
from synthgen.commands.learn.summary import Origin, RowCounts
from synthgen.commands.learn.tfidf import Example, TfidfSettings, Weights
from synthgen.config import library, mapping, prompt_pack
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.engines.revision import resolve
from synthgen.errors import UserMistake, nearest
from synthgen.store import Folder
from synthgen.taggers import SidecarTaggerFile, Taggers, TaggerSpec, resolved
from synthgen.taggers import load_all as load_taggers
from synthgen.workers import leave_ray, once

TypeFinder = Callable[[Row], list[str] | BadRow]

TYPE_FIELDS, TAG_FIELD = ("types", "instruction_type"), "tags"


@dataclass(frozen=True)
class LearnRequest:
    """What is to be learned, from what, and how."""

    seed: str
    name: str
    pipeline: Pipeline
    settings: TfidfSettings = field(default_factory=TfidfSettings)
    types_column: str | None = None
    types_file: Path | None = None
    tags_column: str | None = None
    find_types: Literal["text", "model"] = "text"  # where the seed does not give them
    images: str | None = None  # the folder that paths in the seed start from
    extends: str | None = None
    limit: int | None = None
    merge_twins: bool = False


@dataclass(frozen=True)
class LearnPlan:
    """What an order comes down to, once its seed and shelves have been looked at."""

    order: LearnRequest
    seed: Seed
    taggers: tuple[TaggerSpec, ...]
    prompts: Prompts
    fields: Fields  # where the seed gives words; None where they must be found

    @property
    def types_are_given(self) -> bool:
        """Whether the questions themselves need not be read."""
        return self.order.types_file is not None or self.fields.types is not None

    @property
    def types_by(self) -> str:
        """How the types are found, in words."""
        order = self.order
        if order.types_file:
            return f"given in {order.types_file.name}"
        if self.fields.types:
            return f"given in field '{self.fields.types}'"
        return (
            f"found by {Path(order.pipeline.generate.model).name}"
            if order.find_types == "model"
            else "found by the likeness of words"
        )

    @property
    def tags_by(self) -> str:
        """How the tags are found, in words."""
        names = ", ".join(f"'{one.name}'" for one in self.taggers)
        return f"given in field '{self.fields.tags}'" if self.fields.tags else f"found by tagger {names}"

    def rows(self, texts: bool, images: bool) -> Iterator[Row | BadRow]:
        """The seed's rows, with what is needed of them."""
        return seed.rows(self.seed, Columns(self.fields, texts, images), self.order.limit)


def learn(order: LearnRequest) -> tuple[Path, list[str]]:
    """Writes the mapping; its file and the lines of a report. One line if nothing can be learned."""
    target = _target(order)
    lesson = _prepared(order)
    seen, tally = _seen(lesson)
    texts = TypeTexts(lesson.prompts.types)
    pairs = twins.find(seen, order.settings, texts)
    if order.merge_twins:
        seen = twins.merged(seen, pairs)
    weights = tfidf.learn(seen, order.settings)
    origin = _origin(lesson, tally, seen, weights, pairs)
    if not weights:
        raise UserMistake(
            f"nothing could be learned: {'; '.join(line.strip() for line in summary.report(weights, origin)[:6])}"
        )
    text = summary.yaml_text(weights, origin)
    _check(text, lesson)
    library.write_new(target, text)
    return target, summary.report(weights, origin)


def _target(order: LearnRequest) -> Path:
    """The file to be written; looked at first, so that no hour of tagging is lost to a name."""
    target = library.new_path("mapping", order.name)
    if order.extends == order.name:
        raise UserMistake(f"--name {order.name}: cannot extend itself; choose another name")
    if order.extends and order.extends not in (known := library.names("mapping")):
        raise UserMistake(f"--extends {order.extends}: no such mapping: {nearest(order.extends, known)}")
    return target


def _prepared(order: LearnRequest) -> LearnPlan:
    """Opens the seed and settles where types and tags come from: a field that is named, else one that is there, else a search."""
    specs, prompts = load_taggers(order.pipeline.tag.taggers), prompt_pack.load(order.pipeline.generate.prompts)
    opened = seed.open_seed(order.seed)
    known = seed.fields(opened)
    for flag, named in (("--types-column", order.types_column), ("--tags-column", order.tags_column)):
        if named and named not in known:
            raise UserMistake(f"{flag} {named}: the seed has no such field: {nearest(named, known)}")
    types = order.types_column or next((field for field in TYPE_FIELDS if field in known), None)
    beside = next((one for one in specs if isinstance(one.file, SidecarTaggerFile)), None)
    key = beside.file.key if beside and isinstance(beside.file, SidecarTaggerFile) else None
    tags = order.tags_column or key or (TAG_FIELD if TAG_FIELD in known else None)
    if beside and tags not in known:
        raise UserMistake(
            f"{order.seed}: has no field '{tags}', in which tagger '{beside.name}' looks for tags; name one by --tags-column"
        )
    return LearnPlan(order, opened, specs, prompts, Fields(None if order.types_file else types, tags))


def _seen(lesson: LearnPlan) -> tuple[Counter[Example], RowCounts]:
    """Every row of the seed, counted or left out."""
    tally, seen = RowCounts(), Counter[Example]()
    find = _finder(lesson, tally)
    rows = lesson.rows(texts=not lesson.types_are_given, images=lesson.fields.tags is None)
    for one in _tagged(lesson, _typed(rows, find, tally), tally):
        if isinstance(one, BadRow):
            tally.leave_out(one)
        else:
            row, tags = one
            seen[tfidf.example(tags, list(row.types or ()))] += 1
            tally.counted += 1
    return seen, tally


def _typed(rows: Iterable[Row | BadRow], find: TypeFinder, tally: RowCounts) -> Iterator[Row]:
    """The rows whose types are known, with the paths of those in place of words; the others are left out."""
    for row in rows:
        found = row if isinstance(row, BadRow) else find(row)
        if isinstance(found, BadRow):
            tally.leave_out(found)
        elif isinstance(row, Row):
            yield replace(row, types=tuple(found))


def _finder(lesson: LearnPlan, tally: RowCounts) -> TypeFinder:
    """What finds the types of a row."""
    order, types = lesson.order, lesson.prompts.types
    if lesson.types_are_given:
        by_id = vocabulary.types_file(order.types_file) if order.types_file else None
        return partial(_given_types, vocabulary.Lexicon(types), by_id, tally.unknown["types"])
    if order.find_types == "text":
        texts, known = TypeTexts(types), dict[str, str | None]()

        def by_words(question: str) -> classify.Classified:
            if question not in known:
                known[question] = texts.nearest(question)
            nearest_type = known[question]
            return classify.Classified((nearest_type,) if nearest_type else ())

        return partial(_found_types, by_words)
    asked = _asked(lesson)
    return partial(_found_types, asked.__getitem__)


def _asked(lesson: LearnPlan) -> dict[str, classify.Classified]:
    """The model's choice for every question of the seed; each wording is asked for once."""
    questions = {
        turn.question: None
        for row in lesson.rows(texts=True, images=False)
        if isinstance(row, Row)
        for turn in row.turns
    }
    generate = lesson.order.pipeline.generate
    task = classify.ClassifyTask(
        resolve(generate), generate.engine, lesson.prompts.tree, tuple(map(classify.ClassifySubject, questions))
    )
    try:
        found: list[classify.Classified] = once(classify.sort_all, task, generate.engine)
    finally:
        leave_ray()
    return dict(zip(questions, found, strict=True))


def _given_types(
    lexicon: vocabulary.Lexicon, by_id: "dict[str, tuple[str, ...]] | None", unknown: "Counter[str]", row: Row
) -> list[str] | BadRow:
    words = row.types if by_id is None else by_id.get(row.id)
    if words is None or not words:
        return BadRow(
            row.where,
            "no_types",
            "the row names no instruction type" if by_id is None else f"the types file has no row {row.id[:100]!r}",
        )
    found, strange = lexicon.known(words)
    unknown.update(strange)
    return found or BadRow(
        row.where, "unknown_types", f"none of its types is in the pipeline's families: {', '.join(strange)[:200]}"
    )


def _found_types(find: Callable[[str], classify.Classified], row: Row) -> list[str] | BadRow:
    """The types of a row's questions; one that is of no type costs nothing while another is of one."""
    if not row.turns:
        return BadRow(row.where, "no_question", "the row holds no question that a user asks")
    chosen = [find(turn.question) for turn in row.turns]
    failures = [one.failure for one in chosen if one.failure]
    found = [path for one in chosen for path in one.types]
    if not found and failures:
        return BadRow(row.where, "model_failed", failures[0])
    return found or BadRow(row.where, "no_type_fits", f"{row.turns[0].question[:100]!r}")


def _tagged(lesson: LearnPlan, rows: Iterable[Row], tally: RowCounts) -> Iterator[tuple[Row, list[str]] | BadRow]:
    """The rows with their tags."""
    tree = lesson.taggers[0].taxonomy.tree
    if lesson.fields.tags:
        names = {
            word: path
            for one in lesson.taggers
            if isinstance(one.file, SidecarTaggerFile)
            for word, path in one.file.names.items()
        }
        yield from _given_tags(rows, vocabulary.Lexicon(tree.nodes, names), tally)
        return
    folder = lesson.seed.folder if lesson.order.images is None else Folder(lesson.order.images).path
    if lesson.order.images is not None and not Path(folder).is_dir():
        raise UserMistake(f"--images {lesson.order.images}: no such folder")
    tool = Taggers([resolved(one) for one in lesson.taggers])
    yield from tagging.tagged(rows, tool, lesson.order.pipeline.images, folder)
    tool.close()


def _given_tags(
    rows: Iterable[Row], lexicon: vocabulary.Lexicon, tally: RowCounts
) -> Iterator[tuple[Row, list[str]] | BadRow]:
    for row in rows:
        if row.tags is None:
            yield BadRow(row.where, "no_tags", "the row has nothing in the field of tags")
            continue
        found, strange = lexicon.known(row.tags)
        tally.unknown["tags"].update(strange)
        if row.tags and not found:
            yield BadRow(row.where, "unknown_tags", f"none of its tags is in the taxonomy: {', '.join(strange)[:200]}")
        else:
            yield row, found


def _origin(
    lesson: LearnPlan, tally: RowCounts, seen: Counter[Example], weights: Weights, pairs: list[twins.Twins]
) -> Origin:
    order = lesson.order
    present = {one for _, types in seen for one in types}
    absent = [
        path
        for path in lesson.prompts.types
        if path not in present and not (order.merge_twins and path in {p.other for p in pairs})
    ]
    coverage, rare = tfidf.covered(seen, weights), tfidf.unlearned(seen, order.settings)
    return Origin(
        lesson.seed,
        tally,
        order.settings,
        lesson.types_by,
        lesson.tags_by,
        order.extends,
        coverage,
        rare,
        absent,
        pairs,
        order.merge_twins,
    )


def _check(text: str, lesson: LearnPlan) -> None:
    """Loads the mapping as a run will."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learned.yaml"
        path.write_text(text, encoding="utf-8")
        mapping.load(str(path), lesson.taggers[0].taxonomy.tree, list(lesson.prompts.types))
