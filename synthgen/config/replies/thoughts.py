"""The thoughts that some models write before their reply, and the markup that some write around it."""

# ruff: noqa: RUF001 (signs of many scripts)

import re

BEGIN, END = "<think>", "</think>"  # some chat templates write the first one, so a reply may hold only the second
_KINDS = (
    (BEGIN, END),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
)
# An end without a beginning, where a text ends before it or a line behind it; "the page shows </think>." speaks of it.
_ENDS = "|".join(re.escape(end) for _, end in _KINDS[:-1])
_ALONE = re.compile(rf"(?:\A|[.!?。！？…:)\]\n]\s*)(?:{_ENDS})(?=\s*\S)|(?:\A|\n)\s*(?:{_ENDS})|(?:{_ENDS})[ \t]*\n")
_WRAPPED = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL | re.IGNORECASE)
_BOX = re.compile(r"<\|begin_of_box\|>((?:(?!<\|).)*)<\|end_of_box\|>", re.DOTALL)
_TURN_ENDS = re.compile(
    r"(?:\s*(?:<\|(?:im_end|endoftext|end_of_text|end|eot_id|eom_id|return|user|observation)\|>|</s>|<eos>|<turn\|>"
    r"|<(?:end_of_turn|end_of_utterance)>|<\uff5cend\u2581of\u2581sentence\uff5c>))+\s*$"
)


def split_thoughts(text: str) -> tuple[str, str]:
    """Return the thoughts that a reply begins with, and the reply behind them; thoughts that do not end stay in it.

    A mark of thoughts counts at the beginning alone: behind it a text may speak of it.
    """
    start = text.lstrip("\ufeff \t\r\n")
    for begin, end in _KINDS:
        if start.startswith(begin):
            thoughts, found, answer = start[len(begin) :].partition(end)
            if found and answer.lstrip().startswith(begin):
                more, answer = split_thoughts(answer)
                thoughts = f"{thoughts.strip()}\n\n{more}"
            return (thoughts.strip(), answer.strip()) if found else ("", text)
    if any(begin in text for begin, _ in _KINDS):
        return "", text
    alone = _ALONE.search(text)
    place = re.compile(_ENDS).search(text, alone.start()) if alone else None
    if not place or (text[place.end() :].strip() and not any(map(str.isalnum, text[place.end() :]))):
        return "", text
    return text[: place.start()].strip(), text[place.end() :].strip()


def is_thinking(text: str) -> bool:
    """Return whether a reply has thoughts that were not taken apart, or that do not end."""
    start = text.lstrip()
    return any(start.startswith(begin) for begin, _ in _KINDS) or split_thoughts(text) != ("", text)


def without_markup(text: str) -> str:
    """Return a reply without the tags of an answer around it and without the tokens that end a turn behind it."""
    bare = text if "<s>" in text else _TURN_ENDS.sub("", text)  # "<s>old</s>" is struck out
    bare = _BOX.sub(r"\1", bare)
    whole = _WRAPPED.fullmatch(bare.strip())
    bare = whole[1] if whole else bare
    return text if bare == text else bare.strip()
