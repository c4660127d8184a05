"""Views on a real run: one is current and packed, another takes over in a moment, and a trial changes nothing."""

import json
from pathlib import Path

import pytest

from tests.fixtures.runs import adds_up, funnel_of, pairs, run, synth
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write

pytestmark = pytest.mark.usefixtures("workers_here")
VIEWS = """\
views:
  few: {quotas: {types: {"coarse/**": {most: 3, by: answer}}}}
  mine: {keep: {}, functions: ["mine:no_choice"]}
"""
MINE = """\
def no_choice(pairs):
    return ["choice" if form == "choice" else None for form in pairs.column("form").to_pylist()]
"""


def kept(out: Path) -> int:
    """Return the number of kept pairs, after a check that as many are packed."""
    adds_up(out)
    passed = funnel_of(out, "select").passed
    assert funnel_of(out, "pack").passed == passed
    return passed


def test_a_view_is_selected_and_packed_until_another_one_is(workspace: Path) -> None:
    write(Path("pipelines/small.yaml"), DEFINITION_FILES["pipelines/small.yaml"] + VIEWS)
    write(Path("mine.py"), MINE)
    make_images(workspace / "photos", 12)
    run()
    out = workspace / "out"
    plain, asked = kept(out), pairs(out)

    table = json.loads(synth("select", "out", "--json").stdout)
    counted = {name: sum(types.values()) for name, types in table["kept"].items()}
    assert list(counted) == ["select", "few", "mine"] and counted["select"] == plain
    assert (kept(out), pairs(out)) == (plain, asked)  # a trial writes nothing

    few = synth("run", "--out", "out", "--from", "select", "--view", "few")
    assert kept(out) == counted["few"] < plain
    dropped = funnel_of(out, "select").dropped
    assert dropped["quota:type:coarse/**"] and "quota:type:coarse/**" in few.stdout
    card = (out / "5-shards" / "README.md").read_text()
    assert "| View | few |" in card and "of the type coarse" in card.lower() and "at most 3 pairs are kept" in card
    listed = synth("status", "out", "--reason", "quota", "--json").stdout.splitlines()
    assert len(listed) == min(20, dropped["quota:type:coarse/**"])

    again = synth("run", "--out", "out")
    assert "--view few" in again.stderr and "nothing to do" in again.stderr
    synth("run", "--out", "out", "--view", "mine")
    assert kept(out) == counted["mine"] and funnel_of(out, "select").dropped["user:no_choice:choice"]
    synth("run", "--out", "out", "--view", "select")
    assert (kept(out), pairs(out)) == (plain, asked)


def test_a_trial_counts_by_type_what_other_thresholds_would_keep(workspace: Path) -> None:
    make_images(workspace / "photos", 8)
    run()
    shown = synth("select", "out", "--what-if", "answer=1.5,2.5", "--what-if", "answer.drop=0.5").stdout.splitlines()
    assert shown[0].split() == ["type", "pairs", "select", "answer.min=1.5", "answer.min=2.5", "answer.drop=0.5"]
    total = next(place for place, line in enumerate(shown) if line.startswith("all types"))
    assert {"coarse/scene", "coarse/counting"} <= {line.split()[0] for line in shown[1:total]}
    assert shown[total + 1].startswith("letters of kept multiple choice: A ")
    totals = [int(cell) for cell in shown[total].split()[2:]]
    assert totals[0] >= totals[2] >= totals[1] >= totals[3] and totals[1] > totals[4]
    for word, message in {
        "answr=3": "--what-if answr.min=3: no pair has the score 'answr': did you mean 'answer'?",
        "answer=x": "--what-if answer=x: 'x' is no value of answer.min: it is no number",
        "answer.drop=2": "--what-if answer.drop=2: '2' is no value of answer.drop: it must be less than 1",
        "answer": "--what-if answer: write it as SCORE=VALUE,VALUE or SCORE.drop=SHARE,SHARE",
    }.items():
        refused = synth("select", "out", "--what-if", word, check=False)
        assert refused.returncode == 2 and refused.stderr.splitlines()[-1] == f"synth: {message}"
    assert synth("select", "out", "--view", "x", check=False).stderr.splitlines()[-1] == (
        "synth: --view x: no view has that name: known: select"
    )
