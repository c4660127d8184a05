"""The edit loop: a tag, an instruction type and a rule are added to a finished run, and only new questions are asked.

Runs the commands of docs/editing.md on demo images, with the demo's tagger and the scripted engine, so that
everything but the model is timed: copies of the taxonomy, the family and the mapping, three edits, `check`, `preview`,
the tags found again, `plan --diff`, `run --update`. The peer is the same edit without an update: the whole run once
more, into a new folder. `ratio` is the calls of the engine that this takes over those of the update.

    python benchmarks/edit_loop.py [--quick]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from driver import is_quick

ROOT = Path(__file__).parent.parent
ENGINE = """
import json, os
from synthgen.engines.scripted import ScriptedEngine

class Counting(ScriptedEngine):
    async def generate(self, request):
        with open(os.environ["SYNTH_CALLS"], "a") as file:
            file.write(request.purpose + "\\n")
        return await super().generate(request)
"""
KEEP = "select.keep={likelihood: {min: 0.85}, agreement: {min: 0.75}}"
SETTINGS = ["--pipeline", "demo", "--set", "generate.engine={kind: 'counting:Counting', gpus: 0}"]
SETTINGS += ["--set", "score={}", "--set", KEEP]
EDITS = {  # file -> the text to replace, and its replacement
    "taggers/taxonomies/drawn.yaml": (
        "      bar_chart:",
        "      pie_chart: a disc cut into sectors of different colours\n      bar_chart:",
    ),
    "prompts/families/drawn.yaml": (
        "      chart_value:\n",
        "      chart_title: {about: Ask what the chart could be called., needs: a bar chart, forms: [short],\n"
        "                    examples: ['What could be the title?', 'How would you name this chart?']}\n"
        "      chart_value:\n",
    ),
    "pipelines/mappings/drawn.yaml": (
        "  - tags: chart/**\n",
        "  - tags: [chart/bar_chart, chart/pie_chart]\n    ask: {logic_reasoning/chart_title: 6}\n  - tags: chart/**\n",
    ),
}


class Workspace:
    """A user's working folder, with the seconds of each command and the calls of the engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "demo").symlink_to(ROOT / "demo")
        (folder / "counting.py").write_text(ENGINE, encoding="utf-8")
        self.seconds: dict[str, float] = {}

    def synth(self, *arguments: str) -> str:
        """Run a command to its end; return its stdout."""
        environment = {**os.environ, "SYNTH_CALLS": str(self.folder / "calls"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "synthgen", *arguments]
        process = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env=environment,
        )
        return process.stdout

    def measure(self, name: str, *arguments: str) -> str:
        """Run a command and record its seconds under a name; return its stdout."""
        started = time.perf_counter()
        output = self.synth(*arguments)
        self.seconds[name] = time.perf_counter() - started
        return output

    def take_calls(self) -> int:
        """Return the number of calls of the engine since the last call of this method."""
        file = self.folder / "calls"
        count = len(file.read_text().splitlines()) if file.exists() else 0
        file.write_text("")
        return count


def main() -> None:
    """Run the loop; print a table, then one line of JSON."""
    limit = "40" if is_quick(__doc__) else "200"
    with tempfile.TemporaryDirectory(prefix="synth-edit-") as folder:
        space = Workspace(Path(folder))
        run = ["run", "demo/images", *SETTINGS, "--limit", limit]
        space.measure("first run", *run, "--out", "data")
        first = space.take_calls()
        for kind in ("taxonomy", "family", "mapping"):
            space.measure(f"copy {kind}", "copy", kind, "drawn", "drawn")
        edit(space.folder)
        space.measure("check", "check", *SETTINGS)
        space.measure("preview", "preview", "demo/images/0000.png", *SETTINGS)
        space.take_calls()
        space.measure("run --until tag", *run, "--out", "data", "--until", "tag", "--update")
        planned = json.loads(space.measure("plan --diff", "plan", "--out", "data", *SETTINGS, "--diff", "--json"))
        space.measure("run --update", *run, "--out", "data", "--update")
        update = space.take_calls()
        space.measure("all again", *run, "--out", "again")
        calls = {"first": first, "update": update, "again": space.take_calls()}
        report(space.seconds, planned["difference"], calls)


def edit(folder: Path) -> None:
    """Make the three edits."""
    for name, (before, after) in EDITS.items():
        text = (folder / name).read_text(encoding="utf-8")
        if before not in text:
            raise SystemExit(f"{name}: {before!r} is not in it any more; change EDITS to fit it")
        (folder / name).write_text(text.replace(before, after, 1), encoding="utf-8")


def report(seconds: Mapping[str, float], difference: list[dict[str, int]], calls: Mapping[str, int]) -> None:
    """Print the table and the line of JSON."""
    for name, value in seconds.items():
        print(f"{name:<16} {value:6.1f} s")
    sums = {name: sum(row[name] for row in difference) for name in ("added", "retired", "kept")}
    print(f"questions: {sums['added']} added, {sums['retired']} retired, {sums['kept']} left as they are")
    print(f"calls of the engine: {calls['update']} for the update, {calls['again']} for all again")
    loop = sum(value for name, value in seconds.items() if name not in ("first run", "all again"))
    record = {
        "benchmark": "edit_loop",
        "ratio": round(calls["again"] / max(1, calls["update"]), 1),
        "calls": calls,
        **sums,
        "loop_seconds": round(loop, 1),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
