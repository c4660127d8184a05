"""The rules of the repository: import order, docstrings of modules, sizes of functions, and words that no file has."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import synthgen
from synthgen.cli import runs
from synthgen.tables import stage_names
from tests.fixtures.workspace import ROOT

CODE = ("synthgen", "demo", "benchmarks")
TREE = (*CODE, "tests", "docs", "deploy", "examples", "taggers", "prompts", "pipelines", ".ci", ".github")
TEXTS = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".sh", ".json", ""}
SOURCES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))

# From the top down: a module imports only modules of lower lines. Packages of one line do not import each other.
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
# The modules of stages/ that do not import each other.
STAGES = ("listing", "tag", "plan", "generate", "score", "select", "pack")
BUILT_ON = {"score": "generate"}  # a pass holds the conversations that generate holds when a score is added
HEAVY = {"torch", "ray", "vllm", "pyarrow", "pandas", "transformers", "open_clip", "datasets", "numpy"}
MOST_LINES, MOST_PARAMETERS = 60, 6


def name_of(path: Path) -> str:
    """Return a path as messages and the ids of parametrised tests show it."""
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> str:
    """Return the module or package directly below synthgen/ that a file belongs to."""
    return path.relative_to(ROOT / "synthgen").parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names below synthgen that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "synthgen":
            yield from (f"{node.module}.{alias.name}".removeprefix("synthgen.") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("synthgen.") for alias in node.names if alias.name.startswith("synthgen.")
            )


def package() -> list[Path]:
    """Return the files of the package, without the definition files that a wheel adds."""
    return [path for path in SOURCES if path.is_relative_to(ROOT / "synthgen") and path.parent.name != "library"]


def is_small(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> bool:
    """Return whether a function is as short as it must be, with few parameters.

    The options of a command and the keyword-only ones of the Python API are not counted as parameters.
    """
    is_command = any(ast.unparse(decorator).startswith("app.command(") for decorator in node.decorator_list)
    is_api = path == ROOT / "synthgen/__init__.py"
    given = node.args
    parameters = [*given.posonlyargs, *given.args, *([] if is_api else given.kwonlyargs)]
    names = [parameter.arg for parameter in parameters if parameter.arg not in ("self", "cls")]
    return lines_of(node) <= MOST_LINES and (is_command or len(names) <= MOST_PARAMETERS)


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_imports_point_down() -> None:
    level = {name: number for number, line in enumerate(LAYERS) for name in line}
    faults = [
        f"{name_of(path)} imports {name}: {package_of(path)} stands below or beside it"
        for path in package()
        for name in imports_of(path)
        if package_of(path) in level and (other := name.partition(".")[0]) in level
        if other != package_of(path) and level[other] <= level[package_of(path)]
    ]
    assert not faults, "\n".join(faults)


def test_every_package_is_in_a_layer_and_there_are_few() -> None:
    packages = {package_of(path) for path in package()} - {"__init__"}
    assert packages == {name for line in LAYERS for name in line}
    assert len(packages - {"__main__"}) <= 16


def test_no_stage_imports_another() -> None:
    faults = []
    for path in package():
        parts = path.relative_to(ROOT / "synthgen").with_suffix("").parts
        if parts[0] != "stages" or parts[1] not in STAGES:
            continue
        for name in imports_of(path):
            top, _, other = name.partition(".")
            if (
                top == "stages"
                and (stage := other.partition(".")[0]) in STAGES
                and stage not in (parts[1], BUILT_ON.get(parts[1]))
            ):
                faults.append(f"{name_of(path)} imports {name}; a stage knows tables, not other stages")
    assert not faults, "\n".join(faults)


def test_every_module_opens_with_a_sentence() -> None:
    openings = {
        path: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        for path in SOURCES
    }
    faults = [name_of(path) for path, text in openings.items() if not text.endswith((".", "?", ":", "]", ")"))]
    assert not faults, f"these open without a sentence that says what they hold: {faults}"


def test_functions_stay_small() -> None:
    faults = [
        f"{name_of(path)}:{node.lineno} {node.name}: {lines_of(node)} lines, parameters: {ast.unparse(node.args)}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_small(node, path)
    ]
    assert not faults, "\n".join(faults)


def test_no_file_has_a_name_that_fits_any_content() -> None:
    refused = re.compile(r"(^|_)(utils?|commons?|helpers?|base|managers?|misc|factory|stuff)(_|$)")
    assert not [name_of(path) for path in SOURCES if refused.search(path.stem)]


def test_folders_of_definition_files_hold_nothing_else() -> None:
    for folder in ("taggers", "prompts", "pipelines"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        others = [name_of(path) for path in files if path.suffix not in (".yaml", ".md")]
        assert files and not others, f"these folders hold YAML, code is named as module:attribute: {others}"


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file of the tree but this one, and its text."""
    paths = [path for folder in TREE for path in (ROOT / folder).rglob("*") if path.is_file()]
    paths += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a file in a work tree of Git
    for path in paths:
        if path.suffix in TEXTS and "__pycache__" not in path.parts and path != Path(__file__):
            yield path, path.read_text(encoding="utf-8", errors="replace")


def test_the_tree_is_about_the_product_alone() -> None:
    """It names no folder of one machine, no work diary and no unfinished business."""
    refused = re.compile(
        r"(?<![\w.:])/(?:work|root|home|Users)/[\w.]"  # a folder of somebody's machine
        r"|\b(?:TODO|FIXME|XXX)\b|\b(?:[Tt]his|[Ll]ast|[Nn]ext|[Mm]y) session\b|[Cc]o-[Aa]uthored-[Bb]y"
    )
    faults = [
        f"{name_of(path)}:{number}: {match.group(0)}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := refused.search(line))
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


def test_the_changelog_starts_with_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == synthgen.__version__


def test_the_help_names_the_stages_of_the_table() -> None:
    assert ", ".join(stage_names()) == runs.STAGE_NAMES
