r"""JSON as models write it: the noise around it, and LaTeX whose backslashes are not doubled.

A backslash is the one thing that is mended. A model that writes `\alpha` in a JSON string breaks the JSON, and one that
writes `\frac` or `\theta` says a form feed or a tab there without knowing. Both mean the backslash; they fail for no
other reason than that LaTeX and JSON share the character. Where a line break may be meant as well (`\nu` outside of
mathematics), the reply cannot be read. Commas before a bracket and comments hold no data and are passed over.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from synthgen.config.replies.thoughts import is_thinking, split_thoughts, without_markup


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# LaTeX commands that begin like an escape of JSON. What is left after a line break or a tab is no word ("\theta" would
# be a tab and "heta").
_COMMANDS = _set(
    "backsim backslash bar barwedge because begin beta beth between bf bfseries big bigcap bigcirc bigcup bigg bigl "
    "bigodot bigoplus bigotimes bigr bigskip bigsqcup bigstar biguplus bigvee bigwedge binom blacklozenge blacksquare "
    "blacktriangle bm bmod boldsymbol bot bowtie boxdot boxed boxminus boxplus boxtimes bra breve bullet bumpeq "
    "fallingdotseq fbox fint flat footnotesize forall frac frown nabla natural nearrow neq newcommand newline ngeq "
    "ngeqslant ngtr nLeftarrow nleftarrow nLeftrightarrow nleftrightarrow nleq nleqslant nobreak nobreakspace "
    "noindent nolimits nolinebreak nonumber nopagebreak normalsize notag notin npreceq nRightarrow nrightarrow "
    "nshortmid nshortparallel nsubseteq nsubseteqq nsucc nsucceq nsupset nsupseteq nsupseteqq ntriangleleft "
    "ntrianglelefteq ntriangleright ntrianglerighteq nVDash nVdash nvDash nvdash nwarrow raisebox rangle rbrace "
    "rbrack rceil relax renewcommand rfloor rgroup rho right rightarrow rightarrowtail rightharpoonup rightleftarrows "
    "rightleftharpoons rightrightarrows rightsquigarrow risingdotseq rm rmoustache root rtimes rule rVert rvert "
    "tabularnewline tanh tbinom textasciicircum textasciitilde textbackslash textbar textbf textbraceleft "
    "textbraceright textbullet textcent textcolor textcopyright textdegree textdollar textellipsis textemdash "
    "textendash texteuro textgreater textheight textit textleftarrow textless textmd textmu textnormal textohm "
    "textonehalf textpercent textperthousand textquotedblleft textquotedblright textquoteleft textquoteright "
    "textregistered textrightarrow textrm textsc textsf textsl textsterling textstyle textsubscript textsuperscript "
    "texttrademark texttt textunderscore textup textwidth textyen tfrac therefore theta thetasym thickapprox thicksim "
    "thickspace thinspace tilde times tiny triangle triangledown triangleleft trianglelefteq triangleq triangleright "
    "trianglerighteq twoheadleftarrow twoheadrightarrow ulcorner underbrace underline underset uparrow updownarrow "
    "uplus upsilon urcorner"
)
# These can be a line break or a tab and a word ("e", "an"), so that only mathematics around them tells.
_UNSURE = _set("nu ne ni neg not ncong nprec nsim nsubset tan tau to top tag text")
# After a line break these are words, unless they stand in mathematics.
_WORDS = _set("nless nmid nparallel nexists")

_ESCAPE = re.compile(r'\\(?:(["\\/]|u[0-9a-fA-F]{4})|([A-Za-z]+)|(.?))', re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)
_NOISE = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[\]}])', re.DOTALL)
_FENCED = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_MATHS = re.compile(r"\\{0,2}(\$)|\\{1,2}([()\[\]])")
_CLOSES = {"$": "$", "(": ")", "[": "]"}
# A control character that no text has: what is left of a LaTeX command or of a path ("C:\temp") that nobody knows.
_LOST = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|\b[C-Z]:[\t\n]\w")
_OBJECTS = 5  # tried in the prose around them


class Unreadable(ValueError):
    """A reply that is not JSON; the message says why."""


class _LostText(Unreadable):
    """JSON with a text that cannot be told. What stands inside of it is no reply of its own."""


def load_json(reply: str, key: str | None = None) -> Any:
    """Return the JSON value of a reply: of the whole, of its code fence, or its one object with a key.

    Args:
        reply: The whole reply of the model.
        key: Of an object that may stand between words; without it only the whole reply or a fence counts.

    Raises:
        Unreadable: There is no JSON in it, or several values, or a text in it cannot be told.
    """
    text = without_markup(without_thoughts(reply))
    faults: list[Unreadable] = []
    for part in (reply.strip().lstrip("\ufeff"), text):  # a text may hold what looks like the end of thoughts
        try:
            return _load(part)
        except _LostText:
            raise
        except Unreadable as error:
            faults.append(error)
    values: list[Any] = []
    for value in _inside(text, key):
        if value not in values:
            values.append(value)
    if len(values) == 1:
        return values[0]
    if values:
        raise Unreadable("several JSON values, and no telling which counts")
    is_all_json = reply.strip().lstrip("\ufeff")[:1] in ("{", "[")  # what looks like the end of thoughts is in a text
    raise faults[0 if is_all_json else -1]


def without_thoughts(text: str) -> str:
    """Return a reply without the thoughts before it; where they never end there is no reply."""
    bare = split_thoughts(text.strip().lstrip("\ufeff").strip())[1]
    return "" if is_thinking(bare) else bare


def without_fence(text: str) -> str:
    """Return a reply without the Markdown code fence around it, which endpoints without enforced schemas often add."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") : -3]
    return text


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_of(item)


def _inside(text: str, key: str | None) -> Iterator[Any]:
    """Yield the JSON values in a reply of more than JSON: those of its fences, or else its objects with a key."""
    if fenced := [match[1] for match in _FENCED.finditer(text)]:
        yield from (value for part in fenced for value in _values(part))
    elif key:
        yield from (value for value in _objects(text) if key in value)


def _values(text: str) -> Iterator[Any]:
    with contextlib.suppress(Unreadable):
        yield _load(text)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects in a text, in order; each of the first brackets is tried."""
    start = text.find("{")
    for _ in range(_OBJECTS):
        if start < 0:
            return
        end = _end_of_object(text, start)
        try:
            yield _load(text[start:end])
        except _LostText:
            pass
        except Unreadable:
            end = start + 1
        start = text.find("{", end)


def _end_of_object(text: str, start: int) -> int:
    """Return the place after the bracket that closes the object at `start`; brackets in its texts do not count."""
    depth = 0
    for token in _STRINGS_AND_BRACKETS.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if not depth:
            return token.end()
    return len(text)


def _load(text: str) -> Any:
    """Parse a text that is nothing but JSON."""
    try:
        bare = _NOISE.sub(lambda match: match[1] or "", text)
        value = json.loads(_STRING.sub(_mended, bare), strict=False, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    if any(_LOST.search(string) for string in texts_of(value)):
        raise _LostText("not JSON: a text with control characters, or a path whose backslashes are lost")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object with its keys in lower case; of a key that comes twice nobody knows the value."""
    value = {key.strip().lower(): item for key, item in pairs}
    if len(value) < len(pairs):
        raise ValueError("a key that comes twice")
    return value


def _mended(string: re.Match[str]) -> str:
    """Return a JSON string in which the backslashes of LaTeX are doubled."""
    text = string[0]
    if "\\" not in text:
        return text
    maths = list(_maths(text))
    return _ESCAPE.sub(lambda escape: _doubled(escape, text, maths), text)


def _maths(text: str) -> Iterator[tuple[int, int]]:
    """Yield where mathematics begins and ends, between dollars or `\\(` and `\\)`."""
    start, closing = 0, ""
    for mark in _MATHS.finditer(text):
        sign = mark[1] or mark[2]
        if closing and sign == closing:
            yield start, mark.start()
            closing = ""
        elif not closing and sign in _CLOSES:
            start, closing = mark.end(), _CLOSES[sign]


def _doubled(escape: re.Match[str], text: str, maths: list[tuple[int, int]]) -> str:
    """Return an escape of JSON as it is, and the backslash of anything else doubled.

    Raises:
        ValueError: It may be either.
    """
    proper, name, other = escape.groups()
    if proper:
        return escape[0]
    if other == "'":  # an escape of other languages
        return "'"
    if name and name[0] in "bfnrt" and name not in _COMMANDS:
        if name not in _UNSURE | _WORDS:
            return escape[0]
        if not _is_in_maths(escape, text, maths):
            if name in _WORDS:
                return escape[0]
            raise ValueError(f"\\{name} can be LaTeX, or a line break or a tab")
    if name and name[0] in "ux" and name not in _COMMANDS:
        raise ValueError(f"\\{name} is a character half written")
    return "\\" + escape[0]


def _is_in_maths(escape: re.Match[str], text: str, maths: list[tuple[int, int]]) -> bool:
    """Return whether a command stands between the marks of mathematics, or touches what only mathematics has."""
    after = text[escape.end() : escape.end() + 1]
    return after in ("{", "_", "^", "\\", "(") or any(start <= escape.start() < end for start, end in maths)
