"""The house: who may import whom, how modules open, how large functions grow, and what stands nowhere in the tree."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import synthgen
from tests.fixtures.workspace import ROOT

CODE = ("synthgen", "demo", "benchmarks")
TREE = (*CODE, "tests", "docs", "deploy", "taggers", "prompts", "pipelines", ".ci")
TEXTS = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".sh", ".json", ""}
SOURCES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))

# The house from the roof down: a module imports only what stands below it. Rooms of one line do not import each other.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("run",),
    ("job",),
    ("stages", "train"),
    ("workers", "taggers"),
    ("engines", "ingest", "dedup"),
    ("config",),
    ("store",),
    ("tables", "console"),
    ("errors",),
)
# Beside each other in stages/, none of which imports another; what they share stands in their first line.
STAGES = ("listing", "tag", "plan", "generate", "select", "pack")
HEAVY = {"torch", "ray", "vllm", "pyarrow", "pandas", "transformers", "open_clip", "datasets", "numpy"}
MOST_LINES, MOST_PARAMETERS = 60, 6


def name_of(path: Path) -> str:
    """A path as messages show it, and as the ids of parametrised tests do."""
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    """The module or package directly below synthgen/ that a file belongs to."""
    return path.relative_to(ROOT / "synthgen").parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """The dotted names below synthgen that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "synthgen":
            yield from (f"{node.module}.{alias.name}".removeprefix("synthgen.") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("synthgen.") for alias in node.names if alias.name.startswith("synthgen.")
            )


def package() -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / "synthgen") and path.parent.name != "library"]


def test_imports_point_down() -> None:
    level = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    faults = [
        f"{name_of(path)} imports {name}: {room_of(path)} stands below or beside it"
        for path in package()
        for name in imports_of(path)
        if room_of(path) in level and (other := name.partition(".")[0]) in level
        if other != room_of(path) and level[other] <= level[room_of(path)]
    ]
    assert not faults, "\n".join(faults)


def test_every_room_has_its_layer_and_there_are_few_of_them() -> None:
    rooms = {room_of(path) for path in package()} - {"__init__"}
    assert rooms == {room for rooms in LAYERS for room in rooms}
    assert len(rooms - {"__main__"}) <= 16


def test_no_stage_knows_another() -> None:
    faults = []
    for path in package():
        parts = path.relative_to(ROOT / "synthgen").with_suffix("").parts
        if parts[0] != "stages" or parts[1] not in STAGES:
            continue
        for name in imports_of(path):
            room, _, other = name.partition(".")
            if room == "stages" and (stage := other.partition(".")[0]) in STAGES and stage != parts[1]:
                faults.append(f"{name_of(path)} imports {name}; a stage knows tables, not other stages")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_opens_with_a_paragraph(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert text[-1:] in (".", "]", ")") or "\n\n" in text, f"{name_of(path)} opens without a sentence on what it is"
    assert len(text) >= (40 if path.name == "__init__.py" else 100), (
        f"{name_of(path)}: what comes in, what goes out, why this way?"
    )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_stay_small(path: Path) -> None:
    faults = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        given = node.args
        names = [
            one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs) if one.arg not in ("self", "cls")
        ]
        is_command = any(
            ast.unparse(one).startswith("app.command(") for one in node.decorator_list
        )  # its parameters are its options
        if lines > MOST_LINES or (len(names) > MOST_PARAMETERS and not is_command):
            faults.append(f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines, {len(names)} parameters")
    assert not faults, "\n".join(faults)


def test_no_file_is_a_drawer() -> None:
    refused = re.compile(r"(^|_)(utils?|commons?|helpers?|base|managers?|misc|factory|stuff)(_|$)")
    assert not [name_of(path) for path in SOURCES if refused.search(path.stem)]


def test_shelves_hold_text_only() -> None:
    for shelf in ("taggers", "prompts", "pipelines"):
        strange = [
            name_of(path)
            for path in (ROOT / shelf).rglob("*")
            if path.is_file() and path.suffix not in (".yaml", ".md")
        ]
        assert not strange, f"shelves hold YAML, code is named as module:attribute: {strange}"


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the tree but this one."""
    found = [path for folder in TREE for path in (ROOT / folder).rglob("*")] + [
        path for path in ROOT.iterdir() if path.is_file()
    ]
    for path in found:
        if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts and path != Path(__file__):
            yield path, path.read_text(encoding="utf-8", errors="replace")


def test_the_tree_is_about_the_product_alone() -> None:
    """No path of one machine, no work diary, no unfinished business."""
    refused = re.compile(
        r"(?<![\w.:])/(?:work|root|home|Users)/[\w.]"  # a folder of somebody's machine
        r"|\b(?:TODO|FIXME|XXX)\b|\b(?:[Tt]his|[Ll]ast|[Nn]ext|[Mm]y) session\b|[Cc]o-[Aa]uthored-[Bb]y"
    )
    faults = [
        f"{name_of(path)}:{number}: {found.group(0)}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if (found := refused.search(line))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("command", ["", "run", "check", "doctor", "learn", "train"])
def test_help_is_quick_because_it_imports_nothing_heavy(command: str) -> None:
    program = (
        "import sys; from synthgen.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *filter(None, [command]), "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_changelog_knows_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == synthgen.__version__
