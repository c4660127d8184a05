"""What a pair says and what it asks about, in a form in which pairs of an image are compared whatever their wording."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import UNSPACED_RANGES, language_of
from synthgen.config.replies import LETTERS, letter_of
from synthgen.dedup import plain_texts

COMPARED_FORMS = ("short", "choice")  # whose answers say the same if they have the same words
# Words of a question that do not say what it is about, beyond those that tell English from other languages.
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        "is are was were be been do did does has have had can could will would should may i me we he she him her his "
        "they them these those here there in on at by of to as if or but than then so any some one please tell name "
        "give show say see look find image picture photo exactly kind sort type",
    )
)
_SPELLINGS = {"colour": "color", "colours": "color", "colors": "color", "grey": "gray", "centre": "center"}
_UNSPACED = re.compile(f"([{UNSPACED_RANGES}])")


def with_wording(judged: pa.Table, rows: pa.Table, is_compared: pa.Array) -> pa.Table:
    """Return a table with what pairs say and ask about: columns `said` and `content`, null for long answers.

    Args:
        judged: The table.
        rows: The pairs, with `form`, `language`, `question`, `options` and `answer`.
        is_compared: Of other pairs both are null.
    """
    is_of_form = pc.is_in(rows.column("form"), pa.array(COMPARED_FORMS))
    mask = pa.array(np.asarray(pc.fill_null(pc.and_(is_compared, is_of_form), False)))
    chosen = pc.indices_nonzero(mask)
    found = rows.select(["form", "language", "question", "options", "answer"]).take(chosen)
    answers = [_chosen_words(row) for row in found.to_pylist()]
    questions = plain_texts(found.column("question")).to_pylist()
    content = [
        " ".join(sorted(content_words(text, language)))
        for text, language in zip(questions, found.column("language").to_pylist(), strict=True)
    ]
    nothing = pa.nulls(judged.num_rows, pa.large_string())
    for name, texts in (("said", plain_texts(answers)), ("content", pa.array(content, pa.large_string()))):
        judged = judged.append_column(name, pc.replace_with_mask(nothing, mask, texts))
    return judged


def content_words(plain: str, language: str | None) -> set[str]:
    """Return the words of a question in its plain form that say what it is about."""
    known = language_of(language)
    empty = (known.words | known.never_last) if known else frozenset()
    is_english = known is not None and "english" in known.names
    words = _UNSPACED.sub(r" \1 ", plain).split()
    return {_SPELLINGS.get(word, word) for word in words if word not in empty and not (is_english and word in _ENGLISH)}


def _chosen_words(row: dict[str, object]) -> str:
    """Return the answer, of multiple choice the option that it chooses."""
    answer = str(row["answer"] or "")
    options = dict(zip(LETTERS, row["options"] or (), strict=False))  # type: ignore[call-overload]
    return str(options.get(letter_of(answer) or "", answer)) if row["form"] == "choice" else answer
