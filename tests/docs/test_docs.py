"""The pages are true: every command, file, name and key that they mention exists."""

import math
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
import typer
import yaml

from synthgen import taggers
from synthgen.cli import app
from synthgen.commands.export.form import REASONS
from synthgen.commands.export.forms.kinds import FORMS
from synthgen.commands.preferences import rows as preference_rows
from synthgen.commands.preferences.card import OUTCOMES
from synthgen.config import families, library, mapping, pipeline, prompt_pack, recipe, taxonomy
from synthgen.config.selection import SelectConfig
from synthgen.config.source import SourceConfig
from synthgen.engines.kinds import ENGINE_KINDS
from synthgen.errors import Failure
from synthgen.ingest.sources import ObjectRef, SourceKind, kinds
from synthgen.job import resolve
from synthgen.stages import select
from synthgen.stages.generate.measures import SCORERS, Scorer
from synthgen.stages.generate.scoring import ENTRY_POINTS
from synthgen.stages.pack.card import COLUMNS
from synthgen.stages.rules import rules
from synthgen.stages.select import standings
from synthgen.stages.select.functions import UserFunction
from synthgen.tables import PAIRS
from synthgen.taggers import TAGGER_KINDS
from tests.fixtures.workspace import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "demo/*.md", "benchmarks/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
SCRIPTS = sorted([*filter(Path.is_file, ROOT.glob("deploy/**/*")), *ROOT.glob("pipelines/*.yaml")])
GROUP = typer.main.get_command(app)
COMMANDS: dict[str, click.Command] = getattr(GROUP, "commands", {})
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in a language; "" is for blocks without one."""
    return [text for name, text in FENCE.findall(read(path)) if name == language]


def spans(path: Path) -> list[str]:
    """Return the texts between single backticks, outside of fenced blocks."""
    return SPAN.findall(FENCE.sub("", read(path)))


def shell_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each line of a shell block that calls synth or make, without comments and pipes."""
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
    """Yield every command of a page's shell blocks."""
    for language in ("", "sh", "bash", "console"):
        for text in blocks(path, language):
            yield from shell_lines(text)


def fault_of(words: list[str]) -> str | None:
    """Return why a `synth …` would not parse, as the command line reports it; nothing is run."""
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
    """The command and its options exist in `synth status` in running text, and in lines of scripts and comments."""
    texts = (
        spans(path)
        if path.suffix == ".md"
        else [line.lstrip("# >") for line in read(path).replace("\\\n", " ").splitlines()]
    )
    faults = []
    for text in texts:
        words = re.split(r"\s+", text.strip())
        if (
            words[0] == "make"
            and len(words) > 1
            and "=" not in words[1]
            and words[1] not in TARGETS
            and path.suffix == ".md"
        ):
            faults.append(f"make has no target {words[1]}")
        if words[0] != "synth" or len(words) < 2 or not re.fullmatch(r"[a-z][a-z-]*", words[1]):
            continue
        if words[1] not in COMMANDS:
            faults.append(f"no such command: {text}")
            continue
        known = {name for parameter in COMMANDS[words[1]].params for name in parameter.opts}
        faults += [
            f"{text}: no such option {word}"
            for word in words[2:]
            if word.startswith("--") and word.partition("=")[0] not in known
        ]
    assert not faults, "\n".join(faults)


def mentioned_files(path: Path) -> Iterator[str]:
    """Return what looks like a file of this repository: in sentences, in links, and at the line starts of blocks."""
    yield from re.findall(r"\]\((?!https?:)([^)#]+)\)", read(path))
    starts = [line.split()[0] for text in blocks(path, "") for line in text.splitlines() if line.strip()]
    for text in [*spans(path), *starts]:
        first, slash, _ = text.partition("/")
        if (
            re.fullmatch(r"[\w./-]+", text)
            and "NAME" not in text
            and ((slash and (ROOT / first).is_dir()) or text.endswith(".py"))
        ):
            yield text


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_prose_is_wrapped(path: Path) -> None:
    prose = FENCE.sub("", read(path)).splitlines()
    assert not [line for line in prose if len(line) > 120 and not line.startswith(("|", "      members:"))]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_exist(path: Path) -> None:
    homes = (ROOT, path.parent, ROOT / "synthgen")
    assert not [name for name in mentioned_files(path) if not any((home / name).exists() for home in homes)]


def test_names_of_definition_files_exist() -> None:
    """Each name in `synth show taxonomy everyday` exists, is of the example, or a `synth copy` of the page makes it."""
    faults = []
    for path in PAGES:
        lines = [words for words in typed(path) if words[0] == "synth"]
        made = {(words[2], words[4]) for words in lines if words[1] == "copy"}
        named = [(words[2], words[3]) for words in lines if words[1] in ("show", "copy")]
        named += [
            ("pipeline", words[words.index(flag) + 1])
            for words in lines
            for flag in ("--pipeline", "-p")
            if flag in words
        ]
        faults += [
            f"{name_of(path)}: {kind} {name}"
            for kind, name in named
            if name not in library.names(kind) and (kind, name) not in made
            if not (path.parent / library.KINDS[kind] / f"{name}.yaml").is_file()  # of an example
        ]
    assert not faults


def test_blocks_of_the_pages_are_found() -> None:
    assert len(PAGES) > 25
    assert len(yaml_blocks()) > 8
    assert sum(len(FENCE.findall(read(path))) for path in PAGES) > 40
    assert sum(len(list(typed(path))) for path in PAGES) > 50


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/*.md")), ids=name_of)
def test_links_of_the_site_stay_inside_of_it(path: Path) -> None:
    """A link to a file outside docs/ ends `make docs`; such a file is named as code."""
    site = ROOT / "docs"
    links = re.findall(r"\]\((?!https?:)([^)#]+)", read(path))
    outside = [link for link in links if not (path.parent / link).resolve().is_relative_to(site)]
    assert not outside and all((path.parent / link).is_file() for link in links), outside


@pytest.mark.parametrize(("page", "kinds"), [("tagging", TAGGER_KINDS), ("pipelines", ENGINE_KINDS)])
def test_every_kind_is_on_its_page(page: str, kinds: Mapping[str, Any]) -> None:
    text = read(ROOT / f"docs/{page}.md")
    missing = [name for name in kinds if f"`{name}`" not in text]
    assert not missing, f"docs/{page}.md does not name {missing}"


def yaml_blocks() -> list[tuple[str, str]]:
    """Return every YAML block of the pages, with the name of its page."""
    return [(name_of(path), text) for path in PAGES for text in blocks(path, "yaml")]


def merged(under: Any, over: Any) -> Any:
    """Return two mappings as one, key by key; values of `over` win."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}


def _engine_alone(text: str) -> dict[str, Any]:
    """Return the engine of a block; it replaces another kind of engine with all of its options."""
    engine = yaml.safe_load(text).get("generate", {}).get("engine")
    return {"engine": engine} if engine else {}


@pytest.mark.parametrize(("page", "text"), yaml_blocks())
def test_yaml_is_accepted(page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written to the path in its first line, each file loads; a pipeline is completed by the one it is a copy of."""
    first = re.match(r"# ([\w./-]+\.yaml)(?:, in place of .*?(?: of the copy of (\w+))?)?\n", text)
    assert first, f"{page}: a YAML block begins with a comment that names its file:\n{text}"
    file = tmp_path / first[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    kind = next(kind for kind, folder in library.KINDS.items() if folder == str(Path(first[1]).parent))
    if kind == "pipeline":
        copied = library.load("pipeline", first[2] or "everyday").values
        own = library.load("pipeline", file.stem).values
        whole = {**copied, **own} if "in place of these sections" in first[0] else merged(copied, own)
        file.write_text(
            yaml.safe_dump({**whole, "generate": {**whole["generate"], **_engine_alone(text)}}), encoding="utf-8"
        )
        resolve.load_definitions(pipeline.load(file.stem))
    elif kind == "mapping":
        everyday = taggers.load("everyday-clip").taxonomy.tree
        mapping.load(file.stem, everyday, list(prompt_pack.load("everyday").types))
    elif kind == "family":
        families.load(file.stem)
    else:
        loaders: dict[str, Callable[[str], object]] = {
            **{"tagger": taggers.load, "taxonomy": taxonomy.load},
            **{"prompts": prompt_pack.load, "recipe": recipe.load},
        }
        loaders[kind](file.stem)


def test_every_command_is_explained() -> None:
    pages = "\n".join(map(read, PAGES))
    for name, command in COMMANDS.items():
        assert command.help, f"synth {name} has no help text"
        assert re.search(rf"\bsynth {name}\b", pages), f"synth {name} is on no page"
        bare = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
        assert not bare, f"synth {name}: options without help: {bare}"


def test_every_module_has_its_line_on_the_page_of_the_architecture() -> None:
    page = ROOT / "docs/architecture.md"
    tree = {line.split()[0] for text in blocks(page, "") for line in text.splitlines() if line.strip()}
    modules = {
        f"synthgen/{path.name}{'/' if path.is_dir() else ''}"
        for path in (ROOT / "synthgen").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem not in ("__init__", "__main__")
    }
    assert len(modules) > 10
    assert not modules - tree, f"not in the tree of {name_of(page)}: {sorted(modules - tree)}"


def test_make_help_describes_every_target() -> None:
    text = read(ROOT / "Makefile")
    assert {"install", "demo", "check", "test", "bench", "wheel", "clean", "help"} <= TARGETS
    assert not [name for name in TARGETS if not re.search(rf"^{name}:.*## ", text, re.MULTILINE)]


def test_the_table_of_scores_on_the_page_is_that_of_the_code() -> None:
    def cells(scorer: Scorer) -> list[str]:
        low, high = scorer.low, scorer.high
        bounds = "any" if low == -math.inf else f"{low:g}, labels" if high is None else f"{low:g}, {high:g}"
        prompts, needs = (", ".join(f"`{name}`" for name in names) for names in (scorer.prompts, scorer.needs))
        return [f"`{scorer.name}`", bounds, prompts, needs]

    text = read(ROOT / "docs/scores.md").split("\n## Scores\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines() if line.startswith("| `")]
    assert rows == [cells(scorer) for scorer in SCORERS.values()]


def test_the_columns_of_a_sample_are_those_of_the_card() -> None:
    text = read(ROOT / "docs/format.md").split("\n## The columns of a sample\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", text, re.MULTILINE)
    assert [(name, content.replace("`", "")) for name, content in rows] == list(COLUMNS.items())


def test_the_columns_of_a_preference_are_those_of_its_card() -> None:
    text = read(ROOT / "docs/format.md").split("\n## Preferences\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", text, re.MULTILINE)
    assert [(name, content.replace("`", "")) for name, content in rows] == list(preference_rows.COLUMNS.items())
    page = read(ROOT / "docs/selection.md")
    assert not [name for name in OUTCOMES if name != "preference" and f"`{name}`" not in page]


def test_the_page_of_exports_says_of_each_form_what_the_code_does() -> None:
    page = read(ROOT / "docs/exports.md")
    rows = re.findall(r"^\| `(.+?)` \| (.+) \| (.+) \|$", page.split("\n- **What")[0], re.MULTILINE)
    assert rows[1:] == [(form.name, form.about, form.reader) for form in FORMS.values()]
    reasons = re.findall(r"^\| `(.+?)` \| (.+) \|$", page.split("| reason |")[1].split("\n## ")[0], re.MULTILINE)
    assert dict(reasons) == REASONS
    for form in FORMS.values():
        section = page.split(f"\n### `{form.name}`\n")[1].split("\n##")[0]
        assert section.split() == form.settings.split(), form.name


def test_the_example_of_a_function_on_the_page_judges_pairs() -> None:
    (text,) = blocks(ROOT / "docs/selection.md", "python")
    module: dict[str, Any] = {}
    exec(text, module)
    rows = [
        {"answer": "A stunning view.", "form": "long", "score_likelihood": None},
        {"answer": "Red.", "form": "short", "score_likelihood": 0.2},
        {"answer": "Red.", "form": "short", "score_likelihood": 0.9},
    ]
    function = UserFunction("too_shiny", module["too_shiny"], "")
    assert function.reasons(pa.Table.from_pylist(rows)) == ["user:too_shiny:praise", "user:too_shiny:unsure", None]


def test_the_example_of_a_score_on_the_page_is_one() -> None:
    (text,) = blocks(ROOT / "docs/scores.md", "python")
    module: dict[str, Any] = {}
    exec(text, module)
    (scorer,) = [value for value in module.values() if isinstance(value, Scorer)]
    (offer,) = blocks(ROOT / "docs/scores.md", "toml")
    points = tomllib.loads(offer)["project"]["entry-points"][ENTRY_POINTS]
    assert points == {scorer.name: "my_scores:COURTESY"} and text.startswith("# my_scores.py")


def test_the_example_of_a_source_on_the_page_is_one() -> None:
    (text,) = blocks(ROOT / "docs/pipelines.md", "python")
    module: dict[str, Any] = {}
    exec(text, module)
    kind = module["MINE"]
    (listed,) = kind.list_objects(SourceConfig(uri="mine:all"))
    assert isinstance(kind, SourceKind) and listed.uri.startswith(f"{kind.name}:")
    assert isinstance(module["read"](ObjectRef("id", listed.uri, listed.version), 1), Failure)
    points = [tomllib.loads(block)["project"]["entry-points"] for block in blocks(ROOT / "docs/pipelines.md", "toml")]
    assert {kinds.ENTRY_POINTS: {kind.name: "my_source:MINE"}} in points and text.startswith("# my_source.py")


def test_every_reason_of_a_decision_is_explained() -> None:
    page = read(ROOT / "docs/scores.md")
    pairs = PAIRS.empty_table().append_column("plain", pa.array([], pa.large_string()))
    reasons = [f"rule:{name}" for name, _ in rules(pairs, SelectConfig(forbidden=("x",)))]
    reasons += ["retired", "unscored:…", "score:…", *select.REPEATS[1:], "language", "user:NAME:…", "rank:…"]
    reasons += [f"balance:{side}" for side in (*standings.SIDES, "letter")]
    reasons += [f"quota:{kind}:…" for kind in ("type", "form", "language", "tag")]
    assert not [name for name in reasons if f"`{name}`" not in page]
