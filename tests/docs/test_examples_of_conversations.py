"""The pages of docs/examples are what their command makes now."""

import subprocess
import sys
from pathlib import Path

import yaml

from tests.fixtures.workspace import ROOT


def test_the_pages_of_conversations_are_made_by_their_command_and_all_of_them_are_whole(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "conversations.py"), str(tmp_path / "pages")]
    subprocess.run(command, cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    made = {path.name: path.read_text() for path in (tmp_path / "pages").iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / "docs" / "examples").iterdir()}
    whole = yaml.safe_load((ROOT / "benchmarks" / "conversations.yaml").read_text())
    pages = [made[f"{name.lower().replace(' ', '_')}.md"] for name in whole]
    assert len(pages) == 12 and not [page for page in pages if "`…`" in page or "→ …" in page]
    assert made == kept and len(made) == 12, "run: python benchmarks/conversations.py docs/examples"
