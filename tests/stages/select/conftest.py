"""What the tests of the select stage share."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from synthgen.store import Folder, Lease
from tests.fixtures.selecting import Output


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make buckets so small that a handful of questions fill several."""
    monkeypatch.setattr("synthgen.dedup.questions.BUCKET_ROWS", 2)
    monkeypatch.setattr("synthgen.store.spill.ROWS_AT_ONCE", 3)


@pytest.fixture
def out(tmp_path: Path) -> Iterable[Output]:
    """Hold the lease on an empty output folder."""
    folder = Folder(str(tmp_path))
    with Lease.take(folder) as lease:
        yield folder, lease
