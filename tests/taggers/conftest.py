"""Fixtures of the tagger tests."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from synthgen.engines import Request
from synthgen.ingest.sources import ObjectRef, read_objects
from tests.fixtures import chooser
from tests.fixtures.tagging import OWN_TAGGER, clip_model
from tests.fixtures.workspace import write


@pytest.fixture(autouse=True)
def text_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own cache of text embeddings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/synthgen/text-embeddings"


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with a sigmoid loss."""
    return clip_model(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a contrastive model."""
    return clip_model(tmp_path_factory.mktemp("clip"), bias=None)


@pytest.fixture
def chooser_calls() -> list[Request]:
    """Return the calls that the scripted engine in chooser.py gets during the test."""
    chooser.CALLS.clear()
    return chooser.CALLS


@pytest.fixture
def own_tagger(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the module of a user's tagger into the working folder."""
    write(workspace / "own_tagger.py", OWN_TAGGER)
    monkeypatch.syspath_prepend(str(workspace))
    sys.modules.pop("own_tagger", None)


@pytest.fixture
def read_uris(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the uris of all objects that the tag stage reads during the test."""
    uris: list[str] = []

    def record(refs: Sequence[ObjectRef], *args: Any) -> Iterator[Any]:
        for ref, data in read_objects(refs, *args):
            uris.append(ref.uri)
            yield ref, data

    monkeypatch.setattr("synthgen.ingest.load.read_objects", record)
    return uris
