"""The pages cannot rot: what they tell the reader to type exists, and so does every file, name and key that they mention."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
import typer
import yaml
from pydantic import BaseModel, TypeAdapter

from synthgen import config, job, mapping, prompt, select, shelves, tagger, taxonomy, texts
from synthgen.cli import app
from synthgen.rows import PAIRS
from synthgen.score import SCORERS
from synthgen.store import Folder

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/*.md")])
SCRIPTS = sorted([*ROOT.glob("deploy/*"), *ROOT.glob("pipelines/*.yaml")])
GROUP = typer.main.get_command(app)
COMMANDS: dict[str, click.Command] = getattr(GROUP, "commands", {})
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; "" for those without one."""
    return [text for name, text in FENCE.findall(read(path)) if name == language]


def spans(path: Path) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return SPAN.findall(FENCE.sub("", read(path)))


def shell_lines(text: str) -> Iterator[list[str]]:
    """The words of every line of a shell block that calls us, without its comment and what follows a pipe."""
    for line in text.replace("\\\n", " ").splitlines():
        if not re.match(r"(?:\$ )?(?:synth|make)\s", line):
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|;&>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word[0] in "|;&>":
                break
            words.append(word)
        if words:
            yield words


def typed(path: Path) -> Iterator[list[str]]:
    """Every command of a page's shell blocks."""
    for language in ("", "sh", "bash", "console"):
        for text in blocks(path, language):
            yield from shell_lines(text)


def fault_of(words: list[str]) -> str | None:
    """Why `synth …` would not parse, as the command line itself says it; nothing is run."""
    if len(words) < 2 or words[1] == "--help":
        return None
    command = COMMANDS.get(words[1])
    if command is None:
        return f"no such command: {' '.join(words)}"
    try:
        command.make_context(words[1], words[2:])
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        return f"{' '.join(words)}: {error.format_message()}"
    return None


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_in_blocks_parse(path: Path) -> None:
    faults = [fault for words in typed(path) if words[0] == "synth" and (fault := fault_of(words))]
    faults += [
        f"make has no target {word}"
        for words in typed(path)
        if words[0] == "make"
        for word in words[1:]
        if "=" not in word and word not in TARGETS
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=name_of)
def test_commands_in_sentences_exist(path: Path) -> None:
    """`synth status` in running text, and the lines of scripts and of comments: the command and its options exist."""
    found = spans(path) if path.suffix == ".md" else [line.lstrip("# >") for line in read(path).replace("\\\n", " ").splitlines()]
    faults = []
    for text in found:
        words = re.split(r"\s+", text.strip())
        if words[0] == "make" and len(words) > 1 and "=" not in words[1] and words[1] not in TARGETS and path.suffix == ".md":
            faults.append(f"make has no target {words[1]}")
        if words[0] != "synth" or len(words) < 2 or not re.fullmatch(r"[a-z]+", words[1]):
            continue
        if words[1] not in COMMANDS:
            faults.append(f"no such command: {text}")
            continue
        known = {name for one in COMMANDS[words[1]].params for name in one.opts}
        faults += [f"{text}: no such option {word}" for word in words[2:] if word.startswith("--") and word.partition("=")[0] not in known]
    assert not faults, "\n".join(faults)


def mentioned_files(path: Path) -> Iterator[str]:
    """What looks like a file or a folder of this repository: in sentences, in links, and at the line starts of blocks."""
    yield from re.findall(r"\]\((?!https?:)([^)#]+)\)", read(path))
    starts = [line.split()[0] for text in blocks(path, "") for line in text.splitlines() if line.strip()]
    for text in [*spans(path), *starts]:
        first, slash, _ = text.partition("/")
        if re.fullmatch(r"[\w./-]+", text) and "NAME" not in text and ((slash and (ROOT / first).is_dir()) or text.endswith(".py")):
            yield text


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_exist(path: Path) -> None:
    homes = (ROOT, path.parent, ROOT / "synthgen")
    assert not [name for name in mentioned_files(path) if not any((home / name).exists() for home in homes)]


def test_shelf_names_exist() -> None:
    """`synth show taxonomy everyday`: the name stands on its shelf, or a `synth copy` of the same page puts it there."""
    faults = []
    for path in PAGES:
        lines = [words for words in typed(path) if words[0] == "synth"]
        made = {(words[2], words[4]) for words in lines if words[1] == "copy"}
        named = [(words[2], words[3]) for words in lines if words[1] in ("show", "copy")]
        named += [("pipeline", words[words.index(flag) + 1]) for words in lines for flag in ("--pipeline", "-p") if flag in words]
        faults += [
            f"{name_of(path)}: {kind} {name}" for kind, name in named if name not in shelves.names(kind) and (kind, name) not in made
        ]
    assert not faults


def yaml_blocks() -> list[tuple[str, str]]:
    """Every YAML block of the pages, with the path that its first line gives."""
    return [(name_of(path), text) for path in PAGES for text in blocks(path, "yaml")]


def merged(under: Any, over: Any) -> Any:
    """Two mappings as one, key by key; what is `over` wins."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}


def _engine_alone(text: str) -> dict[str, Any]:
    """The engine as the block has it: options of another kind of engine do not stay under it."""
    engine = yaml.safe_load(text).get("generate", {}).get("engine")
    return {"engine": engine} if engine else {}


@pytest.mark.parametrize(("page", "text"), yaml_blocks())
def test_yaml_is_accepted(page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put where its first line says, each file loads; what a pipeline leaves out is taken from `everyday`."""
    first = re.match(r"# ([\w./-]+\.yaml)(?:, in place of .*)?\n", text)
    assert first, f"{page}: a YAML block begins with a comment that names its file:\n{text}"
    file = tmp_path / first[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    kind = next(kind for kind, folder in shelves.KINDS.items() if folder == str(Path(first[1]).parent))
    if kind == "pipeline":
        whole = merged(shelves.load("pipeline", "everyday").values, shelves.load("pipeline", file.stem).values)
        file.write_text(yaml.safe_dump({**whole, "generate": {**whole["generate"], **_engine_alone(text)}}), encoding="utf-8")
        texts.load_texts(config.load(file.stem))
    elif kind == "mapping":
        everyday = tagger.load("everyday-clip").taxonomy.tree
        mapping.load(file.stem, everyday, list(prompt.load("everyday").types))
    elif kind == "family":
        prompt.family(shelves.load(kind, file.stem))
    else:
        {"tagger": tagger.load, "taxonomy": taxonomy.load, "prompts": prompt.load}[kind](file.stem)


def test_every_command_is_explained() -> None:
    pages = "\n".join(map(read, PAGES))
    for name, command in COMMANDS.items():
        assert command.help, f"synth {name} has no help text"
        assert re.search(rf"\bsynth {name}\b", pages), f"synth {name} is on no page"
        bare = [one.name for one in command.params if isinstance(one, click.Option) and not one.help]
        assert not bare, f"synth {name}: options without help: {bare}"


def test_every_module_has_its_line_in_the_readme() -> None:
    tree = {line.split()[0] for text in blocks(ROOT / "README.md", "") for line in text.splitlines() if line.strip()}
    modules = {
        f"synthgen/{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "synthgen").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem not in ("__init__", "__main__")
    }
    assert not modules - tree, f"not in the README's tree: {sorted(modules - tree)}"


def test_make_help_tells_every_target() -> None:
    text = read(ROOT / "Makefile")
    assert {"install", "demo", "check", "test", "bench", "wheel", "clean", "help"} <= TARGETS
    assert not [name for name in TARGETS if not re.search(rf"^{name}:.*## ", text, re.MULTILINE)]


def test_every_score_and_every_reason_of_a_decision_is_explained() -> None:
    page = read(ROOT / "docs/scores.md")
    pairs = PAIRS.empty_table().append_column("plain", pa.array([], pa.large_string()))
    reasons = [f"rule:{name}" for name, _ in select._rules(pairs, config.Select(forbidden=("x",)))]
    reasons += ["retired", "unscored:…", "score:…", *select.REPEATS[1:]]
    assert not [name for name in (*SCORERS, *reasons) if f"`{name}`" not in page]


def settings_of(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """Every setting below a section with its default as YAML writes it on one line."""
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from settings_of(type(default), f"{before}{name}.")
        elif field.is_required():
            yield f"{before}{name}", "must be given"
        else:
            given = TypeAdapter(Any).dump_python(default, mode="json")
            yield f"{before}{name}", yaml.safe_dump(given, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


@pytest.mark.parametrize("section", [name for name in config.Pipeline.model_fields if name not in ("about", "notice")])
def test_every_setting_is_listed_with_its_default(section: str) -> None:
    text = read(ROOT / "docs/pipelines.md").split(f"\n## {section}\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([\w.]+)`(?: †)? \| `?([^|]+?)`? \|", text, re.MULTILINE)
    model = config.Pipeline.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, BaseModel)
    assert dict(listed) == dict(settings_of(model))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("source.hosts", "[a.org]"), ("source.sidecar", ".json"), ("images.max_frames", "3"), ("images.model_pixels", "9000")),
        *(("tag.workers", "2"), ("tag.batch", "3"), ("plan.per_image", "3"), ("plan.balance.types", "0.5"), ("plan.seed", "3")),
        *(("generate.scores", "[likelihood, agreement]"), ("generate.sampling.top_p", "0.5"), ("generate.engine.in_flight", "3")),
        *(("generate.engine.retries", "9"), ("generate.price.gpu_hour", "2"), ("select.near_questions", "0.5"), ("train.steps", "9")),
        *(("pack.images", "resized"), ("pack.workers", "2"), ("generate.engine.kind", "scripted")),
    ],
)
def test_a_setting_is_marked_if_it_belongs_to_the_folder(setting: str, value: str, tmp_path: Path) -> None:
    section, name = setting.split(".", 1)
    text = read(ROOT / "docs/pipelines.md").split(f"\n## {section}\n")[1].split("\n## ")[0]
    start = "generate.engine.options={}"  # which are of one kind of engine
    sets = ([start], [start, f"{setting}={value}"])
    plain, edited = (job.open_job(Folder(str(tmp_path)), config.load("demo", one)).shape for one in sets)
    assert (plain != edited) == (f"| `{name}` † |" in text)


TEXTS = ROOT / "docs/texts.md"
PLACES = {  # a section of a shelf file -> what stands before its keys on the page
    **{taxonomy.TaxonomyFile: "", taxonomy.Tag: "TAG."},
    **{prompt.FamilyFile: "", prompt.InstructionGroup: "GROUP.", prompt.InstructionLeaf: "TYPE."},
    **{prompt.PackFile: "", prompt.AskPrompt: "ask.", prompt.AnswerPrompt: "answer.FORM."},
    **{prompt.PlainPrompt: "paraphrase.", prompt.JudgePrompt: "judge.SCORE."},
}


def sections_of(model: type[shelves.Section]) -> list[type[shelves.Section]]:
    """A file's model and all sections below it, each once."""
    found = [model]
    for one in found:
        below = [kind for field in one.model_fields.values() for kind in shelves._sections_in(field.annotation)]
        found += [kind for kind in dict.fromkeys(below) if kind not in found]
    return found


def key_rows(title: str) -> dict[str, list[str]]:
    """The rows of a section's table on the page of text files: key -> default, what it does, what an edit makes anew."""
    text = read(TEXTS).split(f"\n## {title}\n")[1].split("\n## ")[0]
    return {
        key: [cell.strip() for cell in rest.split(" | ")] for key, rest in re.findall(r"^\| `([\w.]+)` \| (.+) \|$", text, re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("title", "model"),
    [("Taxonomies", taxonomy.TaxonomyFile), ("Families", prompt.FamilyFile), ("Prompt packs", prompt.PackFile)],
)
def test_every_key_of_a_text_file_is_listed_with_its_default(title: str, model: type[shelves.Section]) -> None:
    listed = {key: cells[0].strip("`") for key, cells in key_rows(title).items()}
    assert listed == {key: default for one in sections_of(model) for key, default in settings_of(one, PLACES[one])}


def test_every_variable_of_a_template_is_listed() -> None:
    used: dict[str, set[str]] = {}
    for place, samples in prompt._templates([prompt._ANY_TYPE]):
        first, *between, last = ({"ask_choice": "ask", "blind": "paraphrase"}.get(place[0], place[0]), *place[1:])
        key = ".".join([first, *({"answer": "FORM", "judge": "SCORE"}[first] for _ in between), last])
        used.setdefault(key, set()).update(samples[0])
    named = {key: cells[1].removeprefix("a template of ") for key, cells in key_rows("Prompt packs").items() if "a template of" in cells[1]}
    # Of the words behind the list, such as `choice`, none is a variable.
    every = set().union(*used.values())
    assert {key: set(SPAN.findall(text)) & every for key, text in named.items()} == used
    known = [*prompt.InstructionType.__dataclass_fields__, "name", "family"]
    assert not [name for name in known if f"`type.{name}`" not in read(TEXTS)]


def edited(values: Any, place: tuple[str, ...], value: Any) -> Any:
    """The values with another one at a place."""
    return merged(values, {place[0]: edited({}, place[1:], value)}) if place else value


@pytest.mark.parametrize(
    ("kind", "key", "place", "value"),
    [
        ("family", "about", ("about",), "other words"),
        ("family", "GROUP.about", ("types", "coarse_perception", "about"), "other words"),
        *(
            ("family", f"TYPE.{key}", ("types", "coarse_perception", "types", "caption", key), value)
            for key, value in {"about": "x", "needs": "x", "ask_as": "x", "forms": ["short"], "examples": ["x?", "y?"], "most": 2}.items()
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
        ("taxonomy", "TAG.means", ("tags", "place", "means"), "other words"),
        ("taxonomy", "TAG.also", ("tags", "place", "also"), ["scenery"]),
        ("taxonomy", "TAG.templates", ("tags", "place", "templates"), ["{}"]),
    ],
)
def test_what_an_edit_of_a_text_file_makes_anew_is_as_listed(
    kind: str, key: str, place: tuple[str, ...], value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = ["generate.engine={kind: scripted}", "generate.scores=[answer, paraphrase, blind]", "select.keep={}"]
    before = job.open_job(Folder(str(tmp_path)), config.load("demo", sets))
    copy = tmp_path / shelves.KINDS[kind] / "drawn.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_text(yaml.safe_dump(edited(shelves.load(kind, "drawn").values, place, value)), encoding="utf-8")
    after = job.open_job(Folder(str(tmp_path)), config.load("demo", sets))
    groups = {group for group in before.shape if before.shape[group] != after.shape[group]}
    recipes = [one.generate_terms.recipes() for one in (before, after)]
    asks = any(recipes[1].get(of, recipe) != recipe for of, recipe in recipes[0].items())
    works = {"tags": "tags" in groups, "plan": "planned" in groups, "pairs": asks, "shards": "generated" in groups, "score": bool(groups)}
    title = {"taxonomy": "Taxonomies", "family": "Families", "prompts": "Prompt packs"}[kind]
    assert next((word for word, is_so in works.items() if is_so), "nothing") in key_rows(title)[key][2]
    assert (before.pack_terms.wording != after.pack_terms.wording) == (key_rows(title)[key][2] == "shards")
