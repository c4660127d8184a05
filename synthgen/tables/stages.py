"""The stages of a run: one table from which everything else about them derives.

`run` goes through it in order; `purge`, `status`, `retry`, `gc`, the run record and the command line look up here what
a stage is called, where its tables are, and what their columns and outcomes mean. To add a stage, add an entry here and
the module that it names.
"""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from synthgen.errors import UserMistake, nearest
from synthgen.tables import counts, schemas
from synthgen.tables.reasons import LEFT_OUT, UNSCORED


@dataclass(frozen=True)
class Table:
    """A table of a stage.

    Attributes:
        name: Its folder below the stage's. `tags`, `scores` and `clusters` stand for one table a tagger, score or
            comparison, `scores/NAME`.
        schema: Its columns.
        key: The column that identifies a row; of rows with one key the last committed counts.
        count: What its rows add to the counts of their commit; None for nothing.
        counted: The columns that `count` reads.
    """

    name: str
    schema: pa.Schema
    key: str
    count: counts.CountRows | None = None
    counted: tuple[str, ...] = ()

    def count_rows(self, rows: pa.Table) -> Counter[str]:
        """Return what these rows add to the counts of a commit."""
        return self.count(rows.select(list(self.counted)).to_pylist()) if self.count else Counter()


@dataclass(frozen=True, eq=False)
class StageSpec:
    """A stage as far as it can be known without its code.

    Attributes:
        name: In notes and in `synth status`; users type `typed`.
        folder: Below the output folder.
        unit: Of its input, in the plural.
        module: Where its code is: `pending(run)` and `results(run, tasks)`, see `synthgen.stages.contract`.
        tables: In its folder.
        inputs: The stages it reads. What the first one passes on comes in here; a commit's `reads` covers the others
        too.
        receives: The counts of the first input that come in.
        passes: The count that goes on to the next stage; empty where nothing is dropped, as in scoring passes.
        other_counts: Counts that are no outcomes of what came in.
        settings: The groups of settings that shape its tables.
        part_of: The stage it belongs to for users; its own name if empty.
        is_rewritten: Whether `purge` rewrites its tables. Later stages follow from the rewritten ones.
        is_retried: Whether some of its failures may pass at another try.
        watched: The table whose failures stop a run in which nothing works.
        is_optional: Whether most runs do nothing in it; `synth status` shows it where it has commits.
    """

    name: str
    folder: str
    unit: str
    module: str
    tables: tuple[Table, ...]
    inputs: tuple["StageSpec", ...] = ()
    receives: tuple[str, ...] = ()
    passes: str = ""
    other_counts: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    part_of: str = ""
    is_rewritten: bool = False
    is_retried: bool = False
    watched: str = ""
    is_optional: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageSpec) and other.folder == self.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def typed(self) -> str:
        """The name by which users know it."""
        return self.part_of or self.name

    def table(self, name: str) -> Table:
        """Return the table of that name, `scores/answer` as `scores`. Raises KeyError if there is none."""
        family = name.partition("/")[0]
        for table in self.tables:
            if table.name == family:
                return table
        raise KeyError(f"{self.folder} has no table {name}")


LIST = StageSpec(
    name="list",
    folder="0-listed",
    unit="objects",
    module="synthgen.stages.listing",
    tables=(Table("objects", schemas.OBJECTS, "object_id", counts.count_listed, ("object_id",)),),
    passes="listed",
    settings=("listed",),
    part_of="tag",
    is_rewritten=True,
)
TAG = StageSpec(
    name="tag",
    folder="1-tagged",
    unit="objects",
    module="synthgen.stages.tag",
    tables=(
        Table("images", schemas.IMAGES, "object_id", counts.count_tagged, ("outcome", "reason", "detail")),
        Table("tags", schemas.OBJECT_TAGS, "object_id"),
    ),
    inputs=(LIST,),
    receives=("listed",),
    passes="tagged",
    other_counts=("left_out", *(f"left_out.{reason}" for reason in LEFT_OUT)),
    settings=("images", "tags"),
    is_rewritten=True,
    is_retried=True,
    watched="images",
)
PLAN = StageSpec(
    name="plan",
    folder="2-planned",
    unit="images",
    module="synthgen.stages.plan",
    tables=(
        Table("images", schemas.PLANNED_IMAGES, "object_id", counts.count_outcomes, ("outcome", "reason")),
        Table("assignments", schemas.ASSIGNMENTS, "assignment_id", counts.count_assignments, ("retired",)),
    ),
    inputs=(TAG, LIST),
    receives=("tagged",),
    passes="planned",
    other_counts=("assigned", "retired"),
    settings=("planned",),
    is_rewritten=True,
)
ASK = StageSpec(
    name="ask",
    folder="3-asked",
    unit="assignments",
    module="synthgen.stages.generate.first_pass",
    tables=(Table("questions", schemas.QUESTIONS, "assignment_id", counts.count_questions, ("outcome", "reason")),),
    inputs=(PLAN,),
    receives=("assigned", "retired"),
    passes="asked",
    settings=("generated",),
    part_of="generate",
    is_rewritten=True,
    is_retried=True,
    watched="questions",
    is_optional=True,
)
GENERATE = StageSpec(
    name="generate",
    folder="3-generated",
    unit="assignments",
    module="synthgen.stages.generate",
    tables=(
        Table("pairs", schemas.PAIRS, "assignment_id", counts.count_pairs, ("outcome", "reason", "reasked_for")),
        Table("scores", schemas.SCORES, "pair_id", counts.count_unscored, ("reason",)),
    ),
    inputs=(PLAN, ASK),
    receives=("assigned", "retired"),
    passes="pair",
    other_counts=("reasked", *UNSCORED),
    settings=("generated", "scores"),
    is_rewritten=True,
    is_retried=True,
    watched="pairs",
)
SCORE = StageSpec(
    name="score",
    folder="3-scored",
    unit="pairs",
    module="synthgen.stages.score",
    tables=(Table("scores", schemas.SCORES, "pair_id"),),  # their counts have names: `tables.passes`
    inputs=(GENERATE, PLAN),
    receives=("pair",),
    settings=("passes",),
    is_rewritten=True,
    is_retried=True,
    watched="scores",
    is_optional=True,
)
SELECT = StageSpec(
    name="select",
    folder="4-selected",
    unit="pairs",
    module="synthgen.stages.select",
    tables=(
        Table("decisions", schemas.DECISIONS, "pair_id", counts.count_decisions, ("reason",)),
        Table("clusters", schemas.CLUSTERS, "pair_id"),
        Table("contaminated", schemas.CONTAMINATED, "pair_id"),
    ),
    inputs=(GENERATE, PLAN, SCORE, TAG),
    receives=("pair",),
    passes="kept",
)
PACK = StageSpec(
    name="pack",
    folder="5-shards",
    unit="pairs kept",
    module="synthgen.stages.pack",
    tables=(
        Table("index", schemas.SHARD_INDEX, "sample_id", counts.count_samples, ("types",)),
        Table("unpacked", schemas.UNPACKED, "sample_id", counts.count_unpacked, ("reason", "turns")),
    ),
    inputs=(SELECT, LIST, PLAN, GENERATE, SCORE),
    receives=("kept",),
    passes="turns",
    other_counts=("samples",),
    is_retried=True,
)
STAGES: list[StageSpec] = [LIST, TAG, PLAN, ASK, GENERATE, SCORE, SELECT, PACK]


def stage_names() -> list[str]:
    """Return the stages as users type them, in order."""
    return list(dict.fromkeys(stage.typed for stage in STAGES))


def stage_at(folder: str) -> StageSpec:
    """Return the stage with this folder. Raises UserMistake if there is none."""
    for stage in STAGES:
        if stage.folder == folder:
            return stage
    raise UserMistake(f"{folder}: is no stage of a run; {nearest(folder, [stage.folder for stage in STAGES])}")


def stages_between(first: str, last: str) -> list[str]:
    """Return the stages from `first` to `last`, as users type them, both included; none if `last` comes first."""
    names = stage_names()
    return names[names.index(first) : names.index(last) + 1]


def stages_after(last: str) -> list[str]:
    """Return the stages after `last`, as users type them."""
    names = stage_names()
    return names[names.index(last) + 1 :]
