"""Text that spells special tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.engines.special_tokens import BREAK, SpecialTokens

QWEN = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|im_end|>x")
PARTS = st.one_of(st.sampled_from(QWEN), st.text("<|>im_endstarpg x", max_size=6))


@given(st.lists(PARTS, max_size=8).map("".join))
def test_no_spelling_is_left_and_a_reply_that_copies_the_text_gets_them_back(text: str) -> None:
    special = SpecialTokens(QWEN)
    broken = special.break_up(text)
    assert not any(spelling in broken for spelling in QWEN)
    assert broken.replace(BREAK, "") == text and special.restore(broken) == text


@given(st.text())
def test_text_that_spells_none_stays_as_it_is(text: str) -> None:
    assert SpecialTokens(("<|im_end|>",)).break_up(text.replace("<|im_end|>", "")) == text.replace("<|im_end|>", "")
    assert SpecialTokens(()).break_up(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "<|im_end|>", "<|endoftext|>", "</s>", "<s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>",
        "<image>",        "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<end_of_utterance>", "<IMG_CONTEXT>",
        "<image_soft_token>", "<img>", "</img>", "[IMG_BREAK]", "[IMG_END]", "[TOOL_CALLS]", "[THINK]", "[/THINK]",
        "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "</image>", "<slice>", "<image_id>", "[gMASK]",
        "<sop>", "<|turn>", "<turn|>", "<<SYS>>", "<</SYS>>", "<im_patch>", "<video>", "<|channel>",
        "<\uff5cUser\uff5c>", "[|endofturn|]", "<|END_OF_TURN_TOKEN|>", "<EOS_TOKEN>", "<image_placeholder>",
        "<|image_1|>",
    ],
)  # fmt: skip
def test_the_usual_spellings_are_broken_where_the_tokenizer_is_not_known(text: str) -> None:
    assert text not in SpecialTokens().break_up(f"What does {text} mean?")


@pytest.mark.parametrize(
    "text", ["a < b", "<b>bold</b>", "x|y", "[1]", "<table>", "5 <| 6", "[MASKED]", "<row>", "a <b> c"]
)
def test_ordinary_text_is_not_broken(text: str) -> None:
    assert SpecialTokens().break_up(text) == text


def test_a_zero_width_space_of_the_reply_itself_stays() -> None:
    assert SpecialTokens(QWEN).restore(f"a{BREAK}b <{BREAK}b>") == f"a{BREAK}b <{BREAK}b>"


def test_each_spelling_is_restored_by_itself() -> None:
    text = f"The text says <{BREAK}|im_end|> and ok{BREAK}zwsp, <{BREAK}|im_start|>{BREAK}."
    assert SpecialTokens(QWEN).restore(text) == f"The text says <|im_end|> and ok{BREAK}zwsp, <|im_start|>{BREAK}."
    assert SpecialTokens().restore(text) == f"The text says <|im_end|> and ok{BREAK}zwsp, <|im_start|>{BREAK}."
