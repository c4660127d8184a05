"""The pages of docs/examples are what their command makes now."""

import subprocess
import sys
from pathlib import Path

from tests.fixtures.workspace import ROOT


def test_the_pages_of_conversations_are_made_by_their_command(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "conversations.py"), str(tmp_path / "pages")]
    subprocess.run(command, cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    made = {path.name: path.read_text() for path in (tmp_path / "pages").iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "examples").iterdir()}
    assert made == kept and len(made) == 12, "run: python benchmarks/conversations.py docs/examples"
