"""The table of scores, and what derives from an entry: fingerprints, ranges and checks; scores added by packages."""

import asyncio
import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthgen import tables
from synthgen.commands.check import threshold_notes
from synthgen.config import pipeline as pipelines
from synthgen.config import prompt_pack
from synthgen.config.engine import EngineConfig, SamplingConfig
from synthgen.config.prompt_file import JudgePrompt, PackFile, PlainPrompt
from synthgen.config.selection import KeepRule, SelectConfig
from synthgen.engines import EngineDied, ModelName
from synthgen.engines.scripted import ScriptedEngine
from synthgen.errors import Mistakes, UserMistake
from synthgen.job import resolve, scores
from synthgen.stages import select
from synthgen.stages.generate import scoring
from synthgen.stages.generate.conversation import Assignment, ConversationContext, Outcome, PreparedImage, converse
from synthgen.stages.generate.measures import SCORERS, Pair, Score, Scorer, grade
from synthgen.stages.generate.session import ImageSession
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import RETRIED_REASONS, count_unscored
from tests.fixtures.packages import InstallPackage
from tests.fixtures.workspace import DEFINITION_FILES, ROOT, write

pytestmark = pytest.mark.usefixtures("workspace")

# Of the workspace's pack, as folders made earlier have them.
FINGERPRINTS = {
    "likelihood": "4217307fc523a7e8b076470cfbae7f31",
    "agreement": "b848d4b9a47e5cd2194228f612745e37",
    "paraphrase": "dc03ca76c616d577c0265cb397882169",
    "question": "82c1a02a45fc7167c1c7044c71df7142",
    "answer": "54ff8902108bcfdc96ca17066e08af15",
}


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_folders_made_earlier_keep_their_scores(name: str) -> None:
    shaped = scoring.score_settings(name, prompt_pack.load("small").pack, SamplingConfig())
    assert tables.make_id("score", name, json.dumps(shaped, sort_keys=True)) == FINGERPRINTS[name]


def with_prompt(pack: PackFile, key: str) -> PackFile:
    """Return the pack with another prompt at a key."""
    section, _, name = key.partition(".")
    if section == "judge":
        return pack.model_copy(update={"judge": {**pack.judge, name: JudgePrompt(text="other", labels=("1", "2"))}})
    return pack.model_copy(update={key: PlainPrompt(text="other")})


@pytest.mark.parametrize("name", SCORERS)
def test_a_score_depends_on_its_own_prompts_and_settings_alone(name: str) -> None:
    pack, sampling, scorer = prompt_pack.load("small").pack, SamplingConfig(), SCORERS[name]
    before = scoring.score_settings(name, pack, sampling)
    edited = pack.model_copy(update={"about": "other", "ask": pack.ask.model_copy(update={"text": "other"})})
    assert scoring.score_settings(name, edited, sampling) == before
    for key in sorted({key for scorer in SCORERS.values() for key in scorer.prompts}):
        is_own = key in (*scorer.prompts, *scorer.also)
        assert (scoring.score_settings(name, with_prompt(pack, key), sampling) != before) == is_own
    for setting in SamplingConfig.model_fields:
        is_own = setting in scorer.sampling
        other = sampling.model_copy(update={setting: ("short",) if setting == "agree_forms" else 9})
        assert (scoring.score_settings(name, pack, other) != before) == is_own


@pytest.mark.parametrize("name", SCORERS)
def test_an_entry_names_prompts_and_settings_that_exist(name: str) -> None:
    scorer, pack = SCORERS[name], prompt_pack.load("small").pack
    assert scorer.name == name
    missing = [key for key in (*scorer.prompts, *scorer.also) if pack.score_prompt(key) is None]
    assert not missing, f"add {missing} to the pack `small` of tests/fixtures/workspace.py"
    assert set(scorer.sampling) <= set(SamplingConfig.model_fields)
    assert set(scorer.variables) <= set(prompt_pack.SCORE_VARIABLES)
    low, high = scorer.bounds(pack)
    assert low < high


def test_a_grade_reaches_the_number_of_its_labels() -> None:
    pack = prompt_pack.load("small").pack
    assert SCORERS["answer"].bounds(pack) == (1, 3)
    assert SCORERS["answer"].bounds(with_prompt(pack, "judge.answer")) == (1, 2)
    assert SCORERS["likelihood"].bounds(pack) == (0, 1)
    assert SCORERS["image_gain"].bounds(pack) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "../up"}, "a score's name is"),
        ({"prompts": ("system",)}, "a prompt of score 'tidy' is paraphrase, blind or"),
        ({"high": None}, "score 'tidy' has no highest value"),
        ({"high": None, "needs": ("labels",)}, "score 'tidy' has no highest value"),
    ],
)
def test_an_impossible_entry_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scorer(**{"name": "tidy", "measure": SCORERS["likelihood"].measure, **entry})


def test_the_shipped_packs_serve_every_score_of_the_shipped_pipelines() -> None:
    paths = sorted((ROOT / "pipelines").glob("*.yaml"))
    assert paths
    for path in paths:
        document = pipelines.read(path.stem)
        pack = str(document.at(("generate", "prompts")))
        assert not [*scores.serve_faults(document, prompt_pack.load(pack), {}), *scores.judge_faults(pack)]


# --- a score that is added -------------------------------------------------------------------------------------------

TIDINESS = '''\
from synthgen.stages.generate.measures import Score, Scorer, prompt_request
from synthgen.stages.generate.session import failure_of


async def tidiness(session, pair):
    """Return how much more probable "tidy" is than "messy"."""
    reply = await session.generate(prompt_request(session, pair, "judge.tidiness"))
    if (failure := failure_of(reply, "the judgement")) and failure.reason != "cut_off":
        return Score(None, str(failure))
    return Score(reply.labels["tidy"] - reply.labels["messy"])


SCORER = Scorer("tidiness", tidiness, needs=("labels",), prompts=("judge.tidiness",), low=-1.0, high=1.0)
'''
PROMPT = '  tidiness: {text: "Is {{ answer }} tidy? {{ question }}", labels: [messy, fair, tidy]}\n'
MISSING = "--set {}: generate.scores: 'tidiness' needs the prompt judge.tidiness, which pack 'small' does not have"
SETTINGS = ["generate.scores=[likelihood, tidiness]", "select.keep={tidiness: {min: 0.5}}"]

Install = Callable[[str], Path]


@pytest.fixture
def install(workspace: Path, install_package: InstallPackage) -> Install:
    """Return a function that installs a package of this text that offers the score `tidiness`."""
    return partial(install_tidiness, install_package, "tidiness")


def install_tidiness(install_package: InstallPackage, name: str, text: str) -> Path:
    points = f"{name} = tidy_scores:SCORER"
    return install_package("tidy-scores", "tidy_scores", text, points, scoring.ENTRY_POINTS)


@pytest.fixture(params=["table", "package"])
def tidiness(
    request: pytest.FixtureRequest, workspace: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add the score `tidiness` to the table or by a package, and its prompt to the workspace's pack."""
    if request.param == "package":
        install(TIDINESS)
    else:
        module: dict[str, Any] = {}
        exec(TIDINESS, module)
        monkeypatch.setattr(scoring, "SCORERS", {**SCORERS, "tidiness": module["SCORER"]})
    add_prompt(PROMPT)


def add_prompt(prompt: str) -> None:
    """Add a prompt to the `judge` of the workspace's pack, in line 12."""
    text = DEFINITION_FILES["prompts/small.yaml"]
    assert text.splitlines()[10] == "judge:"
    write(Path("prompts/small.yaml"), text.replace("judge:\n", f"judge:\n{prompt}"))


def mistakes(*settings: str) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        resolve.load(pipelines.read("small", settings or SETTINGS))
    cwd = str(Path.cwd())
    return [line.replace(f"{cwd}/", "") for line in caught.value.lines]


def measure(*names: str) -> Outcome:
    """Measures scores of one pair with the scripted engine."""
    prompts = prompt_pack.load("small")
    engine = ScriptedEngine(ModelName("none", "scripted"), EngineConfig(kind="scripted"))
    assignment = Assignment("assignment", "image", "object", "coarse/counting", "short", "English", 0, "recipe", 0)
    context = ConversationContext(prompts, SamplingConfig(), names, 7)
    return asyncio.run(converse(PreparedImage(Image.new("RGB", (8, 8)), "key"), [assignment], engine, context))


def decide(out: Folder, outcome: Outcome, threshold: KeepRule) -> str:
    """Commit an outcome as the generate stage does, and return the decision of the select stage on its pair."""
    stage, partition = StageFolder(out, tables.GENERATE), "e001-00000"
    pairs = tables.table([{**row, "model": "m", "revision": "r"} for row in outcome.pairs], tables.PAIRS)
    parts = {"pairs": TablePart((stage.write("pairs", partition, 1, pairs),), "f")}
    for name, rows in outcome.scores.items():
        file = stage.write(f"scores/{name}", partition, 1, tables.table(rows, tables.SCORES))
        parts[f"scores/{name}"] = TablePart((file,), "f")
    with Lease.take(out) as lease:
        stage.commit(Receipt(partition, 1, parts, {"pair": 1}), lease)
    selection = select.prepare(RunFolder(out), SelectConfig(keep={"tidiness": threshold}))
    (receipt,) = select.decide(selection, selection.todo)
    return next(iter(receipt.counts))


@pytest.mark.usefixtures("tidiness")
def test_an_added_score_is_checked_measured_and_judged_by_its_own_range(tmp_path: Path) -> None:
    pipeline, definitions = resolve.load(pipelines.read("small", SETTINGS))
    assert not list(threshold_notes(pipeline.select.keep, definitions.prompts.pack, {}))
    assert list(threshold_notes({"tidiness": KeepRule(min=-1, max=2)}, definitions.prompts.pack, {})) == [
        "note: select.keep.tidiness: max 2 drops nothing: the score goes from -1 to 1"
    ]
    outcome = measure("tidiness")
    (row,) = outcome.scores["tidiness"]
    assert row["value"] == pytest.approx(0.9 - 0.02) and row["reason"] is None
    assert decide(Folder(str(tmp_path / "kept")), outcome, KeepRule(min=0.5)) == "kept"
    assert decide(Folder(str(tmp_path / "dropped")), outcome, KeepRule(min=0.9)) == "score:tidiness"


@pytest.mark.usefixtures("tidiness")
def test_an_edit_of_the_prompt_of_an_added_score_makes_its_values_stale() -> None:
    before = scoring.score_settings("tidiness", prompt_pack.load("small").pack, SamplingConfig())
    add_prompt(PROMPT.replace("Is ", "Was "))
    assert scoring.score_settings("tidiness", prompt_pack.load("small").pack, SamplingConfig()) != before


@pytest.mark.usefixtures("tidiness")
@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [MISSING]),
        (
            PROMPT.replace("tidiness:", "tidines:"),
            [
                MISSING,
                "prompts/small.yaml:12: unknown key 'tidines' in judge: no score uses it; did you mean 'tidiness'?",
            ],
        ),
        (
            PROMPT.replace("labels: [messy, fair, tidy]", "max_tokens: 9"),
            ["prompts/small.yaml:12: judge.tidiness.labels is missing: score 'tidiness' reads their probabilities"],
        ),
        (
            PROMPT.replace("{{ answer }}", "{{ anwser }}"),
            ["prompts/small.yaml:12: judge.tidiness.text: unknown variable 'anwser': did you mean 'answer'?"],
        ),
    ],
)
def test_the_prompt_of_an_added_score_is_checked(prompt: str, expected: list[str]) -> None:
    add_prompt(prompt)
    assert sorted(mistakes()) == sorted(line.format(SETTINGS[0]) for line in expected)


@pytest.mark.usefixtures("tidiness")
def test_an_added_score_may_not_clash_on_an_endpoint() -> None:
    add_prompt(PROMPT.replace("messy", "tid"))
    endpoint = "generate.engine={kind: endpoint, urls: ['http://x/v1']}"
    assert mistakes(*SETTINGS, endpoint) == [
        f"--set {SETTINGS[0]}: generate.scores: 'tidiness' needs labels with distinct first tokens, "
        "which is all that engine kind endpoint shows; in pack 'small' 'tid' begins 'tidy'; "
        "use other labels, or engine kind vllm"
    ]


def test_a_score_that_reads_text_has_a_prompt_without_labels(install: Install) -> None:
    text = TIDINESS.replace('needs=("labels",), ', "").replace(
        'reply.labels["tidy"] - reply.labels["messy"]', "float(len(reply.text))"
    )
    install(text)
    add_prompt(PROMPT)
    where = "prompts/small.yaml:12: judge.tidiness.labels"
    assert mistakes() == [f"{where}: score 'tidiness' reads the reply as text; give max_tokens instead"]
    add_prompt(PROMPT.replace("labels: [messy, fair, tidy]", "max_tokens: 9"))
    resolve.load(pipelines.read("small", SETTINGS))
    (row,) = measure("tidiness").scores["tidiness"]
    assert row["value"] >= 2


def test_a_question_is_graded_without_its_answer() -> None:
    text = DEFINITION_FILES["prompts/small.yaml"].replace('question: {text: "Rate {{ question }}"', (
        'question: {text: "Rate {{ question }} {{ answer }}"'
    ))  # fmt: skip
    write(Path("prompts/small.yaml"), text)
    assert mistakes("select.keep={}") == [
        "prompts/small.yaml:12: judge.question.text: unknown variable 'answer':"
        " known: language, previous, question, type"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module\n", "does not load: ModuleNotFoundError: No module named 'no_such_module'"),
        ("SCORERS = []\n", "does not load: AttributeError: module 'tidy_scores' has no attribute 'SCORER'"),
        ("raise SystemExit(3)\n", "does not load: SystemExit: 3"),
        ("SCORER = print\n", "is not a Scorer named 'tidiness'; fix or uninstall the package"),
        (TIDINESS.replace('"tidiness", ', '"tidy", '), "is not a Scorer named 'tidiness'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_one_line_where_it_is_named(install: Install, text: str, why: str) -> None:
    install(text)
    (line,) = mistakes()
    start = f"--set {SETTINGS[0]}: generate.scores: score 'tidiness' of package tidy-scores (tidy_scores:SCORER) "
    assert line.startswith(f"{start}{why}")
    add_prompt(PROMPT)
    (_, line) = sorted(mistakes())
    assert line.startswith(
        "prompts/small.yaml:12: judge.tidiness: no score that can be loaded uses it, and score 'tidiness' of "
    )
    write(Path("prompts/small.yaml"), DEFINITION_FILES["prompts/small.yaml"])
    assert resolve.load(pipelines.read("small"))  # no score of the package is used


def test_the_names_of_packages_scores_are_suggested_without_loading_them(install: Install) -> None:
    install("raise SystemExit('loaded')\n")
    (line,) = mistakes("generate.scores=[tidyness]", "select.keep={}")
    assert line.endswith("generate.scores: 'tidyness' is not a score: did you mean 'tidiness'?")


def test_a_package_cannot_replace_a_score_of_the_table(install_package: InstallPackage) -> None:
    install_tidiness(install_package, "answer", TIDINESS)
    with pytest.raises(UserMistake, match="score 'answer' is offered by synthgen itself and by package"):
        scoring.find_scorer("answer")
    assert scoring.find_scorer("question") is SCORERS["question"]
    assert scoring.scorer_names() == list(SCORERS)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('Score(reply.labels["tidiest"])', "KeyError: 'tidiest'"),
        ('Score("high")', "ValueError: could not convert string to float: 'high'"),
        ("Score(None)", "ValueError: a Score has either a value or a reason why it has none"),
        ("None", "TypeError: the measure returned NoneType, not a Score"),
        ("Score(float('nan'))", "ValueError: the value is nan, which is not a number that can be stored"),
        ("Score(float('-inf'))", "ValueError: the value is -inf, which is not a number that can be stored"),
        ("Score(1e300)", "ValueError: the value is 1e+300, which is not a number that can be stored"),
        ("Score([0.5, 0.5])", "TypeError: float() argument must be a string or a real number, not 'list'"),
        ("Score(0.5, detail={'part': float('nan')})", "ValueError: Out of range float values are not JSON compliant"),
        ("Score(0.5, detail={'part': '\\ud83d'})", "UnicodeEncodeError: 'utf-8' codec can't encode character "),
        ("__import__('sys').exit(3)", "SystemExit: 3 (tidy_scores.py:"),
    ],
)
def test_a_measure_of_a_package_that_fails_costs_one_value(install: Install, value: str, reason: str) -> None:
    install(TIDINESS.replace('Score(reply.labels["tidy"] - reply.labels["messy"])', value))
    add_prompt(PROMPT)
    outcome = measure("tidiness", "likelihood")
    (row,), (other,) = outcome.scores["tidiness"], outcome.scores["likelihood"]
    assert row["value"] is None and row["reason"].startswith(f"score_failed: {reason}")
    assert re.search(r" \(\w+\.py:\d+\)$", row["reason"]), "its place is told"
    assert count_unscored([row]) == {"unscored.score_failed": 1} and "score_failed" in RETRIED_REASONS
    assert other["value"] is not None


@pytest.mark.parametrize("error", [EngineDied("gone"), MemoryError()])
def test_the_death_of_the_engine_is_not_the_fault_of_a_package(install: Install, error: Exception) -> None:
    install(TIDINESS)
    add_prompt(PROMPT)

    async def fail(session: ImageSession, pair: Pair) -> Score:
        raise error

    object.__setattr__(scoring.find_scorer("tidiness"), "measure", fail)
    with pytest.raises(type(error)):
        measure("tidiness")


def test_a_bug_of_ours_costs_the_value_too_and_its_place_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(session: ImageSession, pair: Pair) -> Score:
        raise ZeroDivisionError

    monkeypatch.setattr(scoring, "SCORERS", {**SCORERS, "broken": Scorer("broken", fail)})
    (row,) = measure("broken").scores["broken"]
    assert re.fullmatch(r"score_failed: ZeroDivisionError \(test_scoring\.py:\d+\)", row["reason"])


def test_grade_is_a_measure_for_any_judge_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def measured(session: ImageSession, pair: Pair) -> Score:
        return await grade(session, pair, "judge.tidiness")

    scorer = Scorer("tidiness", measured, needs=("labels",), prompts=("judge.tidiness",), low=1.0, high=None)
    monkeypatch.setattr(scoring, "SCORERS", {**SCORERS, "tidiness": scorer})
    add_prompt(PROMPT)
    (row,) = measure("tidiness").scores["tidiness"]
    assert row["value"] == pytest.approx((0.02 + 2 * 0.02 + 3 * 0.9) / 0.94)
    assert scorer.bounds(prompt_pack.load("small").pack) == (1, 3)
