"""The section `score` of a pipeline: what a pass inherits, `--set`, and the messages for its mistakes."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.commands.check import after_notes
from synthgen.config import pipeline as pipelines
from synthgen.config.overrides import BOUNDS, keys_of
from synthgen.config.selection import KeepRule
from synthgen.errors import Mistakes
from synthgen.job import resolve
from synthgen.stages.generate.measures import SCORERS, Scorer
from synthgen.tables import count_scored, pass_partition, score_name, split_count, split_partition
from tests.fixtures.workspace import DEFINITION_FILES, write

pytestmark = pytest.mark.usefixtures("workspace")
SECOND = "score.second={model: two, scores: [answer]}"
AFTER = "score.large={{model: large, scores: [answer], after: {{score: {}}}}}"


def mistakes(*overrides: str) -> list[str]:
    """Return every mistake in a pipeline with these settings, without the setting that it names first."""
    with pytest.raises(Mistakes) as caught:
        resolve.load(pipelines.read("small", overrides))
    return [line.partition("}: ")[2] or line for line in caught.value.lines]


def test_a_pass_has_what_it_does_not_name_from_generate() -> None:
    settings = ["generate.engine.in_flight=7", "generate.price.gpu_hour=2", "generate.sampling.agree_samples=9"]
    loaded = pipelines.load("small", [*settings, SECOND])
    judge, generate = loaded.passes["second"], loaded.generate
    assert (judge.model, judge.scores) == ("two", ("answer",))
    assert (judge.engine, judge.price, judge.sampling) == (generate.engine, generate.price, generate.sampling)
    assert judge.prompts == generate.prompts and not judge.is_split
    own = "score.second={model: two, scores: [answer], engine: {kind: scripted, replicas: 3}, price: {gpu_hour: 5}}"
    judge = pipelines.load("small", [*settings, own]).passes["second"]
    assert (judge.engine.in_flight, judge.engine.replicas, judge.price.gpu_hour) == (None, 3, 5)


def test_settings_of_a_pass_and_thresholds_on_its_scores_are_replaced_one_by_one() -> None:
    loaded = pipelines.load("small", [SECOND, "score.second.model=newer", "select.keep.second.answer.min=2.5"])
    assert loaded.score["second"].model == "newer" and loaded.score["second"].scores == ("answer",)
    assert loaded.select.keep["second.answer"].min == 2.5 and loaded.select.keep["answer"].min == 2
    whole = pipelines.load("small", [SECOND, "select.keep.second.answer={max: 3}"])
    assert whole.select.keep["second.answer"].max == 3
    assert not pipelines.load("small", [SECOND, "score={}"]).passes


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in BOUNDS)


@given(NAMES, NAMES, st.sampled_from(BOUNDS))
def test_the_score_of_a_pass_is_one_key_of_a_setting(pass_name: str, score: str, bound: str) -> None:
    assert set(BOUNDS) == set(KeepRule.model_fields)
    for name in (score, f"{pass_name}.{score}"):
        assert keys_of(f"select.keep.{name}") == ("select", "keep", name)
        assert keys_of(f"select.keep.{name}.{bound}") == ("select", "keep", name, bound)
        assert keys_of(f"views.strict.keep.{name}.{bound}") == ("views", "strict", "keep", name, bound)
    assert keys_of(f"score.{pass_name}.{score}") == ("score", pass_name, score)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["score.Second={model: m, scores: [answer]}"], "score.Second: 'Second' is no name of a pass: use lower-case"),
        (["score.a.b={model: m, scores: [answer]}"], "unknown key 'b' in score.a"),
        (["score.second={model: m}"], "score.second.scores is missing"),
        (["score.second={model: m, scores: []}"], "score.second.scores: needs at least 1 entry"),
        (["score.second={model: m, scores: [answer, answer]}"], "score.second.scores: names a score twice"),
        (["score.second={model: m, scores: [answr]}"], "score.second.scores: 'answr' is not a score: did you mean"),
        (["score.second={model: m, scores: [answer], prompts: nope}"], "prompts 'nope' is unknown"),
        (["score.second={model: m, scores: [answer], engine: {kind: vlm}}"], "'vlm' is not a kind of engine"),
        (
            ["score.second={model: m, scores: [answer], engine: {kind: endpoint}}"],
            "score.second.engine: an endpoint needs",
        ),
        (
            [SECOND, "select.keep={second.blind: {min: 0}}"],
            "'second.blind' is not scored; add it to score.second.scores",
        ),
        (
            [SECOND, "select.keep={third.answer: {min: 0}}"],
            "select.keep: 'third.answer': no scoring pass is called 'third': known: second",
        ),
        (
            ["select.keep={second.answer: {min: 0}}"],
            "'second.answer': no scoring pass is called 'second': there is none; add one to the section score",
        ),
        ([SECOND, "select.keep={second.nope: {min: 0}}"], "select.keep: 'second.nope' is not a score"),
        ([AFTER.format("nope")], "score.large.after.score: 'nope' is not a score"),
        ([AFTER.format("third.answer")], "score.large.after.score: 'third.answer': no scoring pass is called 'third'"),
        ([AFTER.format("blind")], "score.large.after.score: 'blind' is not scored; add it to generate.scores"),
        (
            [AFTER.format("large.answer")],
            "score.large.after.score: large waits for large, so none could start; let one of them wait for none",
        ),
        (
            [AFTER.format("second.answer"), f"{SECOND[:-1]}, after: {{score: large.answer}}}}"],
            "score.large.after.score: large waits for second waits for large, so none could start",
        ),
        (
            [SECOND, AFTER.format("second.answer, min: 3, max: 2")],
            "score.large.after: min 3 is above max 2, so no value would leave a pair open",
        ),
        ([SECOND, AFTER.format("second.answer, least: 3")], "unknown key 'least' in score.large.after"),
        (["score.large={model: m, scores: [answer], after: {min: 2}}"], "score.large.after.score is missing"),
    ],
)
def test_a_mistake_in_a_pass_is_one_line_that_says_where_and_what_to_do(settings: list[str], message: str) -> None:
    found = mistakes(*settings)
    assert any(message in line for line in found), found


def test_a_pass_whose_engine_or_prompts_cannot_serve_its_scores_is_refused() -> None:
    """An endpoint gives no log-probabilities of a given text, which a likelihood of another model's answer needs."""
    endpoint = 'engine: {kind: endpoint, urls: ["http://127.0.0.1:1/v1"]}'
    assert mistakes(f"score.second={{model: m, scores: [likelihood], {endpoint}}}") == [
        "score.second.scores: 'likelihood' needs prompt log-probabilities, which engine kind endpoint does not give; "
        "take it out of the scores and select.keep, or use engine kind vllm"
    ]
    lacking = DEFINITION_FILES["prompts/small.yaml"].replace("  brief: {", "  points: {").split("paraphrase:")[0]
    family = DEFINITION_FILES["prompts/families/small.yaml"].replace("[short, brief]", "[short]")
    write(Path("prompts/families/short.yaml"), family)
    write(Path("prompts/lacking.yaml"), lacking.replace("families: [small]", "families: [short]"))
    assert mistakes("score.second={model: m, scores: [likelihood, answer], prompts: lacking}") == [
        "score.second.scores: 'likelihood' needs the prompt answer.brief, which pack 'lacking' does not have",
        "score.second.scores: 'answer' needs the prompt judge.answer, which pack 'lacking' does not have",
    ]


def test_values_of_another_scale_are_not_taken_over() -> None:
    five = DEFINITION_FILES["prompts/small.yaml"].replace(
        '{{ answer }}", labels: ["1", "2", "3"]', '{{ answer }}", labels: ["1", "2", "3", "4", "5"]'
    )
    write(Path("prompts/five.yaml"), five)
    second = "score.second={model: two, scores: [answer, question], prompts: five}"
    assert mistakes(second, AFTER.format("second.answer")) == [
        "score.large.after.score: second.answer goes from 1 to 5 and large.answer from 1 to 3, so its values cannot be "
        "taken over; use one prompt pack"
    ]
    resolve.load(pipelines.read("small", [second, AFTER.format("second.question")]))


def test_a_range_that_leaves_nothing_or_everything_open_is_noted() -> None:
    def told(bounds: str) -> list[str]:
        loaded, texts = resolve.load(pipelines.read("small", [SECOND, AFTER.format(f"second.answer{bounds}")]))
        return list(after_notes(loaded, texts.prompts.pack, texts.passes))

    assert not told("") and not told(", min: 2") and not told(", min: 1.5, max: 2.5")
    whole = "note: score.large.after: {}: second.answer goes from 1 to 3"
    assert told(", min: 1") == told(", min: 0, max: 3") == [whole.format("leaves every pair open")]
    assert told(", min: 4") == told(", max: 0.5") == [whole.format("leaves only pairs without a value open")]


def test_prices_of_passes_are_in_the_currency_of_all_others() -> None:
    euros = "score.second={model: m, scores: [answer], price: {currency: EUR}}"
    (line,) = mistakes(euros)
    assert line.endswith("the prices are in USD and EUR, which cannot be added; use one currency")
    resolve.load(pipelines.read("small", [euros, "generate.price.currency=EUR"]))


def test_two_scores_with_one_column_in_the_shards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "second_answer", Scorer("second_answer", SCORERS["blind"].measure))
    (line,) = mistakes(SECOND, "generate.scores=[answer, second_answer]")
    assert line == (
        "the scores second_answer and second.answer would both be score_second_answer in the shards; rename the pass"
    )


def test_another_kind_of_engine_in_a_pass_needs_options_of_its_own() -> None:
    first = "score.second={model: m, scores: [answer], engine: {kind: scripted, options: {fail: 0.1}}}"
    write(
        Path("pipelines/mine.yaml"),
        DEFINITION_FILES["pipelines/small.yaml"] + f"score: {{second: {first.partition('=')[2]}}}\n",
    )
    with pytest.raises(
        Exception, match=r"the options beside it \(fail\) are of kind scripted; replace the whole section"
    ):
        pipelines.read("mine", ["score.second.engine.kind=vllm"])


def test_names_of_passes_and_scores_are_apart_in_every_order() -> None:
    """No partition or count of a pass can be read as that of another."""
    names = ["a", "a_b", "b", "r1", "retired", "value", "e001"]
    for pass_name, score in itertools.product(names, names):
        (count,) = count_scored(score_name(pass_name, score), [None])
        assert split_count(count) == (f"{pass_name}.{score}", "value")
        assert split_partition(pass_partition("e001-00000", pass_name)) == ("e001-00000", pass_name)
