"""A request to learn a mapping, and the plan that follows once its seed and its files have been looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthgen.commands.learn import seed as seeds
from synthgen.commands.learn.records import BadRow, Fields, Row
from synthgen.commands.learn.seed import Columns, Seed
from synthgen.commands.learn.tfidf import TfidfSettings
from synthgen.config import prompt_pack
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.errors import UserMistake, nearest
from synthgen.taggers import TaggerSpec, load_all

TYPE_FIELDS, TAG_FIELD = ("types", "instruction_type"), "tags"


@dataclass(frozen=True)
class LearnRequest:
    """The mapping to learn, its seed, and how."""

    seed: str
    name: str
    pipeline: Pipeline
    types_column: str | None = None
    types_file: Path | None = None
    tags_column: str | None = None
    images: str | None = None  # the folder that paths in the seed start from
    extends: str | None = None
    limit: int | None = None
    is_plain: bool = False  # by the paper's formula as it stands, for comparison

    @property
    def tfidf(self) -> TfidfSettings:
        """The parameters of the arithmetic, as the pipeline has them."""
        how = self.pipeline.learn
        return TfidfSettings(how.top_k, how.temperature, how.min_support, self.is_plain)


@dataclass(frozen=True)
class LearnPlan:
    """A request with its seed and definition files, and the fields that give types and tags."""

    request: LearnRequest
    seed: Seed
    taggers: tuple[TaggerSpec, ...]
    prompts: Prompts
    fields: Fields

    @property
    def has_types(self) -> bool:
        """Whether the types are given, so that the questions need not be read."""
        return self.request.types_file is not None or self.fields.types is not None

    @property
    def types_origin(self) -> str:
        """How the types are found, in words."""
        request = self.request
        if request.types_file:
            return f"given in {request.types_file.name}"
        if self.fields.types:
            return f"given in field '{self.fields.types}'"
        if request.pipeline.learn.find_types == "model":
            return f"found by {Path(request.pipeline.generate.model).name}"
        return "found by the likeness of words"

    @property
    def tags_origin(self) -> str:
        """How the tags are found, in words."""
        if self.fields.tags:
            return f"given in field '{self.fields.tags}'"
        names = ", ".join(f"'{tagger.name}'" for tagger in self.taggers)
        return f"found by tagger {names}"

    def read_rows(self, texts: bool, images: bool) -> Iterator[Row | BadRow]:
        """Yield the rows of the seed, with their texts and images if these are needed."""
        return seeds.read_rows(self.seed, Columns(self.fields, texts, images), self.request.limit)


def prepare(request: LearnRequest) -> LearnPlan:
    """Open the seed and decide where types and tags come from.

    Both come from the field that the request names, else from a usual field if the seed has one; else they are found.

    Raises:
        UserMistake: The seed cannot be read, or has no field of the name; or taggers look for tags in several fields.
    """
    taggers = load_all(request.pipeline.tag.taggers)
    prompts = prompt_pack.load(request.pipeline.generate.prompts)
    seed = seeds.open_seed(request.seed)
    names = seeds.field_names(seed)
    for flag, name in (("--types-column", request.types_column), ("--tags-column", request.tags_column)):
        if name and name not in names:
            raise UserMistake(f"{flag} {name}: the seed has no such field: {nearest(name, names)}")
    types = request.types_column or next((name for name in TYPE_FIELDS if name in names), None)
    tags = request.tags_column or _sidecar_key(taggers) or (TAG_FIELD if TAG_FIELD in names else None)
    for tagger in taggers:
        if tagger.file.source_tags() and tags not in names:
            raise UserMistake(
                f"{request.seed}: has no field '{tags}', in which tagger '{tagger.name}' looks for tags; "
                "name one by --tags-column"
            )
    return LearnPlan(request, seed, taggers, prompts, Fields(None if request.types_file else types, tags))


def _sidecar_key(taggers: tuple[TaggerSpec, ...]) -> str | None:
    """Return the field in which the taggers that read sidecar files look; raise UserMistake if it is not one."""
    keys = {tagger.name: source.key for tagger in taggers if (source := tagger.file.source_tags())}
    if len(set(keys.values())) > 1:
        fields = ", ".join(f"'{name}' in '{key}'" for name, key in keys.items())
        raise UserMistake(
            f"tag.tagger: the taggers look for tags in several fields, and a seed is read from one ({fields}); "
            "name it by --tags-column"
        )
    return next(iter(keys.values()), None)
