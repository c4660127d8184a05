"""`synth plan --from-student`: a mapping that asks more of what a student still has to learn.

The mapping extends that of the run by one rule, which boosts each type by a factor within bounds. A mapping that was
steered before gives its place to the new one, so factors do not add up over rounds. The numbers that a factor follows
from stand in the file, and so in the record of the run that draws with it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgen.commands.plan.student import Student, read_student
from synthgen.config import library, mapping
from synthgen.config.mapping import RuleSet
from synthgen.console import pluralize
from synthgen.job.job import with_mapping
from synthgen.stages.contract import Job
from synthgen.store import RunFolder
from synthgen.train.reducible import BOUND, factors

UNSAVED = "from-student"  # stands for the name of a mapping that is not written


@dataclass(frozen=True)
class Steering:
    """A job whose plan is steered by a student, and the mapping that does it.

    Attributes:
        boosts: Type → the factor on its weight.
        file: Where the mapping is; None where it is not written.
    """

    job: Job
    student: Student
    boosts: dict[str, float]
    file: Path | None


def steer(folder: RunFolder, job: Job, training: str, name: str | None) -> Steering:
    """Return a job with a mapping that follows from what a training has learned; with a name, write the mapping.

    Raises:
        UserMistake: There is no such training, it has learned from other pairs, or the name is taken.
    """
    target = library.new_path("mapping", name) if name else None
    tree, types = job.definitions.taxonomy.tree, list(job.definitions.prompts.types)
    student = read_student(folder, training, types)
    boosts = factors(student.types)
    text = _mapping_yaml(student, boosts, _unsteered(job))
    loaded: list[RuleSet] = []
    library.check_loads(text, lambda path: loaded.append(mapping.load(path, tree, types, job.home)))
    if target:
        library.write_new(target, text)
    return Steering(with_mapping(job, name or UNSAVED, loaded[0]), student, boosts, target)


def _unsteered(job: Job) -> str:
    """Return the name of the mapping that the job's would be without a student."""
    name = job.pipeline.plan.mapping
    _, file = mapping.files(name, home=job.home)[-1]
    return file.extends if file.student and file.extends else name


def _mapping_yaml(student: Student, boosts: dict[str, float], extends: str) -> str:
    after = f"after {pluralize(student.steps, 'step')}"
    lines = [
        "# Written by `synth plan --from-student`. A factor is what the student can still learn of a type, over that",
        f"# of all, from {1 / BOUND:g} to {BOUND:g}; you may change it.",
        f"about: {_quoted(f'{extends}, steered by {student.folder.name} {after}')}",
        f"extends: {_quoted(extends)}",
        "student:  # why: the mean loss of a token, of the student and of the model which answered",
        f"  training: {_quoted(str(student.folder))}",
        f"  steps: {student.steps}",
        "  types:",
    ]
    for path, losses in student.types.items():
        numbers = f"answers: {losses.answers}, student: {losses.student:.4f}, teacher: {losses.teacher:.4f}"
        lines.append(f"    {_quoted(path)}: {{{numbers}}}")
    lines += ["rules:", '  - tags: "**"', "    boost:"]
    lines += [f"      {_quoted(path)}: {boosts[path]:.4f}" for path in sorted(boosts, key=lambda path: -boosts[path])]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Return a text as YAML reads it back, whatever is in it."""
    return json.dumps(text, ensure_ascii=False)


def text(steering: Steering) -> str:
    """Return what the student has to learn, as a table for a terminal."""
    student, boosts = steering.student, steering.boosts
    width = max(len("instruction type"), *(len(path) for path in boosts))
    lines = [
        f"what {student.folder.name} still has to learn after {pluralize(student.steps, 'step')}, in nats a token:",
        "",
        f"{'instruction type':<{width}} {'pairs':>8} {'student':>8} {'teacher':>8} {'to learn':>9} {'factor':>7}",
    ]
    for path in sorted(boosts, key=lambda path: (-boosts[path], path)):
        of = student.types[path]
        numbers = f"{of.answers:>8,} {of.student:>8.3f} {of.teacher:>8.3f} {of.reducible:>9.3f} {boosts[path]:>7.2f}"
        lines.append(f"{path:<{width}} {numbers}")
    if student.others:
        lines.append(
            f"note: {pluralize(student.others, 'pair')} of the training are not compared: their likelihood is "
            "not known here"
        )
    return "\n".join([*lines, ""])


def advice(steering: Steering, out: str) -> str:
    """Return how the plan is drawn so."""
    if steering.file is None:
        return "nothing is written; add --name NAME to keep this mapping"
    command = f"synth run --out {out} --set plan.mapping={steering.file.stem} --update"
    return f"{steering.file}: written; draw the plan by it with `{command}`"


def as_json(steering: Steering) -> dict[str, Any]:
    """Return what the student has to learn under names."""
    student = steering.student
    types = [
        {"type": path, "factor": factor, "reducible": student.types[path].reducible, **vars(student.types[path])}
        for path, factor in steering.boosts.items()
    ]
    return {
        "training": str(student.folder),
        "steps": student.steps,
        "pairs": student.pairs,
        "mapping": str(steering.file) if steering.file else None,
        "types": types,
    }
