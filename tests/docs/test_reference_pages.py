"""The pages that list every key agree with the models of the files: names, defaults, and what an edit redoes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from synthgen.config import families, library, manners, pipeline, prompt_file, prompt_pack, recipe, taxonomy, training
from synthgen.config.messages import sections_in
from synthgen.job import job
from synthgen.stages import generate, pack
from synthgen.store import Folder
from tests.docs.test_docs import SPAN, merged, read
from tests.fixtures.workspace import ROOT


def settings_of(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting below a section with its default as YAML on one line."""
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from settings_of(type(default), f"{before}{name}.")
        elif field.is_required():
            yield f"{before}{name}", "must be given"
        else:
            given = TypeAdapter(Any).dump_python(default, mode="json")
            yield (
                f"{before}{name}",
                yaml.safe_dump(given, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n..."),
            )


BESIDE = ("about", "notice", "views", "view")  # keys of a pipeline that are no sections with settings of their own


@pytest.mark.parametrize("section", [name for name in pipeline.Pipeline.model_fields if name not in BESIDE])
def test_every_setting_is_listed_with_its_default(section: str) -> None:
    text = read(ROOT / "docs/pipelines.md").split(f"\n## {section}\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([\w.]+)`(?: †)? \| `?([^|]+?)`? \|", text, re.MULTILINE)
    field = pipeline.Pipeline.model_fields[section]
    (model,) = sections_in(field.annotation)
    assert dict(listed) == dict(settings_of(model, "" if field.annotation is model else "NAME."))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(
            ("source.hosts", "[a.org]"),
            ("source.sidecar", ".json"),
            ("images.max_frames", "3"),
            ("images.model_pixels", "9000"),
        ),
        *(
            ("tag.workers", "2"),
            ("tag.batch", "3"),
            ("plan.per_image", "3"),
            ("plan.balance.types", "0.5"),
            ("plan.seed", "3"),
        ),
        *(
            ("generate.scores", "[likelihood, agreement]"),
            ("generate.sampling.top_p", "0.5"),
            ("generate.engine.in_flight", "3"),
            ("generate.ask", "{model: other, engine: {kind: scripted}}"),
            ("generate.answer", "{model: other, engine: {kind: scripted}}"),
        ),
        *(
            ("generate.engine.retries", "9"),
            ("generate.price.gpu_hour", "2"),
            ("select.near_questions", "0.5"),
            ("train.steps", "9"),
        ),
        *(("pack.images", "resized"), ("pack.workers", "2"), ("generate.engine.kind", "scripted")),
    ],
)
def test_a_setting_is_marked_if_it_belongs_to_the_folder(setting: str, value: str, tmp_path: Path) -> None:
    section, name = setting.split(".", 1)
    text = read(ROOT / "docs/pipelines.md").split(f"\n## {section}\n")[1].split("\n## ")[0]
    start = "generate.engine.options={}"  # which are of one kind of engine
    sets = ([start], [start, f"{setting}={value}"])
    plain, edited = (job.open_job(Folder(str(tmp_path)), pipeline.load("demo", settings)).shape for settings in sets)
    assert (plain != edited) == (f"| `{name}` † |" in text)


DEFINITION_FILES = ROOT / "docs/definition_files.md"
PLACES = {  # a section of a definition file -> the prefix of its keys on the page
    **{taxonomy.TaxonomyFile: "", taxonomy.TagEntry: "TAG."},
    **{families.FamilyFile: "", families.InstructionGroup: "GROUP.", families.InstructionLeaf: "TYPE."},
    families.ConstrainedRequest: "REQUEST.",
    **{
        prompt_file.PackFile: "",
        prompt_file.SystemTexts: "system.",
        prompt_file.ReasoningPrompt: "reasoning.",
        prompt_file.AskPrompt: "ask.",
        prompt_file.AnswerPrompt: "answer.FORM.",
    },
    **{prompt_file.UnanswerablePrompt: "unanswerable.", manners.Manner: "VOICE."},
    **{prompt_file.PlainPrompt: "paraphrase.", prompt_file.JudgePrompt: "judge.SCORE."},
}


def sections_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a file's model and all sections below it, each once."""
    sections = [model]
    for section in sections:
        below = [kind for field in section.model_fields.values() for kind in sections_in(field.annotation)]
        sections += [kind for kind in dict.fromkeys(below) if kind not in sections]
    return sections


def key_rows(title: str) -> dict[str, list[str]]:
    """Return the rows of a table on the page of definition files: key -> default, meaning, what an edit redoes."""
    text = read(DEFINITION_FILES).split(f"\n## {title}\n")[1].split("\n## ")[0]
    return {
        key: [cell.strip() for cell in rest.split(" | ")]
        for key, rest in re.findall(r"^\| `([\w.]+)` \| (.+) \|$", text, re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("Taxonomies", taxonomy.TaxonomyFile),
        ("Families", families.FamilyFile),
        ("Prompt packs", prompt_file.PackFile),
    ],
)
def test_every_key_of_a_definition_file_is_listed_with_its_default(title: str, model: type[library.Section]) -> None:
    listed = {key: cells[0].strip("`") for key, cells in key_rows(title).items()}
    assert listed == {
        key: default for section in sections_of(model) for key, default in settings_of(section, PLACES[section])
    }


def test_every_key_of_a_recipe_beside_those_of_train_is_listed_with_its_default() -> None:
    listed = {key: cells[0].strip("`") for key, cells in key_rows("Recipes").items()}
    of_stages = {
        f"STAGE.{name}": default
        for name, default in settings_of(recipe.StageConfig)
        if name not in training.TrainConfig.model_fields
    }
    of_file = {name: default for name, default in settings_of(recipe.RecipeFile) if "." not in name}
    assert listed == {**of_file, "train": "{}", **of_stages}


def test_every_variable_of_a_template_is_listed() -> None:
    used: dict[str, set[str]] = {}
    for place, samples in prompt_pack._templates([prompt_pack._ANY_TYPE], ["answer"]):
        first, *between, last = ({"ask_choice": "ask", "blind": "paraphrase"}.get(place[0], place[0]), *place[1:])
        key = ".".join([first, *({"answer": "FORM", "judge": "SCORE"}[first] for _ in between), last])
        used.setdefault(key, set()).update(samples[0])
    named = {
        key: cells[1].removeprefix("a template with ")
        for key, cells in key_rows("Prompt packs").items()
        if "a template with" in cells[1]
    }
    # Words in the explanation of a variable, such as `choice`, are not variables.
    every = set().union(*used.values())
    assert {key: set(SPAN.findall(text)) & every for key, text in named.items()} == used
    known = [*families.InstructionType.__dataclass_fields__, "name", "family"]
    assert not [name for name in known if f"`type.{name}`" not in read(DEFINITION_FILES)]


def edited(values: Any, place: tuple[str, ...], value: Any) -> Any:
    """Return the values with another one at a place."""
    return merged(values, {place[0]: edited({}, place[1:], value)}) if place else value


@pytest.mark.parametrize(
    ("kind", "key", "place", "value"),
    [
        ("family", "about", ("about",), "other words"),
        ("family", "GROUP.about", ("types", "coarse_perception", "about"), "other words"),
        *(
            ("family", f"TYPE.{key}", ("types", "coarse_perception", "types", "caption", key), value)
            for key, value in {
                "about": "x",
                "needs": "x",
                "ask_as": "x",
                "forms": ["short"],
                "examples": ["x?", "y?"],
                "most": 2,
            }.items()
        ),
        ("prompts", "about", ("about",), "other words"),
        ("prompts", "system", ("system",), "other words"),
        ("prompts", "ask.text", ("ask", "text"), "Ask {{ type.about }}"),
        ("prompts", "ask.none", ("ask", "none"), "nothing"),
        ("prompts", "ask.max_tokens", ("ask", "max_tokens"), 65),
        ("prompts", "answer.FORM.text", ("answer", "short", "text"), "{{ question }}"),
        ("prompts", "answer.FORM.turn", ("answer", "short", "turn"), "{{ question }}"),
        ("prompts", "answer.FORM.max_tokens", ("answer", "short", "max_tokens"), 13),
        ("prompts", "paraphrase.text", ("paraphrase", "text"), "{{ question }}"),
        ("prompts", "paraphrase.max_tokens", ("paraphrase", "max_tokens"), 25),
        ("prompts", "judge.SCORE.text", ("judge", "answer", "text"), "{{ question }}"),
        ("prompts", "judge.SCORE.labels", ("judge", "answer", "labels"), ["yes", "no"]),
        ("prompts", "blind", ("blind", "max_tokens"), 13),
        ("taxonomy", "about", ("about",), "other words"),
        ("taxonomy", "templates", ("templates",), ["{}"]),
        ("taxonomy", "tags", ("tags", "place", "tags", "lake"), "a body of water"),
        ("taxonomy", "TAG.means", ("tags", "place", "tags", "beach"), "other words"),
        ("taxonomy", "TAG.also", ("tags", "place", "tags", "beach"), {"means": "x", "also": ["shore"]}),
        ("taxonomy", "TAG.text", ("tags", "place", "text"), "a drawn place"),
        ("taxonomy", "TAG.clip", ("tags", "place", "clip"), False),
        ("taxonomy", "TAG.templates", ("tags", "place", "templates"), ["{}"]),
    ],
)
def test_an_edit_of_a_definition_file_redoes_what_the_page_says(
    kind: str, key: str, place: tuple[str, ...], value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = ["generate.engine={kind: scripted}", "generate.scores=[answer, paraphrase, blind]", "select.keep={}"]
    before = job.open_job(Folder(str(tmp_path)), pipeline.load("demo", sets))
    copy = tmp_path / library.KINDS[kind] / "drawn.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_text(yaml.safe_dump(edited(library.load(kind, "drawn").values, place, value)), encoding="utf-8")
    after = job.open_job(Folder(str(tmp_path)), pipeline.load("demo", sets))
    groups = {group for group in before.shape if before.shape[group] != after.shape[group]}
    recipes = [generate.context_of(opened).recipes() for opened in (before, after)]
    asks = any(recipes[1].get(of, recipe) != recipe for of, recipe in recipes[0].items())
    works = {
        "tags": "tags" in groups,
        "plan": "planned" in groups,
        "pairs": asks,
        "shards": "generated" in groups,
        "score": bool(groups),
    }
    title = {"taxonomy": "Taxonomies", "family": "Families", "prompts": "Prompt packs"}[kind]
    assert next((word for word, is_so in works.items() if is_so), "nothing") in key_rows(title)[key][2]
    wordings = {pack.context_of(opened).wording for opened in (before, after)}
    assert (len(wordings) == 2) == (key_rows(title)[key][2] == "shards")
