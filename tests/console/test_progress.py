"""What progress says: rates, what is waited for, how well a stage does, and the lines where there is no terminal."""

import pytest

from synthgen.console import Cost, Loading, Measures, Meter, Rate, StageProgress, only, pluralize, progress, tell
from synthgen.console.events import Event, Planned, Progress
from synthgen.console.plain import PlainView, in_words, progress_line


class Seen:
    """A view that keeps what it sees."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def see(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of the monotonic clock, to be set."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_count_of_one_is_singular_and_every_other_is_plural(capsys: pytest.CaptureFixture[str]) -> None:
    assert [pluralize(count, "image") for count in (0, 1, 2, 1200)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,200 images",
    ]
    with StageProgress("select", 1, "partition"):
        pass
    with StageProgress("tag", 2, "image"):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "select: 1 partition",
        "select: 1 of 1 partition",
        "tag: 2 images",
        "tag: 2 of 2 images",
    ]


def test_where_the_total_is_a_bound_the_last_line_counts_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("generate", 287, "assignment", is_bound=True) as bar:
        bar.add(5)
        bar.add(3)
    with StageProgress("generate", 0, "assignment", is_bound=True):
        pass
    assert capsys.readouterr().err.splitlines() == [
        "generate: at most 287 assignments",
        "generate: 8 assignments done of at most 287",
    ]


def test_a_stage_says_that_its_model_is_loading_until_the_first_unit_is_done() -> None:
    meter = Meter(Loading("the model is loading"))
    for measure in (meter.of_images, meter.of_pairs, meter.of_scores):
        assert measure({"worker_seconds": 3.0}) == Measures(detail="the model is loading (0:00)")
    assert not meter.of_images({"images": 3.0}).detail
    assert in_words(meter.of_pairs({"pairs": 3.0, "failed": 1.0})) == "3 pairs (75%)"
    assert in_words(meter.of_scores({"pairs": 2.0, "values": 3.0})) == "3 values"


def test_the_measures_of_calls_are_rates_and_shares_and_what_was_spent(clock: list[float]) -> None:
    meter = Meter(Loading("loading"), lambda counters: Cost(counters["worker_seconds"] / 100, "USD"))
    counters = {
        "pairs": 1.0,
        "prompt_tokens": 100.0,
        "cached_tokens": 75.0,
        "output_tokens": 100.0,
        "worker_seconds": 8,
    }
    assert not meter.of_pairs({}).tokens_per_second, "the time in which the model loads is no part of the rate"
    clock[0] = 600.0
    meter.of_pairs(counters)
    clock[0] = 610.0
    measures = meter.of_pairs(counters | {"output_tokens": 1100.0, "failed": 1.0})
    assert (measures.acceptance, measures.tokens_per_second, measures.cached_share) == (0.5, 100.0, 0.75)
    words = "1 pairs (50%), 100 tokens/s out, 75% of prompts cached, 0.08 of 2.00 USD"
    assert in_words(measures, Cost(2.0, "USD")) == words
    assert in_words(measures, Cost(2.0, "GPU-hours")).endswith(", 0.08 USD"), "amounts of two units are not compared"


def test_an_engine_that_counts_no_tokens_has_neither_rate_nor_share() -> None:
    measures = Meter(Loading("loading")).of_pairs({"pairs": 2.0})
    assert measures.tokens_per_second is None and measures.cached_share is None and measures.cost is None


def test_what_takes_long_is_said_once_patience_ends_and_then_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 4.0)
    waiting = Loading("checking model m")
    for clock[0] in (0.0, 3.0, 5.0, 20.0, 34.0, 36.0, 60.0):
        waiting.note_now_and_then()
    assert capsys.readouterr().err.splitlines() == ["checking model m (0:05)", "checking model m (0:36)"]


def test_a_rate_begins_with_the_first_unit(clock: list[float]) -> None:
    rate = Rate()
    assert not rate.per_second(0.0)
    clock[0] = 100.0
    assert not rate.per_second(10.0)
    clock[0] = 110.0
    assert rate.per_second(30.0) == 2.0


def test_progress_is_told_at_both_ends_and_twice_a_second_between_them(clock: list[float]) -> None:
    view = Seen()
    with only(view), StageProgress("tag", 100, "image") as bar:
        for step in range(1, 41):
            clock[0] = step / 10
            bar.show(step)
    told = [event for event in view.events if isinstance(event, Progress)]
    assert [event.phase for event in told] == ["start", *["going"] * 8, "end"]
    assert told[-2].rate == pytest.approx(10.0) and told[-2].seconds_left == pytest.approx(6.0)
    assert (told[-1].done, told[-1].seconds_left) == (100, None)


def test_work_that_breaks_off_ends_with_what_was_done() -> None:
    view = Seen()
    with pytest.raises(ValueError), only(view), StageProgress("tag", 100, "image") as bar:
        bar.show(7)
        raise ValueError
    last = view.events[-1]
    assert isinstance(last, Progress) and (last.phase, last.done) == ("broken", 7)


def test_lines_come_every_half_minute_at_first_and_every_ten_minutes_in_a_run_of_days(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainView()

    def lines_between(first: int, last: int) -> int:
        for second in range(first, last):
            view.see(Progress("tag", "going", 1, 9, "image", seconds=float(second)))
        return len(capsys.readouterr().err.splitlines())

    view.see(Progress("tag", "start", 0, 9, "image"))
    assert capsys.readouterr().err == "tag: 9 images\n"
    assert lines_between(0, 600) == 19
    assert 10 < lines_between(600, 2 * 3600) < 150
    assert lines_between(2 * 3600, 24 * 3600) < 200
    assert lines_between(24 * 3600, 48 * 3600) == 144


def test_a_line_says_how_far_how_fast_and_how_long_still() -> None:
    event = Progress("tag", "going", 30, 90, "image", rate=2.0, seconds_left=30.0, measures=Measures(detail="so"))
    assert progress_line(event) == "tag: 30 of 90 images, 2.0/s, 0:30 left, so"


def test_lines_name_the_price_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    with only(PlainView()):
        tell(Planned("generate", Cost(10.0, "USD")))
        tell(Progress("generate", "start", 0, 9, "assignment"))
        measures = Measures(cost=Cost(2.5, "USD"))
        tell(Progress("generate", "going", 3, 9, "assignment", seconds=31.0, measures=measures))
    assert capsys.readouterr().err.splitlines()[-1] == "generate: 3 of 9 assignments, 2.50 of 10.00 USD"
