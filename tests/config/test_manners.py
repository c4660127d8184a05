"""Voices and levels: which types of a pack they suit, and that those of the shipped pack make sense."""

from pathlib import Path

import pytest

from synthgen.config import prompt_pack
from synthgen.config.manners import Manner, suiting
from synthgen.config.prompt_file import PackFile
from synthgen.config.prompt_pack import recipe_texts
from synthgen.config.taxonomy import matching
from synthgen.config.templates import render, variables_of
from synthgen.errors import Mistakes
from tests.config.test_prompt_pack import load, shipped

TYPES = shipped("everyday").types
COPIES = {"text", "points", "boxes", "long"}  # forms in which no question is easy or hard
# Who never asks what: patterns of types of which some image would make the voice absurd.
ABSURD = {
    "a curious child": ["logic_reasoning/document/**", "logic_reasoning/chart/**", "logic_reasoning/code/**",
                        "structure/**", "single_instance/ocr/**",
                        "description/transcription/**", "description/grounding/**", "coarse_perception/quality/**",
                        "attribute_reasoning/specialist/**", "cross_instance/spatial/**"],
    "an engineer": ["description/**", "coarse_perception/**", "cross_instance/**", "**/anatomy", "**/labelled_part",
                    "logic_reasoning/document/**", "single_instance/recognition/**", "relation_reasoning/nature/**"],
    "an expert in the subject": ["single_instance/**", "cross_instance/**", "description/**", "**/main_subject",
                                 "logic_reasoning/common_sense/**", "conversation/**"],
    "somebody new to the subject": ["description/**", "single_instance/attribute/**", "cross_instance/**"],
    "a student with homework": ["description/**", "single_instance/**", "cross_instance/**", "structure/**",
                                "logic_reasoning/common_sense/**", "logic_reasoning/interface/**"],
    "a teacher who tests a class": ["description/**", "cross_instance/**", "structure/**", "conversation/**"],
    "a shopper in a hurry": ["logic_reasoning/**", "description/**", "cross_instance/**", "coarse_perception/**"],
    "a journalist who checks a fact": ["single_instance/attribute/**", "logic_reasoning/common_sense/**",
                                       "cross_instance/**", "description/**"],
    "a friend in a chat": ["logic_reasoning/document/**", "logic_reasoning/chart/**", "structure/**", "**/anatomy"],
}  # fmt: skip


def test_an_entry_that_is_a_text_suits_every_type_and_patterns_narrow_it() -> None:
    manners = (
        Manner.model_validate("anyone"),
        Manner(text="a cook", types=("food/**",), never=("food/raw",)),
        Manner(text="a guest", types=("**/raw",)),
    )
    assert suiting(manners, "food/dish") == ("anyone", "a cook")
    assert suiting(manners, "food/raw") == ("anyone", "a guest")
    assert suiting(manners[1:], "art/style") == ()
    assert [manner.model_dump() for manner in manners[:2]] == [
        "anyone",
        {"text": "a cook", "types": ["food/**"], "never": ["food/raw"]},
    ]


def test_a_pattern_that_fits_no_type_is_a_mistake_with_its_line(workspace: Path) -> None:
    voices = "voices: [a cook, {text: a guest, types: [coarse/**], never: ['**/countng']}]"
    with pytest.raises(Mistakes) as caught:
        load(workspace, voices=f"about: a small pack => about: a small pack\n{voices}")
    (line,) = caught.value.lines
    assert "small.yaml:2: no instruction type matches '**/countng': did you mean '**/counting'?" in line


def test_an_edit_of_a_voice_redoes_only_the_pairs_of_the_types_that_it_suits(workspace: Path) -> None:
    def recipes(voices: str) -> dict[str, dict[str, object]]:
        change = f"about: a small pack => about: a small pack\nvoices: {voices}"
        prompts = load(workspace, voices=change, ask="Ask {{ n }} about => {{ voice }}, ask {{ n }} about")
        return {path: recipe_texts(prompts, path, "short") for path in prompts.types}

    before, after = recipes("[a cook]"), recipes("[a cook, {text: a guest, types: ['**/counting']}]")
    assert [path for path in before if before[path] != after[path]] == matching(["**/counting"], list(before))


@pytest.mark.parametrize("voice", ABSURD)
def test_no_voice_of_the_shipped_pack_asks_what_would_be_absurd(voice: str) -> None:
    asked = [path for path in TYPES if voice in shipped("everyday").voices(path)]
    assert asked and matching(ABSURD[voice], asked) == []


def test_every_type_of_the_shipped_pack_has_several_voices_but_follow_ups_which_have_none() -> None:
    counts = {path: len(shipped("everyday").voices(path)) for path in TYPES}
    assert {path for path, count in counts.items() if count == 0} == {path for path in TYPES if TYPES[path].follows}
    assert min(count for count in counts.values() if count) >= 3


def test_what_must_be_worked_out_is_never_easy_and_open_requests_and_copies_have_no_level() -> None:
    levels = {path: shipped("everyday").levels(path) for path in TYPES}
    easy = {path for path, found in levels.items() if any(level.startswith("easy") for level in found)}
    assert easy and not [path for path in easy if TYPES[path].reasons]
    without = {path for path, kind in TYPES.items() if kind.open or kind.follows or set(kind.forms) <= COPIES}
    assert {path for path in without if levels[path]} == set()
    assert {path for path in TYPES if not levels[path]} - without == set(matching(["**/limits/*"], list(TYPES)))


def test_plain_sight_is_never_hard() -> None:
    hard = [path for path in TYPES if any(level.startswith("hard") for level in shipped("everyday").levels(path))]
    plain = ["single_instance/recognition/*_kind", "single_instance/attribute/**", "single_instance/presence/**",
             "single_instance/localization/**", "cross_instance/action/**"]  # fmt: skip
    assert hard and matching(plain, hard) == []


def test_nobody_in_particular_asks_with_options() -> None:
    pack: PackFile = shipped("everyday").pack
    assert pack.ask_choice and "voice" not in pack.ask_choice.text and "level" in pack.ask_choice.text
    assert variables_of(pack.ask.text) >= {"voice", "level"}


def test_the_shipped_pack_asks_for_a_question_that_the_form_has_room_for() -> None:
    text, kind = shipped("everyday").pack.ask.text, TYPES["logic_reasoning/chart/chart_trend"]
    asked = {form: render(text, **{**prompt_pack._asked(kind, 1), "form": form}) for form in kind.forms}
    assert ["answered in full with a few words" in asked[form] for form in ("short", "brief", "detailed")] == [1, 0, 0]
    assert ["an answer of several sentences" in asked[form] for form in ("short", "brief", "detailed")] == [0, 0, 1]
