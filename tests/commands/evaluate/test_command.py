"""`synth evaluate` as it is typed: one line for each mistake, and a whole evaluation on Ray."""

import asyncio
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthgen import cli
from synthgen.commands.evaluate import EvaluateRequest, command, evaluate
from synthgen.config import pipeline as pipelines
from synthgen.config.training import TrainConfig
from synthgen.errors import Damaged, JobFailing, Mistakes, UserMistake
from synthgen.tables import image_id
from synthgen.train.feed import open_feed
from synthgen.workers import PoolSpec
from tests.fixtures.evaluating import COLOURS, colour_row, picture, write_questions
from tests.fixtures.stage_runs import act_after
from tests.fixtures.workspace import write

# An engine that sees the colour of an image, keeps a record of its calls, and can be another model by its name.
SEEING = """
from pathlib import Path

from synthgen.engines import EngineInfo, Reply

COLOURS = {(255, 0, 0): "red", (0, 0, 255): "blue", (0, 128, 0): "green", (128, 128, 128): "grey"}


class Seeing:
    def __init__(self, name, settings):
        self.facts = EngineInfo(name.model, name.revision, frozenset(), None, "seeing 1")

    async def generate(self, request):
        colour = COLOURS[request.image.getpixel((0, 0))] if request.image else "none"
        with Path("calls.txt").open("a") as file:
            file.write(f"{self.facts.model} {colour} {request.text!r}\\n")
        if self.facts.model == "half" and colour in ("green", "grey"):
            return Reply("red")
        lines = [line for line in request.text.splitlines() if line.endswith(f". {colour}")]
        return Reply(lines[0][0] if lines else colour)

    async def close(self):
        pass
"""


SEEING_ENGINE = "evaluate.engine={kind: 'seeing:Seeing', gpus: 0}"


def rows() -> list[dict[str, Any]]:
    """Return questions about 36 images, which are two partitions, some of them of multiple choice."""
    named = [COLOURS[number % 4] for number in range(36)]
    choice = {"options": list(COLOURS)}
    return [colour_row(each, number, **(choice if number % 3 else {})) for number, each in enumerate(named)]


def typed(*words: str) -> None:
    cli.app(["evaluate", *words], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("q.jsonl", "--out", "out"), "missing: --model, the model that is asked; or --export"),
        (("q.jsonl", "--out", "out", "--against", "b"), "--against b: needs --model"),
        (("q.jsonl", "--out", "out", "--model", "a", "--against", "a"), "--against a: is the model itself"),
        (("q.jsonl", "--out", "out", "--model", "a", "--export", "vlmeval"), "did you mean 'vlmevalkit'"),
        (("q.jsonl", "--model", "a"), "missing: --out, the folder for the results"),
        (("q.jsonl", "out", "--model", "a"), "evaluate takes its output folder with --out: synth evaluate q.jsonl"),
        (("q.jsonl", "--out", "out", "--model", "a b"), "--model a b: no such folder"),
        (("absent.jsonl", "--out", "out", "--model", "a/b", "--set", "generate.engine.kind=nothing"), "engine"),
        (("q.jsonl", "--out", "out", "--model", "a", "--set", "evaluate.wording=mine"), "evaluate.wording"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(workspace: Path, words: tuple[str, ...], message: str) -> None:
    write_questions(workspace, [colour_row("red")], "q.jsonl")
    with pytest.raises((UserMistake, Mistakes), match=message):
        typed(*words)
    assert not (workspace / "out").exists()


def trained(folder: Path, *colours: str, ids: bool = True) -> Path:
    """Write what a training leaves: its record, the shards that it saw, and a tuned model."""
    import pyarrow as pa

    images = [picture(colour) for colour in colours]
    turns = [{"role": role, "content": "colour"} for role in ("user", "assistant")]
    columns: dict[str, Any] = {"images": [[{"bytes": image, "path": None}] for image in images]}
    columns |= {"messages": [turns] * len(images)}
    own = {"id": list(colours), "image_id": list(map(image_id, images)), "width": [8] * len(images)}
    columns |= {**own, "height": own["width"]} if ids else {}
    (folder / "model").mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "shard.parquet")
    settings = TrainConfig()
    feed = open_feed({"shards": str(folder / "shard.parquet")}, folder / "feed", settings)
    shape = settings.model_dump(mode="json")
    record = {"format": 3, "model": "start", "shape": shape, "result": None, "data": feed.record(), "feed": "feed"}
    (folder / "training.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "model" / "config.json").write_text('{"architectures": ["A"]}', encoding="utf-8")
    (folder / "model" / "model.bin").write_bytes(b"weights")
    return folder


def exported(source: Path, out: str, model: Path, *settings: str) -> None:
    """Ask no model, and write what would be asked."""
    request = EvaluateRequest(str(source), out, (str(model),))
    evaluate(
        request, pipelines.load("small", [*settings, "generate.engine.kind=scripted", "generate.engine.options={}"])
    )


@pytest.mark.parametrize("ids", [True, False])
def test_a_model_is_not_asked_only_about_images_that_it_was_tuned_on(workspace: Path, ids: bool) -> None:
    tuned = trained(workspace / "tuned", "red", "blue", ids=ids)
    source = write_questions(workspace, [colour_row("red"), colour_row("blue")])
    with pytest.raises(UserMistake, match="every question is about an image that a model was tuned on"):
        exported(source, "out", tuned)


def test_an_index_that_is_gone_or_a_broken_record_is_one_line(workspace: Path) -> None:
    tuned = trained(workspace / "tuned", "red")
    shutil.rmtree(tuned / "feed")
    source = write_questions(workspace, [colour_row("red")])
    with pytest.raises(UserMistake, match=r"so nobody can tell which rows are in .*; put the folder feed of"):
        exported(source, "out", tuned)
    (tuned / "training.json").write_text("[]")
    with pytest.raises(Damaged, match="is not the record of a training"):
        exported(source, "out", tuned)


def test_the_questions_alone_are_exported_without_a_model_and_a_damaged_file_says_what_to_do(workspace: Path) -> None:
    source = write_questions(workspace, [colour_row("red", options=list(COLOURS)), colour_row("blue")])
    request, small = (
        EvaluateRequest(str(source), "out", (), exports=("vlmevalkit", "lmms-eval")),
        pipelines.load("small"),
    )
    assert evaluate(request, small) is None
    exports = workspace / "out" / "exports"
    kit, task = ({path.name for path in (exports / name).rglob("*.*")} for name in ("vlmevalkit", "lmms-eval"))
    assert kit == {"synth_out.tsv", "synth_out_circular.tsv", "synth_out_vqa.tsv"}
    assert task == {"synth_out.parquet", "synth_out.yaml", "utils.py"}
    (file,) = (workspace / "out" / "questions" / "questions").iterdir()
    file.write_bytes(b"nothing")
    with pytest.raises(Damaged, match=r"its SHA-256 differs\); evaluate into another --out$"):
        evaluate(request, small)


def test_a_name_that_changes_how_vlmevalkit_judges_is_refused(workspace: Path) -> None:
    write_questions(workspace, [colour_row("red")], "q.jsonl")
    with pytest.raises(UserMistake, match="VLMEvalKit takes every set with 'mmbench' in its name for rotated options"):
        typed("q.jsonl", "--out", "my-MMBench", "--export", "vlmevalkit")


def pool_here(patch: pytest.MonkeyPatch) -> None:
    """Do the work of a pool in this process, with an evaluation that travels as it would to an actor."""

    def run_pool(spec: PoolSpec, tasks: Any, show: Any, _: Any) -> Iterator[Any]:
        with asyncio.Runner() as runner:
            worker = runner.run(spec.build(pickle.loads(pickle.dumps(spec.settings))))
            try:
                for task in tasks:
                    yield runner.run(worker.do(task))
                    show(worker.progress())
            finally:
                worker.close()

    patch.setattr(command, "run_pool", run_pool)
    patch.setattr(command, "run_in_actor", lambda check, task, *_: asyncio.run(check(task)))


def test_a_killed_evaluation_goes_on_and_a_second_model_is_asked_alone(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_here(monkeypatch)
    monkeypatch.syspath_prepend(str(workspace))
    write(workspace / "seeing.py", SEEING)
    source = str(write_questions(workspace, rows()))
    words = (source, "--out", "out", "-p", "small", "--set", SEEING_ENGINE, "--json")
    with monkeypatch.context() as patch:

        def killed() -> None:
            raise RuntimeError("killed")

        act_after(patch, 3, killed)  # two partitions of questions, one of replies
        with pytest.raises(RuntimeError, match="killed"):
            typed(*words, "--model", "whole")
    once = len((workspace / "calls.txt").read_text().splitlines())
    typed(*words, "--model", "whole")
    first = json.loads(capsys.readouterr().out)
    assert first["models"][0]["pending"] == 0 and first["groups"][0]["models"][0]["right"] == 1.0
    kept = pq.read_table(workspace / "out" / "replies.parquet")
    assert kept.num_rows == 12 + 24 * 4 + 36 * 2 == first["models"][0]["calls_made"] == once
    twice = len((workspace / "calls.txt").read_text().splitlines()) - once
    assert 0 < twice < once  # the calls of the partition whose commit was killed, and no other

    (workspace / "calls.txt").unlink()
    typed(*words, "--model", "half", "--against", "whole", "--export", "vlmevalkit")
    both = json.loads(capsys.readouterr().out)
    assert {line.partition(" ")[0] for line in (workspace / "calls.txt").read_text().splitlines()} == {"half"}
    difference = both["groups"][0]["difference"]
    assert difference["right"] == -0.5 and difference["better"] == 0.0
    assert set(pq.read_table(workspace / "out" / "replies.parquet").column("model").to_pylist()) == {"half", "whole"}
    assert (workspace / "out" / "exports" / "vlmevalkit" / "synth_out_circular.tsv").is_file()
    assert "half against whole" in (workspace / "out" / "summary.txt").read_text()


def test_a_model_that_answers_nothing_is_asked_no_more(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool_here(monkeypatch)
    source = str(write_questions(workspace, rows()))
    engine = "evaluate.engine={kind: scripted, gpus: 0, options: {fail: 1}}"
    failing = "m: the last 1[0-9][0-9] calls failed one after the other, the last one: scripted failure; fix the cause"
    with pytest.raises(JobFailing, match=failing):
        typed(source, "--out", "out", "-p", "small", "--set", engine, "--model", "m")


@pytest.mark.usefixtures("ray_running")
def test_actors_of_ray_ask_what_a_model_is_asked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(workspace / "seeing.py", SEEING)
    source = str(write_questions(workspace, [colour_row(colour) for colour in COLOURS]))
    typed(source, "--out", "out", "-p", "small", "--set", SEEING_ENGINE, "--json", "--model", "whole")
    assert json.loads(capsys.readouterr().out)["groups"][0]["models"][0]["right"] == 1.0
