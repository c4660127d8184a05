"""The edit loop, timed: a tag, an instruction type and a rule are added to a finished run, and only what they touch is asked.

    python benchmarks/edit_loop.py [--quick]

Runs the commands of the README's second task on demo images, with the demo's tagger and the scripted engine, so that what is
timed is everything but the model: copies of the taxonomy, the family and the mapping, three edits, `check`, `preview`, the tags
found anew, `plan --diff`, `run --update`. The peer is the same edit without an update: the whole run once more, into a new
folder. `ratio` is the calls of the engine that this takes over those of the update.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

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
SETTINGS = ["--pipeline", "demo", "--set", "generate.engine={kind: 'counting:Counting', gpus: 0}"]
EDITS = {  # file -> what stands there, and what stands there afterwards
    "taggers/taxonomies/drawn.yaml": (
        "      bar_chart:",
        "      pie_chart: a disc cut into sectors of different colours\n      bar_chart:",
    ),
    "prompts/families/drawn.yaml": (
        "      chart_value:\n",
        "      chart_title: {about: Ask what the chart could be called., needs: a bar chart, forms: [short],\n"
        "                    examples: ['What could be the title?', 'How would you name this chart?']}\n      chart_value:\n",
    ),
    "pipelines/mappings/drawn.yaml": (
        "  - tags: chart/**\n",
        "  - tags: [chart/bar_chart, chart/pie_chart]\n    ask: {logic_reasoning/chart_title: 6}\n  - tags: chart/**\n",
    ),
}


class Desk:
    """A user's working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "demo").symlink_to(ROOT / "demo")
        (folder / "counting.py").write_text(ENGINE, encoding="utf-8")
        self.seconds: dict[str, float] = {}

    def synth(self, *arguments: str) -> str:
        """Runs a command to its end; its stdout."""
        environment = {**os.environ, "SYNTH_CALLS": str(self.folder / "calls"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "synthgen", *arguments]
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env=environment,
        )
        return done.stdout

    def timed(self, name: str, *arguments: str) -> str:
        """The same, and notes the seconds."""
        began = time.perf_counter()
        told = self.synth(*arguments)
        self.seconds[name] = time.perf_counter() - began
        return told

    def calls(self) -> int:
        """Calls of the engine since the last time this was asked."""
        file = self.folder / "calls"
        count = len(file.read_text().splitlines()) if file.exists() else 0
        file.write_text("")
        return count


def main() -> None:
    """Runs the loop; prints a table, then one line of JSON."""
    limit = "40" if "--quick" in sys.argv else "200"
    with tempfile.TemporaryDirectory(prefix="synth-edit-") as folder:
        desk = Desk(Path(folder))
        run = ["run", "demo/images", *SETTINGS, "--limit", limit]
        desk.timed("first run", *run, "--out", "data")
        first = desk.calls()
        for kind in ("taxonomy", "family", "mapping"):
            desk.timed(f"copy {kind}", "copy", kind, "drawn", "drawn")
        edit(desk.folder)
        desk.timed("check", "check", *SETTINGS)
        desk.timed("preview", "preview", "demo/images/0000.png", *SETTINGS)
        desk.calls()
        desk.timed("run --until tag", *run, "--out", "data", "--until", "tag", "--update")
        told = json.loads(desk.timed("plan --diff", "plan", "--out", "data", *SETTINGS, "--diff", "--json"))
        desk.timed("run --update", *run, "--out", "data", "--update")
        update = desk.calls()
        desk.timed("all anew", *run, "--out", "anew")
        report(desk.seconds, told["difference"], {"first": first, "update": update, "anew": desk.calls()})


def edit(folder: Path) -> None:
    """Makes the edits."""
    for name, (before, after) in EDITS.items():
        text = (folder / name).read_text(encoding="utf-8")
        if before not in text:
            raise SystemExit(f"{name}: {before!r} is not there any more")
        (folder / name).write_text(text.replace(before, after, 1), encoding="utf-8")


def report(seconds: Mapping[str, float], difference: list[dict[str, int]], calls: Mapping[str, int]) -> None:
    """The table and the line of JSON."""
    for name, one in seconds.items():
        print(f"{name:<16} {one:6.1f} s")
    sums = {name: sum(row[name] for row in difference) for name in ("added", "gone", "kept")}
    print(f"questions: {sums['added']} added, {sums['gone']} taken back, {sums['kept']} left as they are")
    print(f"calls of the engine: {calls['update']} for the update, {calls['anew']} for all anew")
    loop = sum(one for name, one in seconds.items() if name not in ("first run", "all anew"))
    record = {
        "benchmark": "edit_loop",
        "ratio": round(calls["anew"] / max(1, calls["update"]), 1),
        "calls": calls,
        **sums,
    }
    print(
        json.dumps(
            record | {"loop_seconds": round(loop, 1), "seconds": {name: round(one, 1) for name, one in seconds.items()}}
        )
    )


if __name__ == "__main__":
    main()
