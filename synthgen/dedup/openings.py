"""The first words of questions, by which phrases of a template are counted ("What is the main …").

A template repeats at the beginning, so the opening is taken as it stands. A score of word pairs, as in SU4MT (arXiv
2310.11360), finds phrases anywhere ("in the image"), which are right in any number.
"""

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import UNSPACED

_UNSPACED = "([" + "".join(rf"\p{{{script}}}" for script in UNSPACED) + "]{1,2})"


def openings(plain: pa.LargeStringArray, words: int) -> pa.LargeStringArray:
    """Return the first words of texts in their plain form, of shorter ones all.

    Two characters of a script without spaces count as a word.
    """
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, _UNSPACED, r" \1 "))
    first = pc.replace_substring_regex(spaced, rf"^((?:\S+\s+){{{words - 1}}}\S+)\s.*$", r"\1")
    return pc.replace_substring_regex(first, r"\s+", " ")
