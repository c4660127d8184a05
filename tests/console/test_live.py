"""The live view, drawn on a terminal of a certain width, and read as a person reads it."""

import io

import pytest
from rich.console import Console

from synthgen.console import Cost, GpuState, Measures, Sample, StageProgress, WorkerStatus, note, tell
from synthgen.console.events import (
    Event,
    Planned,
    Progress,
    RunEnded,
    RunStarted,
    StageEnded,
    StageStarted,
    Workers,
    WorkerState,
)
from synthgen.console.live import MOST_WORKERS, LiveView

STAGES = ("list", "tag", "plan", "generate", "score", "select", "pack")


def worker(number: int, state: WorkerState = "at work", **more: object) -> WorkerStatus:
    """Return a worker that generates."""
    return WorkerStatus(f"generate-{number}", state, 41.0, **more)  # type: ignore[arg-type]


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> LiveView:
    """Return a view at work on a run, whose terminal is not looked at."""
    view = LiveView()
    view.see(RunStarted("data", STAGES, "0"))
    return view


def screen(view: LiveView, width: int = 100) -> list[str]:
    """Return the lines that a view draws, without spaces at their ends."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(view.draw())
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def show(view: LiveView, *events: Event) -> list[str]:
    """Have a view see events, and return what it draws then."""
    for event in events:
        view.see(event)
    return screen(view)


GOING = Progress(
    "generate", "going", 812, 1613, "assignment", rate=41.2, seconds_left=19.4,
    measures=Measures(detail="755 pairs (93%)", tokens_per_second=1240.0, cached_share=0.78, cost=Cost(0.42, "USD")),
)  # fmt: skip


def test_a_run_shows_what_is_done_what_is_at_work_and_what_is_to_come(view: LiveView) -> None:
    lines = show(
        view,
        StageStarted("list"),
        StageEnded("list", 0.4, 7, 200, "listed"),
        StageStarted("tag"),
        Progress("tag", "end", 200, 200, "image", seconds=12.0),
        StageEnded("tag", 12.7, 7, 190, "tagged"),
        StageStarted("plan"),
        StageEnded("plan", 0.1, 0, 187, "planned"),
        StageStarted("generate"),
        Planned("generate", Cost(14.1, "USD")),
        GOING,
    )
    assert [line.partition("  ")[0] for line in lines if line[0] != " "] == list(STAGES)
    assert lines[:3] == ["list      200 listed in 0:00", "tag       200 images in 0:12", "plan      187 planned before"]
    assert lines[3].startswith("generate  ") and lines[3].endswith("  812/1,613  41.2/s  0:19 left")
    assert lines[4] == f"{'':10}755 pairs (93%), 1,240 tokens/s out, 78% of prompts cached, 0.42 of 14.10 USD"
    view.see(RunEnded("done", 30.0))


def test_workers_and_the_last_pair_are_shown_while_their_stage_is_at_work(view: LiveView) -> None:
    busy = worker(1, in_flight=12, tokens_per_second=610.0, gpus=(GpuState(0.97, 71_000_000_000, 80_000_000_000),))
    pair = Sample("What colour is the cube?", "Red.\nIt is\x1b[2J red.", "attribute/colour", "0012.png")
    lines = show(view, StageStarted("generate"), GOING, Workers("generate", (busy, worker(2, "loading")), pair))
    assert "generate-2  loading 0:41" in lines
    assert "generate-1  at work       12 in flight  610 tokens/s  GPU 97% 71/80 GB" in lines
    assert lines[-3:] == ["attribute/colour, 0012.png", "Q  What colour is the cube?", "A  Red. It is\\u001b[2J red."]
    lines = show(view, StageEnded("generate", 41.0, 7, 1500, "pair"), StageStarted("select"))
    assert not any("generate-1" in line or "cube" in line for line in lines)
    view.see(RunEnded("done", 30.0))


def test_a_stage_that_the_pipeline_has_no_use_for_is_not_shown(view: LiveView) -> None:
    lines = show(view, StageStarted("ask"), StageEnded("ask", 0.1, 0, 0, "asked"))
    assert lines == list(STAGES)
    view.see(RunEnded("done", 30.0))


def test_of_many_workers_those_that_need_attention_are_shown_and_the_others_counted(view: LiveView) -> None:
    workers = (*(worker(number) for number in range(100, 140)), worker(200, "silent", silent_seconds=50.0))
    lines = show(view, StageStarted("generate"), GOING, Workers("generate", workers))
    shown = [line for line in lines if line.startswith("generate-")]
    assert len(shown) == MOST_WORKERS and shown[0].startswith("generate-200  silent 0:41")
    assert lines[-1] == "and 33 more   33 at work"
    view.see(RunEnded("done", 30.0))


def test_passes_of_scoring_are_shown_at_their_stage(view: LiveView) -> None:
    lines = show(view, StageStarted("score"), Progress("score judge and blind", "going", 3, 9, "pair"))
    assert sum(line.startswith("score") for line in lines) == 1 and any("3/9" in line for line in lines)
    view.see(RunEnded("done", 30.0))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(view: LiveView, width: int) -> None:
    pair = Sample("What " * 100, "That " * 100, "t", "a.png")
    show(view, StageStarted("generate"), GOING, Workers("generate", (worker(1, in_flight=12),), pair))
    assert max(map(len, screen(view, width))) <= width
    view.see(RunEnded("done", 30.0))


def test_what_stays_on_the_terminal_is_a_line_for_each_stage_that_was_begun(view: LiveView) -> None:
    show(view, StageStarted("tag"), Progress("tag", "start", 0, 90, "image"), Workers("tag", (worker(1),)))
    lines = show(view, Progress("tag", "broken", 41, 90, "image"), RunEnded("stopped", 30.0, "stopped by SIGINT"))
    assert lines == ["tag       41 of 90 images, then it was cut short"]


def test_a_stage_with_nothing_to_do_draws_nothing_outside_of_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with StageProgress("tag", 0, "image") as bar:
        bar.show(0.0)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_progress_is_drawn_and_notes_appear_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with StageProgress("tag", 9, "image") as bar:
        bar.show(9.0)
        note("a note meanwhile")
        print("a result")
    output = capsys.readouterr()
    assert "tag       9 images" in output.err and "a note meanwhile" in output.err and "tag: 9" not in output.err
    assert output.err.endswith("\x1b[2K"), "whoever did the work says what came of it"
    assert output.out == "a result\n", "what is drawn on stderr takes nothing from stdout"


def test_a_run_on_a_terminal_is_drawn_from_its_start_to_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    tell(RunStarted("data", STAGES, "0"))
    with StageProgress("tag", 9, "image"):
        pass
    tell(StageEnded("tag", 1.0, 1, 9, "tagged"))
    tell(RunEnded("done", 1.0))
    assert "tag       9 images in 0:01\n" in capsys.readouterr().err
