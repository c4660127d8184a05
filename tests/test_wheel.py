"""The wheel: one importable package with the definition files inside it, and it works from an empty folder.

Built with the build backend itself, so that no network is needed; unpacked rather than installed, because a wheel of
pure Python works from anywhere on the path.
"""

import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from email import message_from_string
from pathlib import Path

import pytest

import synthgen
from synthgen.config import library
from tests.fixtures.workspace import ROOT

FOLDERS = ("taggers", "prompts", "pipelines")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source archive into a folder."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def synth(unpacked: Path, working_folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`synth` of the unpacked wheel; the path variable goes before whatever is installed here."""
    command = [sys.executable, "-m", "synthgen", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    return subprocess.run(command, cwd=working_folder, env=environment, capture_output=True, text=True, check=False)


def test_it_holds_synthgen_and_nothing_else_importable(unpacked: Path) -> None:
    metadata = f"synthgen-{synthgen.__version__}.dist-info"
    assert {path.name for path in unpacked.iterdir()} == {"synthgen", metadata}
    packed = files(unpacked / "synthgen")
    shipped = {name for name in packed if name.startswith("library/")}
    assert packed - shipped == files(ROOT / "synthgen")
    assert shipped == {f"library/{folder}/{name}" for folder in FOLDERS for name in files(ROOT / folder)}
    assert not [name for name in shipped if name.endswith(".py")]


def test_its_metadata_is_that_of_the_project(unpacked: Path) -> None:
    folder = unpacked / f"synthgen-{synthgen.__version__}.dist-info"
    metadata = message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Version"] == synthgen.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
    assert (folder / "licenses/LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert (folder / "entry_points.txt").read_text(encoding="utf-8").split() == [
        "[console_scripts]",
        "synth",
        "=",
        "synthgen.cli:main",
    ]


def test_the_doctor_looks_for_every_package_that_the_base_install_requires(unpacked: Path, tmp_path: Path) -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    program = (
        "from synthgen.commands.doctor.libraries import required_packages\n"
        "[finding] = required_packages()\n"
        "print(finding.level, finding.detail)"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ok all {len(required)} that synthgen requires\n"
    assert "openai" in {line.partition(">")[0] for line in required}, "the endpoint engine is part of the base install"


def test_its_definition_files_are_found_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    done = synth(unpacked, tmp_path, ["list"])
    assert done.returncode == 0, done.stderr
    listed = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    ours = {(kind, path.stem) for kind, folder in library.KINDS.items() for path in (ROOT / folder).glob("*.yaml")}
    assert listed == ours
    shown = synth(unpacked, tmp_path, ["show", "tagger", "everyday-clip"])
    assert shown.stdout == (ROOT / "taggers/everyday-clip.yaml").read_text(encoding="utf-8")


def test_its_pipelines_check_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    done = synth(unpacked, tmp_path, ["check", "--pipeline", "everyday"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("no mistakes\n")
    # The drawn world's models are part of the repository, not of the wheel; that is said in a line.
    demo = synth(unpacked, tmp_path, ["check", "--pipeline", "demo"])
    assert demo.returncode in (0, 2) and "Traceback" not in demo.stderr
    assert demo.returncode == 0 or "demo/models" in demo.stderr


def test_a_copy_is_the_user_s_and_wins(unpacked: Path, tmp_path: Path) -> None:
    assert synth(unpacked, tmp_path, ["copy", "mapping", "everyday", "mine"]).stdout == "pipelines/mappings/mine.yaml\n"
    assert "mine" in synth(unpacked, tmp_path, ["list", "mapping"]).stdout
    assert synth(unpacked, tmp_path, ["copy", "mapping", "everyday", "mine"]).returncode == 2


def test_the_source_archive_builds_the_same_wheel(built: Path, unpacked: Path, tmp_path: Path) -> None:
    archive = next(built.glob("*.tar.gz"))
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(tmp_path)], check=True)
    source = next(tmp_path.iterdir())
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as wheel:
        again = {name for name in wheel.namelist() if not name.endswith("/")}
    assert again == files(unpacked)
