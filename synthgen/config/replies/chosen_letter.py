"""The letter that an answer to multiple choice gives."""

# ruff: noqa: RUF001, RUF003 (letters of many scripts)

import re
import unicodedata

from synthgen.config.replies.answers import declared
from synthgen.config.replies.written import without_thoughts

# Letters in circles and squares that normalization leaves.
_NEGATIVE = {first + place: letter for first in (0x1F150, 0x1F170) for place, letter in enumerate("ABCDEFGH")}
# Letters of other alphabets where the look or the sound and the place in the alphabet say the same letter, and those
# that lists of options are counted by. The Cyrillic "В" looks like B and is the third letter, so it is none of these.
_ALIKE = dict(zip("АБСΑΒΔأابجدאבגד甲乙丙丁", "ABCABDAABCDABCDABCD", strict=True))
_FOREIGN = "".join(_ALIKE)
_QUOTES = "\"'“”‘’«»「」『』【】"
# Marks of direction, spaces without width and the like, which nobody sees.
_UNSEEN = re.compile(r"[\x00\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe0e\ufe0f\ufeff]")
_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf|mathbb|fbox)\s*\{([^{}]*)\}")
_AROUND = rf"[\s*_`{_QUOTES}\[\]{{}}()<>$#.:,;\\-]*"  # around a letter, without a meaning of its own
_BEFORE = r"[\s*_`\"'“‘«「『【\[({<$#]*"
_AFTER = rf"[\s*_`{_QUOTES}\]}})>$.,!。;✅✓✔☑\\-]*"
_BECAUSE = (
    r"(?:,\s+car\b|,?\s+(?:because|since|weil|denn|porque|pois|parce|perché|потому|так как|karena|vì|çünkü|omdat)\b"
    r"|[*_`]*,?(?:因为|因為|なぜなら|です|だ|입니다))"
)
_WHOLE = re.compile(rf"{_AROUND}([A-Ha-h{_FOREIGN}]){_AFTER}")
# A letter in front of more: with a mark, on a line of its own, with a dash or a reason behind it. "A、B" and "A.M." are
# no choice; after a space the second letter belongs to the option ("B. C"). In lower case only what can be no word.
_BEGINS = re.compile(
    rf"{_BEFORE}(?:([A-H])(?:[*_`]*[.):、。\]}}】」』](?![A-Z]\b)(?!\\)|[*_`]*\s*\n|[*_`]*(?:\s+[–—-]|\s*[–—])\s|{_BECAUSE})"
    rf"|[(\[]([a-h])[)\]]|([b-h])[.)](?=\s|$)|(a)\)(?=\s|$)|[(\[]?([{_FOREIGN}])[)\].:、](?=\s|$))"
)
# Behind "the answer is" a letter is no word, unless a word follows it.
_DECLARED = re.compile(
    rf"{_AROUND}([A-H])(?:[*_`]*[.):、。,;!?\]}}】」』*]|\s*$|\s*\n|\s+[–—(-]|{_BECAUSE}|\s*[^\x00-\x7f\s])"
)
_AND = r"(?:[,、/&+]|\b(?:and|or|y|et|ou|und|oder|e|o)\b|[和或与與及とやи와과]|или|و|أو)"
_TWO = re.compile(
    rf"(?<![A-Za-z])(?:[Oo]ption )?[A-H][)\].*_`\"'”」』】\s]*[(\[]?\s*{_AND}"
    r"[*_`\"'“「『【(\[\s]*(?:[Oo]ption )?[A-H](?![A-Za-z'’])"
)
_TWO_FIRST = re.compile(rf"{_AROUND}{_TWO.pattern}")
# "The answer is A. Wait, it is B.": what comes behind such words may take the letter back.
_TAKEN_BACK = re.compile(
    r"\b(?:wait|actually|correction|hold on|scratch that|on second thought|i was wrong|i made a mistake|moment|espera"
    r"|attends|en fait|aspetta|постой|на самом деле)\b|[?][\s*_]+(?:no|nein|non|não|нет)\b"
    r"|等等|等一下|不对|不對|更正|いや、|待って|訂正|잠깐|아니,",
    re.IGNORECASE,
)
_SINGLE = re.compile(r"(?<![A-Za-z'’])(?:([B-H])(?![A-Za-z'’])|(A)(?=[^\w\s]|\s*$))")
_ALONE = re.compile(r"^[^\w\n]*([A-H])[^\w\n]*$", re.MULTILINE)  # a letter on a line of its own
_OPTION = (
    r"\b(?:option|choice|opción|opcion|opção|alternativa|letra|letter|lettre|lettera|opzione|buchstabe|вариант|"
    r"optie|opcja"
    r"|pilihan|phương án|şık)"
)
# What follows says that it is the one, or that it is not, as `_DENIED` tells; "Option A shows …" may say either.
_IS = r"(?:is|are|seems|because|since|es|est|ist|é|è|best|matches|correctly)\b"
_NAMED = re.compile(
    rf"{_OPTION}[\s:*_`\"'“(]+([A-H])(?=[\s*_`\"'”)]*(?:[.,:;!?)]|$|\n)|[*_`\"'”)]*\s+{_IS})"
    r"|(?:选项?|選項?|选择|選擇)\s*[:]?\s*[\"“「(*]*([A-H])(?![A-Za-z])"
    r"|\bI(?:'d| would|'ll)? (?:choose|pick|select|go with)\s+(?:option\s+)?[(*\"]*([A-H])(?=[)*\"]*(?:[.,;]|$|"
    r"\s+(?:because|since)))"
    r"|(?<![A-Za-z])([A-H])(?:选项|選項|项|項|が正解|は正解)"
    r"|\bIt(?:'s| is) [(*]*([A-H])[)*]*(?=[.,;!]|$)"
    r"|\"(?:answer|choice|option|letter)\"\s*:\s*\"([A-H])[\".]",
    re.IGNORECASE,
)
_MENTIONED = re.compile(rf"{_OPTION}[\s:*_`\"'“(]+([A-H])\b|(?:选项?|選項?)\s*([A-H])(?![A-Za-z])", re.IGNORECASE)
# "Option B is clearly wrong": a denial behind a letter, with some words between them but none that ends the statement.
_UNTIL = r"because|since|as|and|but|the|an?|correct|right|best|weil|denn|porque|car|perché|correcta?|richtig"
_NOT = (
    r"(?:(?:not|cannot|never|incorrect\w*|wrong|false|unlikely|impossible|ruled out|excluded|eliminated|falsch|nicht"
    r"|pas|fauss?e?|falsa?|falso|incorret[ao]|errad[ao]|equivocad[ao]|sbagliat[ao]|errat[ao]|no es|não é|non è"
    r"|не\w*|niet|fout|onjuist|nie|błędn\w+|bukan|salah|sai|không|değil|yanlış)\b|\w+n['’]t\b)"
)
_DENIED = re.compile(
    rf"[)*_\"'”」』】 \t]*(?:(?!(?:{_UNTIL})\b)[\w’']+[ \t]+){{0,4}}?{_NOT}"
    r"|[)」』】\"”]*(?:明显|明顯|显然|顯然|肯定|绝对|完全|也|都|是|似乎|可能|可以|应该|應該|被)*"
    r"(?:不(?!是\s*[A-H])|并不|並不|错|錯|误|誤|排除|可排除)"
    r"|[ \t]*(?:では|じゃ|は間違|は不正解|は誤|[가이은는] *(?:아니|아닙|틀)|नहीं|गलत)",
    re.IGNORECASE,
)
_REFUSED = re.compile(  # the same before it
    r"(?:\b(?:not|never|nicht|pas|no|não|non|не|niet|nie|bukan|không phải|rul(?:e|ed|es|ing) out|exclud\w+"
    r"|eliminat\w+|reject\w*|rather than|instead of|descart\w+|exclu\w+|élimin\w+|escl\w+|исключ\w+)"
    r"[ \t]+(?:[\w’']{1,3}[ \t]+)?(?:l['’])?"
    r"|(?:排除|不|不能|不会|不會|不应|不應|非|别|別|否定)(?:了|掉)?)[(\"“「*]*$",
    re.IGNORECASE,
)
# In a reply that was cut off, the option that it begins with may be taken up to be denied in the same statement.
_OPEN = re.compile(rf"\b{_NOT}|不是|不对|不對|不正确|不正確|错|錯|误|誤|排除", re.IGNORECASE)
_IS_SAID_OF = re.compile(
    rf"{_BEFORE}[A-H][*_`\"'”.):]*\s+(?=(?:is|was|seems|does|can|cannot|\w+n['’]t|ist|est|es|è|é)\b)"
)
_COPIES = re.compile(rf"{_BEFORE}[A-H][*_`]*[.)]")  # what follows is the text of the option, which may have a "not"
_STATEMENT_END = re.compile(rf"[!?。！？\n]|(?<=\w\w)\.|{_BECAUSE}")
_BEFORE_IT = 40  # characters before an option in which it may be denied
_OPTION_LINES = re.compile(r"(?:^|\s)[(*]*([A-D])[*]*[.):、]\**\s*\S", re.MULTILINE)


def letter_of(answer: str, is_cut_off: bool = False) -> str | None:
    r"""Return the letter that an answer to a multiple-choice question gives, or None.

    "B", "(b)", "**B**", "B. a red car", "B — because …", "The answer is B", "Option B", "选B", `\boxed{B}` all give B.
    An answer that names two letters gives none; so does a letter that may be a word ("A cat"), and one that a text
    denies or takes back. Of an answer that was cut off only a letter that it begins with or declares counts, if nothing
    denies it.
    """
    reply = without_thoughts(answer).translate(_NEGATIVE)
    text = _plain(reply)
    if whole := _WHOLE.fullmatch(text):  # by far the most
        return _ALIKE.get(whole[1], whole[1].upper())
    said = {letter for part in declared(reply) if (letter := _leading(_plain(part), is_declared=True))}
    leading = None if _lists_options(text) else _leading(text, is_declared=False)
    found = said | ({leading} if leading else set())
    if found or is_cut_off:
        is_sure = len(found) == 1 and not (is_cut_off and _is_open(text, bool(leading)))
        return found.pop() if is_sure and not _is_taken_back(text, *found) else None
    named, mentioned = (_named(pattern, text) for pattern in (_NAMED, _MENTIONED))
    return named.pop() if len(named) == 1 and mentioned <= named and not _TWO.search(text) else None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).strip()


def _named(pattern: re.Pattern[str], text: str) -> set[str]:
    """Return the letters of the options that a text names and does not call wrong."""
    found = (match for match in pattern.finditer(text) if not _is_denied(text, *match.span()))
    return {next(filter(None, match.groups())).upper() for match in found}


def _is_denied(text: str, start: int, end: int) -> bool:
    """Return whether a text says that the option it names from `start` to `end` is not the one."""
    return bool(_DENIED.match(text, end) or _REFUSED.search(text[max(0, start - _BEFORE_IT) : start]))


def _is_taken_back(text: str, letter: str) -> bool:
    """Return whether a text has second thoughts, and the last letter behind them is another one."""
    mark = _TAKEN_BACK.search(text)
    behind = _SINGLE.findall(text, mark.end()) if mark else []
    return bool(behind) and "".join(behind[-1]) != letter


def _is_open(text: str, begins: bool) -> bool:
    """Return whether a reply that was cut off may go on to deny the letter that it `begins` with, or ends in a word."""
    statement = _STATEMENT_END.split(text, maxsplit=1)[0]
    return text[-1:] in "ABCDEFGH" or (begins and not _COPIES.match(text) and bool(_OPEN.search(statement)))


def _leading(text: str, is_declared: bool) -> str | None:
    """Return the letter that a text consists of or begins with."""
    text = _WRAPPED.sub(r"\1", text)
    if _TWO_FIRST.match(text) or len(set(_ALONE.findall(text))) > 1:
        return None
    if whole := _WHOLE.fullmatch(text):
        return _ALIKE.get(whole[1], whole[1].upper())
    match = _BEGINS.match(text) or (_DECLARED.match(text) if is_declared else None)
    if not match or (is_declared and _DENIED.match(text, match.start(match.lastindex or 0) + 1)):
        return None
    if (verb := _IS_SAID_OF.match(text)) and _DENIED.match(text, verb.end()):
        return None
    letter: str = next(filter(None, match.groups()))
    return _ALIKE.get(letter, letter.upper())


def _lists_options(text: str) -> bool:
    """Return whether a reply copies the options before it answers, so that its first letter says nothing."""
    return len(set(_OPTION_LINES.findall(text))) > 1
