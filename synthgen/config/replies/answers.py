r"""The answer that a reply ends with, and the letter that an answer to multiple choice gives.

Both read the same marks, in two dozen languages: "Answer: …", "The answer is …", `\boxed{…}`, the tags of some models.
"""

# ruff: noqa: RUF001, RUF003 (letters of many scripts)

import re
import unicodedata
from collections.abc import Iterator

from synthgen.config.replies.written import without_thoughts

# What stands before a colon and an answer, in the languages of docs/format.md and a few more.
_WORDS = (
    r"(?:(?:final|correct|right|my|the|so the|best) )*answer|ans|(?:correct|right|best) (?:option|choice)"
    r"|(?:最终|最後の|正确|正確)?(?:答案|答え|回答|解答|正解|答)|(?:최종 |최종)?(?:정답|답변|답)"
    r"|respuesta(?: final| correcta)?|(?:la )?(?:bonne )?réponse(?: finale| correcte)?"
    r"|(?:die )?(?:endgültige |richtige )?(?:antwort|lösung)|resposta(?: final| correta| correcta)?|gabarito"
    r"|risposta(?: finale| corretta)?|(?:правильный |окончательный |верный )?ответ"
    r"|(?:правильна |остаточна )?відповідь|(?:الإجابة|الجواب)(?: النهائية| النهائي| الصحيحة| الصحيح)?"
    r"|(?:अंतिम |सही )?उत्तर|(?:đáp án|câu trả lời|trả lời)(?: cuối cùng| đúng)?|(?:doğru |son |nihai )?(?:cevap|yanıt)"
    r"|(?:het )?(?:juiste |uiteindelijke )?antwoord|(?:ostateczna |poprawna |prawidłowa )?odpowiedź"
    r"|jawaban(?: akhir)?|คำตอบ|svar(?:et)?|απάντηση|תשובה|پاسخ|vastaus|odpověď|răspuns(?:ul)?|válasz|উত্তর|جواب"
)
# The same as a sentence. What follows `is` up to the end of the sentence is the answer.
_SENTENCES = (
    r"(?:the|my) (?:(?:final|correct|right|best) )*(?:answer|option|choice) (?:is|would be|should be|must "
    r"be)(?: option)?"
    r"|(?:最终|正确|正確)?(?:答案|選項|选项)(?:应该|應該)?(?:是|为|為|选|選)"
    r"|(?:答え|正解|回答)は|(?:정답|답)(?:은|는)"
    r"|la respuesta(?: final| correcta)? (?:es|sería)(?: la)?(?: opción)?"
    r"|la (?:bonne )?réponse(?: finale| correcte)? est(?: la)?"
    r"|die (?:endgültige |richtige |korrekte )?(?:antwort|lösung) (?:ist|lautet)"
    r"|a resposta(?: final| correta| correcta)? é(?: a)?(?: letra| opção| alternativa)?"
    r"|la risposta(?: finale| corretta)? è(?: la)?|(?:правильный |верный )?ответ *[—–-]"
    r"|(?:الإجابة|الجواب)(?: النهائية| الصحيحة| الصحيح)? (?:هي|هو)|đáp án(?: đúng| cuối cùng)? là"
    r"|(?:doğru )?(?:cevap|yanıt)|het (?:juiste )?antwoord is|(?:prawidłowa |poprawna )?odpowiedź to"
    r"|jawabannya adalah|jawaban(?: yang benar| akhir)? adalah|คำตอบ(?:ที่ถูกต้อง)?คือ|(?:सही )?उत्तर"
    r"|(?:rätt )?svaret är"
)
_COLON, _BOLD = r"[:：]", r"[*_`#>]*"
_MARK = re.compile(
    (
        rf"(?:^|(?<=[.!?。！？，*])|(?<=\. )|(?<=^- ))[ \t]*{_BOLD}[ \t]*(?:{_WORDS}){_BOLD}[ \t]*{_COLON}(?={_BOLD}[ "
        rf"\t]*(.*)$)"
    ),
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(rf"(?<![A-Za-zÀ-ɏЀ-ӿ])(?:{_SENTENCES})[ \t]*{_COLON}?[ \t]*", re.IGNORECASE | re.MULTILINE)
_TAGGED = re.compile(
    r"<answer>((?:(?!</?answer>).)*)</answer>|<\|begin_of_box\|>((?:(?!<\|).)*)<\|end_of_box\|>",
    re.DOTALL | re.IGNORECASE,
)
_AROUND_ALL = re.compile(r"\*\*((?:(?!\*\*).)+)\*\*|\$\$?([^$]+)\$\$?\.?|\\\((.+)\\\)\.?|\\\[(.+)\\\]\.?", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BOXES = 10  # the last ones, that are looked at
_FAR = 200  # characters behind a mark in which the letter is


def final_answer(reply: str) -> str | None:
    r"""Return the answer that a reply comes to, or None where no mark says where it is.

    The last mark counts: what stands behind "Answer:" on its line, or on those below if the line ends there; else the
    last `\boxed{…}`; else what the last line says that the answer is.
    """
    text = without_thoughts(reply)
    if tagged := list(_tagged(text)):
        return _bare(tagged[-1]) or None
    if marks := list(_MARK.finditer(text)):
        return _bare(_behind(text, marks[-1].end())) or None
    if boxed := list(_boxed(text)):
        return _bare(boxed[-1]) or None
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    if said := list(_SENTENCE.finditer(last)):
        return _bare(re.sub(r"[.。!！]+(?=[*_]*$)", "", last[said[-1].end() :].strip())) or None
    return None


def letter_of(answer: str) -> str | None:
    r"""Return the letter that an answer to a multiple-choice question gives, or None.

    "B", "(b)", "**B**", "B. a red car", "B — because …", "The answer is B", "Option B", "选B", `\boxed{B}` all give B.
    An answer that names two letters gives none; so does a letter that may be a word ("A cat").
    """
    reply = without_thoughts(answer).translate(_NEGATIVE)
    text = _plain(reply)
    if whole := _WHOLE.fullmatch(text):  # by far the most
        return _ALIKE.get(whole[1], whole[1].upper())
    declared = {letter for said in _declared(reply) if (letter := _leading(_plain(said), is_declared=True))}
    leading = None if _lists_options(text) else _leading(text, is_declared=False)
    if found := declared | ({leading} if leading else set()):
        return found.pop() if len(found) == 1 else None
    named, mentioned = (_named(pattern, text) for pattern in (_NAMED, _MENTIONED))
    return named.pop() if len(named) == 1 and mentioned <= named and not _TWO.search(text) else None


# --- the marks --------------------------------------------------------------------------------------------------------


def _tagged(text: str) -> Iterator[str]:
    yield from (match[1] or match[2] or "" for match in _TAGGED.finditer(text))


def _behind(text: str, place: int) -> str:
    """Return the rest of the line behind a mark, or all that follows if the line ends there."""
    line = text[place:].partition("\n")[0]
    return line if line.strip(" *_`") else text[place:]


def _boxed(text: str) -> Iterator[str]:
    """Yield the contents of each of the last boxes; brackets inside it are balanced."""
    for match in list(_BOX.finditer(text))[-_BOXES:]:
        depth = 1
        for bracket in re.finditer(r"[{}]", text[match.end() :]):
            depth += {"{": 1, "}": -1}[bracket[0]]
            if not depth:
                yield text[match.end() : match.end() + bracket.start()]
                break


def _bare(answer: str) -> str:
    """Return an answer without a box, bold print or the marks of mathematics around all of it."""
    for inside in _boxed(answer):
        answer = answer.replace(f"\\boxed{{{inside}}}", inside).replace(f"\\fbox{{{inside}}}", inside)
    text = answer.strip()
    if text.count("**") == 1:  # bold print that began before the mark
        text = text.replace("**", "").strip()
    while match := _AROUND_ALL.fullmatch(text):
        text = next(filter(None, match.groups())).strip()
    return text


# --- letters ----------------------------------------------------------------------------------------------------------

# Letters in circles and squares that normalization leaves.
_NEGATIVE = {first + place: letter for first in (0x1F150, 0x1F170) for place, letter in enumerate("ABCDEFGH")}
# Letters of other alphabets where the look or the sound and the place in the alphabet say the same letter, and those
# that lists of options are counted by. The Cyrillic "В" looks like B and is the third letter, so it is none of these.
_ALIKE = dict(zip("АБСΑΒΔأابجدאבגד甲乙丙丁", "ABCABDAABCDABCDABCD", strict=True))
_FOREIGN = "".join(_ALIKE)
_QUOTES = "\"'“”‘’«»「」『』【】"
_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf|mathbb|fbox)\s*\{([^{}]*)\}")
_AROUND = rf"[\s*_`{_QUOTES}\[\]{{}}()<>$#.:,;\\-]*"  # around a letter, without a meaning of its own
_BEFORE = r"[\s*_`\"'“‘«「『【\[({<$#]*"
_AFTER = rf"[\s*_`{_QUOTES}\]}})>$.,!。;✅✓✔☑\\-]*"
_BECAUSE = (
    r"(?:,?\s+(?:because|since|weil|denn|porque|pois|parce|car|perché|потому|так как|karena|vì|çünkü|omdat)\b"
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
_TWO = re.compile(rf"(?<![A-Za-z])[A-H]\s*{_AND}\s*[A-H](?![A-Za-z'’])")
_OPTION = (
    r"\b(?:option|choice|opción|opcion|opção|alternativa|letra|letter|lettre|lettera|opzione|buchstabe|вариант|"
    r"optie|opcja"
    r"|pilihan|phương án|şık)"
)
_IS = r"(?:is|are|shows?|because|since|es|est|ist|é|è|which|best|seems|matches|correctly)\b"
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
_DENIED = re.compile(
    r"[)*\"\s]*(?:is|are|was|no es|n'est pas|ist)?\s*"
    r"(?:(?:not|n't|incorrect|wrong|false|ruled out|falsch|nicht)\b|不|並不|并不|错|錯|是错|是錯)",
    re.IGNORECASE,
)
_DOUBTED = re.compile(r"(?:n't|not|cannot) (?:think|believe|say|sure|know)", re.IGNORECASE)
_OPTION_LINES = re.compile(r"(?:^|\s)[(*]*([A-D])[*]*[.):、]\**\s*\S", re.MULTILINE)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _named(pattern: re.Pattern[str], text: str) -> set[str]:
    """Return the letters of the options that a text names and does not call wrong."""
    found = (match for match in pattern.finditer(text) if not _DENIED.match(text, match.end()))
    return {next(filter(None, match.groups())).upper() for match in found}


def _declared(text: str) -> Iterator[str]:
    """Yield what a text says that the answer is, wherever it says so."""
    yield from _tagged(text)
    yield from _boxed(text)
    for match in _MARK.finditer(text):
        yield _behind(text[match.end() : match.end() + _FAR], 0)
    for match in _SENTENCE.finditer(text):
        if not _DOUBTED.search(text[max(0, match.start() - _FAR) : match.start()].rpartition(".")[2]):
            yield _behind(text[match.end() : match.end() + _FAR], 0)


def _leading(text: str, is_declared: bool) -> str | None:
    """Return the letter that a text consists of or begins with."""
    text = _WRAPPED.sub(r"\1", text)
    if _TWO.search(text):
        return None
    if whole := _WHOLE.fullmatch(text):
        return _ALIKE.get(whole[1], whole[1].upper())
    match = _BEGINS.match(text) or (_DECLARED.match(text) if is_declared else None)
    if not match:
        return None
    letter: str = next(filter(None, match.groups()))
    return _ALIKE.get(letter, letter.upper())


def _lists_options(text: str) -> bool:
    """Return whether a reply copies the options before it answers, so that its first letter says nothing."""
    return len(set(_OPTION_LINES.findall(text))) > 1
