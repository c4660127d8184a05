"""Infinity-MM in a bottle: what a student gains from each part of the pipeline, on pictures whose truth is known.

The student of the demo, which was taught little but captions, learns from captions and from pairs that the pipeline
makes of drawn pictures. The teacher answers at a high temperature, so that there are mistakes to filter. Five ways,
with equally many steps of equally many samples, in two halves:

- nothing extra: captions alone
- random types: every type is asked of every picture, in place of the mapping; filtered
- unfiltered: the mapping, and every pair that was made
- filtered: the mapping, and the pairs that the thresholds of the pipeline `demo` keep
- steered: as filtered, but the second half learns from a plan that `synth plan --from-student` steered by the first

The table gives right answers about held-out pictures by type, the mean over the seeds and half of their range. A run
that is interrupted goes on where it was.

    python benchmarks/bottle.py [--quick] [--out runs/bottle]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from driver import ROOT

from demo.evaluate import answer_calls, judge_replies, share
from demo.gold_shards import write_shards
from demo.inference import NanoVLM
from demo.laboratory.pictures import draw_pictures
from demo.laboratory.report import markdown, spread
from demo.make_student import TAUGHT
from demo.question_templates import TYPES
from demo.world import HELD_OUT_SEED, TRAIN_SEED, sample

STUDENT = ROOT / "demo" / "models" / "nano-student"
FIRST = 400_000  # index of the first scene that is asked about; other measurements use lower ones
GOLD_SEED = TRAIN_SEED + 600
WAYS = ("nothing extra", "random types", "unfiltered", "filtered", "steered")
RANDOM = 'about: every type of every picture, for benchmarks/bottle.py\nrules:\n  - {tags: "**", ask: {"**": 1}}\n'
TEMPERATURE = 1.2  # of the teacher's answers
Right = dict[str, float]  # type, or "all" → the share of right answers


@dataclass(frozen=True)
class Size:
    """How much is made, learned and asked."""

    seeds: int
    pictures: int  # of the run, and as many of the captions
    steps: int
    scenes: int


FULL = Size(seeds=3, pictures=200, steps=300, scenes=200)
QUICK = Size(seeds=1, pictures=10, steps=4, scenes=6)


def main() -> None:
    """Make, learn and ask; print the table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few pictures and steps, to see that it works")
    parser.add_argument("--out", type=Path, help="runs and students (runs/bottle, or runs/bottle-quick)")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    out = (args.out or Path("runs") / ("bottle-quick" if args.quick else "bottle")).resolve()
    found = {way: [Bottle(out / str(seed), seed, size).right(way) for seed in range(size.seeds)] for way in WAYS}
    table = markdown(rows(found))
    print(f"right answers to {size.scenes} scenes' questions, percent, over {size.seeds} seeds\n\n{table}\n")
    (out / "bottle.md").write_text(f"{table}\n")
    plot(found, out / "bottle.svg")
    means = {way: sum(right["all"] for right in each) / len(each) for way, each in found.items()}
    ratio = means["filtered"] / max(means["nothing extra"], 1e-9)
    figures = {way: [round(right["all"], 4) for right in each] for way, each in found.items()}
    print(json.dumps({"benchmark": "bottle", "ratio": round(ratio, 3), "right": figures}))


class Bottle:
    """One seed: its pictures, its runs, and the students that learn from them.

    Commands start in its folder, which so has a shelf of its own: `synth plan` writes the steered mapping there.
    """

    def __init__(self, folder: Path, seed: int, size: Size) -> None:
        self.folder, self.seed, self.size = folder, seed, size
        (folder / "pipelines" / "mappings").mkdir(parents=True, exist_ok=True)
        (folder / "pipelines" / "mappings" / "random.yaml").write_text(RANDOM)
        if not (folder / "demo").exists():
            (folder / "demo").symlink_to(ROOT / "demo")  # the pipeline names models by paths from here
        draw_pictures(folder / "pictures", seed, size.pictures)
        write_shards(folder / "captions", GOLD_SEED + seed, size.pictures, TAUGHT, len(TAUGHT))

    def right(self, way: str) -> Right:
        """Return the share of right answers of the student that learned in a way."""
        path = self.folder / f"{way.replace(' ', '-')}.json"
        if not path.exists():
            model = self.learn(way)
            path.write_text(json.dumps(ask(model, self.size.scenes)))
        right: Right = json.loads(path.read_text())
        print(f"seed {self.seed}, {way}: {right['all']:.3f} right answers", flush=True)
        return right

    def learn(self, way: str) -> Path:
        """Return the folder of the student that learned in a way."""
        start = "filtered" if way == "steered" else way
        first = self.train(self.shards(start), STUDENT, f"{start.replace(' ', '-')}-1")
        data = self.steer(first.parent) if way == "steered" else self.shards(way)
        return self.train(data, first, f"{way.replace(' ', '-')}-2")

    def train(self, data: str | None, model: Path, name: str) -> Path:
        """Train a student on captions and on the shards of a run, if there is one; return its folder."""
        shards = self.folder / "shards" / name
        if not shards.exists():
            folders = [self.folder / "captions", *([self.folder / "data" / data / "5-shards" / "data"] if data else [])]
            partial = shards.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for number, folder in enumerate(folders):
                for file in folder.glob("*.parquet"):
                    shutil.copy(file, partial / f"{number}-{file.name}")
            partial.rename(shards)
        settings = {"steps": self.size.steps // 2, "batch": 16, "learning_rate": 1e-3, "seed": self.seed}
        options = [f"train.{key}={value}" for key, value in (settings | {"score_after": 10**6}).items()]
        out = self.folder / "students" / name
        self.synth("train", str(shards), "--model", str(model), "--pipeline", "demo", "--out", str(out), sets=options)
        return out / "model"

    def shards(self, way: str) -> str | None:
        """Return the name of the run that a way learns from; make it if it is not there."""
        if way == "nothing extra":
            return None
        if way == "random types":
            return self.run("random", f"generate.sampling.answer_temperature={TEMPERATURE}", "plan.mapping=random")
        filtered = self.run("filtered", f"generate.sampling.answer_temperature={TEMPERATURE}")
        return self.edit(filtered, "unfiltered", "select.keep={}") if way == "unfiltered" else filtered

    def run(self, name: str, *sets: str) -> str:
        """Run the pipeline over the pictures."""
        self.synth("run", "pictures", "--pipeline", "demo", "--out", f"data/{name}", sets=sets)
        return name

    def edit(self, name: str, new: str, *sets: str) -> str:
        """Copy a run and update the copy."""
        target = self.folder / "data" / new
        if not target.exists():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(self.folder / "data" / name, partial)
            partial.rename(target)
        self.synth("run", "--out", f"data/{new}", "--update", sets=sets)
        return new

    def steer(self, training: Path) -> str:
        """Steer a copy of the filtered run by what a student has learned from it."""
        if not (self.folder / "pipelines" / "mappings" / "steered.yaml").exists():
            self.synth("plan", "--out", "data/filtered", "--from-student", str(training), "--name", "steered")
        return self.edit("filtered", "steered", "plan.mapping=steered")

    def synth(self, *words: str, sets: Sequence[str] = ()) -> None:
        """Run a command of synth in this folder."""
        options = [part for each in sets for part in ("--set", each)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "synthgen", *words, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, env=environment)


def ask(model: Path, scenes: int) -> Right:
    """Return the share of right answers about held-out scenes, by type and of all."""
    calls, questions = answer_calls([sample(HELD_OUT_SEED, FIRST + number) for number in range(scenes)], 8)
    is_right = judge_replies(calls, questions, NanoVLM(model).reply(calls))
    right = {
        type_: share(hit for hit, call in zip(is_right, calls, strict=True) if call.type == type_)
        for type_ in TYPES
        if any(call.type == type_ for call in calls)
    }
    return right | {"all": share(is_right)}


def rows(found: Mapping[str, Sequence[Right]]) -> list[dict[str, str]]:
    """Return a row for each type, with a column for each way."""
    types = list(dict.fromkeys(type_ for each in found.values() for right in each for type_ in right))
    return [
        {"instruction type": type_}
        | {way: spread([right[type_] for right in each if type_ in right]) for way, each in found.items()}
        for type_ in types
    ]


def plot(found: Mapping[str, Sequence[Right]], path: Path) -> None:
    """Draw the right answers of each way by type: the mean, and the range over the seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bottle", "font.size": 9})
    from matplotlib import pyplot as plt

    types = list(next(iter(found.values()))[0])[::-1]
    figure, axis = plt.subplots(figsize=(7, 0.32 * len(types) + 1.2))
    for number, (way, each) in enumerate(found.items()):
        values = [[100 * right[type_] for right in each if type_ in right] for type_ in types]
        places = [place + 0.14 * (2 - number) for place in range(len(types))]
        axis.hlines(places, [min(of) for of in values], [max(of) for of in values], color=f"C{number}", alpha=0.5)
        axis.scatter([sum(of) / len(of) for of in values], places, color=f"C{number}", s=14, label=way)
    axis.set(yticks=range(len(types)), yticklabels=types, xlabel="right answers about held-out pictures, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
