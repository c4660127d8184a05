"""A workspace with pairs, which the files of this folder share."""

from pathlib import Path

import pytest

from tests.fixtures.scoring import ScoredWorld, copy_of, make_pairs


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a workspace whose `out` has pairs; tests work on copies of it."""
    return make_pairs(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredWorld:
    monkeypatch.chdir(made)
    return copy_of(made, tmp_path / "out")
