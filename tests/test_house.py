"""The house: who may import whom, how modules open, how large functions grow, and what stands nowhere in the tree."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import synthgen

ROOT = Path(__file__).parent.parent
CODE = ("synthgen", "demo", "benchmarks")
TREE = (*CODE, "tests", "docs", "deploy", "taggers", "prompts", "pipelines", ".ci")
TEXTS = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".sh", ".json", ""}
SOURCES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))

# The stages in their order; each with the modules that are parts of it.
STAGES = {
    "listing": {"listing"},
    "tag": {"tag"},
    "plan": {"plan"},
    "generate": {"generate", "converse"},
    "select": {"select"},
    "pack": {"pack"},
    "train": {"train", "monitor", "evaluate"},
}
STAGE_OF = {module: stage for stage, modules in STAGES.items() for module in modules}
# Only these know more than one stage: the order of a run, what a job hands to each stage, one image through all of them,
# what a run would cost, an image taken out of all tables, and the command line.
ABOVE = {"run", "settling", "job", "preview", "forecast", "purge", "cli"}
HEAVY = {"torch", "ray", "vllm", "pyarrow", "pandas", "transformers", "open_clip", "datasets", "numpy"}
MOST_LINES, MOST_PARAMETERS = 60, 6


def name_of(path: Path) -> str:
    """A path as messages show it, and as the ids of parametrised tests do."""
    return str(path.relative_to(ROOT))


def unit_of(path: Path) -> str:
    """The module or package directly below synthgen/ that a file belongs to."""
    return path.relative_to(ROOT / "synthgen").parts[0].removesuffix(".py")


def imported_units(path: Path) -> Iterator[str]:
    """The units of synthgen that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "synthgen":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("synthgen."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("synthgen."))


def package() -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / "synthgen") and path.parent.name != "library"]


def test_no_stage_knows_another() -> None:
    faults = []
    for path in package():
        mine = STAGE_OF.get(unit_of(path))
        for other in imported_units(path):
            if mine and other in ABOVE:
                faults.append(f"{name_of(path)} imports {other}, which stands above the stages")
            if mine and STAGE_OF.get(other, mine) != mine:
                faults.append(f"{name_of(path)} imports {other}; a stage knows tables, not other stages")
    assert not faults, "\n".join(faults)


def test_only_the_top_knows_the_order() -> None:
    """What several stages share imports no stage, so that it can be read without them."""
    faults = [
        f"{name_of(path)} imports {other}; only {', '.join(sorted(ABOVE))} know the stages"
        for path in package()
        if unit_of(path) not in ABOVE and unit_of(path) not in STAGE_OF
        for other in imported_units(path)
        if other in STAGE_OF or other in ABOVE
    ]
    assert not faults, "\n".join(faults)


def test_imports_point_one_way() -> None:
    graph = {unit_of(path): set[str]() for path in package()}
    for path in package():
        graph[unit_of(path)] |= {unit for unit in imported_units(path) if unit in graph and unit != unit_of(path)}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # a cycle raises, and the error shows it


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_opens_with_a_paragraph(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert text[-1:] in (".", "]", ")") or "\n\n" in text, f"{name_of(path)} opens without a sentence on what it is"
    assert len(text) >= (40 if path.name == "__init__.py" else 100), f"{name_of(path)}: what comes in, what goes out, why this way?"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_stay_small(path: Path) -> None:
    faults = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        given = node.args
        names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs) if one.arg not in ("self", "cls")]
        is_command = any(ast.unparse(one).startswith("app.command(") for one in node.decorator_list)  # its parameters are its options
        if lines > MOST_LINES or (len(names) > MOST_PARAMETERS and not is_command):
            faults.append(f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines, {len(names)} parameters")
    assert not faults, "\n".join(faults)


def test_no_file_is_a_drawer() -> None:
    refused = re.compile(r"(^|_)(utils?|commons?|helpers?|base|managers?|misc|factory|stuff)(_|$)")
    assert not [name_of(path) for path in SOURCES if refused.search(path.stem)]


def test_shelves_hold_text_only() -> None:
    for shelf in ("taggers", "prompts", "pipelines"):
        strange = [name_of(path) for path in (ROOT / shelf).rglob("*") if path.is_file() and path.suffix not in (".yaml", ".md")]
        assert not strange, f"shelves hold YAML, code is named as module:attribute: {strange}"


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the tree but this one."""
    found = [path for folder in TREE for path in (ROOT / folder).rglob("*")] + [path for path in ROOT.iterdir() if path.is_file()]
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
        [sys.executable, "-c", program, *filter(None, [command]), "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_changelog_knows_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == synthgen.__version__
