"""Measure what every gate is worth and costs on pictures whose truth is known, and what a student learns from it.

Generators of three strengths ask and answer about pictures that no model saw. Every gate of the drawn world is measured
on every pair: by the generator itself, by a judge of another seed, and by a stronger model. The oracle says which pairs
are true. For each gate and combination the tables give the area under the ROC curve, how many of the kept pairs are
true and how many true ones are lost with thresholds set on the pictures of the other seeds, the cost, and how much a
student learns from equally many pairs.

    python -m demo.laboratory [--quick] [--out runs/laboratory] [--docs docs]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import synthgen
from demo.laboratory import faults, report
from demo.laboratory.gates import Mask, Pairs, Trial, kept_by, thresholds_for, trials
from demo.laboratory.generators import train_generators
from demo.laboratory.pictures import draw_pictures, load_scenes
from demo.laboratory.rated import Rows, rate, read_pairs
from demo.laboratory.students import Lesson, right_answers, teach
from demo.world import Scene

HERE = Path(__file__).parent
PIPELINE, PLANTED = str(HERE / "laboratory.yaml"), str(HERE / "planted.yaml")
COMMITTED = HERE.parent / "models" / "nano-vlm"
Measured = dict[str, tuple[list[Trial], tuple[float, float]]]  # gate -> its trials, and calls and tokens a pair
SEEDS = (1, 2, 3)
LEAST = 0.7  # share of the true pairs that a selection must keep
COMBINATIONS = (
    ("self.likelihood", "self.agreement"),
    ("self.likelihood", "self.agreement", "self.paraphrase", "self.image_gain"),
    ("judge.p_true", "judge.question"),
    ("judge.likelihood", "judge.question"),
    ("judge.likelihood", "judge.agreement", "judge.question", "judge.p_true"),
    ("self.likelihood", "judge.likelihood"),
    ("self.likelihood", "self.agreement", "judge.likelihood", "judge.question", "judge.p_true"),
    ("judge.likelihood", "judge.question", "large.likelihood", "large.agreement"),
)
TAUGHT = (  # what students learn from, beside all pairs and the true ones
    ("self.likelihood",),
    ("self.likelihood", "self.agreement"),
    ("judge.likelihood", "judge.question"),
    ("self.likelihood", "self.agreement", "judge.likelihood", "judge.question", "judge.p_true"),
    ("judge.likelihood", "judge.question", "large.likelihood", "large.agreement"),
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    pictures: int  # of each seed
    lesson_pairs: int
    lesson_steps: int
    lesson_scenes: int


FULL = Size(pictures=250, lesson_pairs=600, lesson_steps=200, lesson_scenes=300)
QUICK = Size(pictures=12, lesson_pairs=24, lesson_steps=3, lesson_scenes=10)


def run(out: Path, name: str, model: Path, size: Size) -> tuple[Rows, Pairs]:
    """Return the rated pairs of a generator, which asks about the pictures of every seed."""
    scenes = draw_all(out, size.pictures)
    data = out / "data" / name
    synthgen.run_pipeline(out / "pictures", data, pipeline=PIPELINE, model=str(model), until="score")
    rows = read_pairs(data, scenes)
    return rows, rate(data, rows, scores_of(PIPELINE))


def run_planted(out: Path, model: Path, size: Size) -> list[dict[str, str]]:
    """Return the rows of the table of planted faults; `model` judges as the generator would."""
    scenes = draw_all(out, size.pictures)
    data = out / "data" / "planted"
    pictures = [str((out / "pictures" / str(seed)).resolve()) for seed in SEEDS]
    settings = {"generate.engine.options": {"pictures": pictures}, "score.self.model": str(model)}
    synthgen.run_pipeline(out / "pictures", data, pipeline=PLANTED, settings=settings, until="select")
    rows = read_pairs(data, scenes)
    found = faults.faults_of(rows)
    pairs = rate(data, rows, scores_of(PLANTED))
    return faults.fault_rows(found, faults.all_dropped(pairs, found, faults.duplicates_of(data, rows)))


def draw_all(out: Path, pictures: int) -> dict[Path, tuple[int, Scene]]:
    """Draw the pictures of every seed; return the seed and the scene of each."""
    scenes: dict[Path, tuple[int, Scene]] = {}
    for seed in SEEDS:
        folder = out / "pictures" / str(seed)
        draw_pictures(folder, seed, pictures)
        scenes |= {(folder / file).resolve(): (seed, scene) for file, scene in load_scenes(folder).items()}
    return scenes


def scores_of(name: str) -> list[str]:
    """Return the scores that a pipeline measures, those of passes as PASS.SCORE."""
    pipeline = synthgen.load_pipeline(name)
    of_passes = [f"{place}.{score}" for place, config in pipeline.score.items() for score in config.scores]
    return [*pipeline.generate.scores, *of_passes]


def measure(pairs: Pairs) -> Measured:
    """Return the trials and the cost of every gate and combination."""
    found: Measured = {}
    for gates in (*((gate,) for gate in pairs.values), *COMBINATIONS):
        cost = (sum(pairs.calls[gate] for gate in gates), sum(pairs.tokens[gate] for gate in gates))
        found[" + ".join(gates)] = (trials(pairs, gates, LEAST), cost)
    return found


def selections(pairs: Pairs, seed: int) -> dict[str, Mask]:
    """Return the pairs of a seed that each selection keeps, with thresholds that are set on the other seeds."""
    own, others = pairs.seed == seed, pairs.seed != seed
    chosen = {"all pairs": own, "the true pairs": own & pairs.is_true}
    for gates in TAUGHT:
        limits = thresholds_for(pairs.of(gates, others), pairs.is_true[others], LEAST)
        chosen[" + ".join(gates)] = own & kept_by(pairs.of(gates, np.ones_like(own)), limits)
    return chosen


def teach_all(rows: Rows, pairs: Pairs, lesson: Lesson, out: Path) -> dict[str, dict[str, list[float]]]:
    """Return for each selection the share of true pairs learnt from, and of right answers after it, by seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in SEEDS:
        for name, selected in selections(pairs, seed).items():
            folder = out / str(seed) / name.replace(" ", "-")
            result = found.setdefault(name, {"true": [], "right": []})
            result["true"].append(float(pairs.is_true[selected].mean()))
            result["right"].append(teach(rows, selected, lesson, folder, seed))
            print(f"seed {seed}, {name}: {result['right'][-1]:.3f} right answers", flush=True)
    return found


def gate_table(name: str, rows: Rows, pairs: Pairs, measured: Measured) -> str:
    """Print and return the table of a generator's gates."""
    print(f"\n{name}: {len(rows.pairs):,} pairs, {pairs.is_true.mean():.1%} of them true\n")
    table = report.markdown([report.gate_row(gate, *found) for gate, found in measured.items()])
    print(table, flush=True)
    return table


def student_table(students: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the table of what students learnt."""
    rows = [
        {
            "learnt from": name,
            "true of them, %": report.spread(found["true"]),
            "right answers, %": report.spread(found["right"]),
        }
        for name, found in students.items()
    ]
    return report.markdown(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what gates are worth on pictures whose truth is known.")
    parser.add_argument(
        "--quick", action="store_true", help="a few pictures and the committed model, to see that it works"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/laboratory"), help="generators, runs and students")
    parser.add_argument("--docs", type=Path, help="also put the tables and the plot into laboratory.md here")
    args = parser.parse_args()
    if args.docs and not (args.docs / "laboratory.md").is_file():
        parser.error(f"--docs {args.docs}: holds no laboratory.md, into which the tables go")
    size = QUICK if args.quick else FULL
    generators = {"committed": COMMITTED} if args.quick else train_generators(args.out / "generators")
    rated = {name: run(args.out, name, model, size) for name, model in generators.items()}
    measured = {name: measure(pairs) for name, (_, pairs) in rated.items()}
    middle = list(rated)[len(rated) // 2]
    tables = {name: gate_table(name, *rated[name], measured[name]) for name in rated}
    tables["planted"] = report.markdown(run_planted(args.out, generators[middle], size))
    print(f"\nplanted faults: the percentage that each gate drops\n\n{tables['planted']}", flush=True)
    lesson = Lesson(next(iter(generators.values())), size.lesson_pairs, size.lesson_steps, size.lesson_scenes)
    print(f"\nstudents begin with {right_answers(lesson.model, lesson.scenes):.3f} right answers\n", flush=True)
    students = teach_all(*rated[middle], lesson, args.out / "students")
    tables["students"] = student_table(students)
    print(tables["students"])
    if args.docs:
        for name, table in tables.items():
            report.write_table(args.docs / "laboratory.md", name, table)
        points = {name: {gate: found[0] for gate, found in gates.items()} for name, gates in measured.items()}
        report.plot(points, args.docs / "laboratory.svg")
    gates = {name: {gate: report.as_json(found[0]) for gate, found in of.items()} for name, of in measured.items()}
    print(json.dumps({"benchmark": "laboratory", "gates": gates, "students": students}))


if __name__ == "__main__":
    main()
