r"""The answer that a reply ends with, and what a reply says that its answer is.

Marks are read in two dozen languages: "Answer: …", "The answer is …", `\boxed{…}`, the tags of some models.
"""

# ruff: noqa: RUF001 (letters of many scripts)

import re
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
# The key of a question behind its options, in any of these languages: "Answer: B", "(Correct: B)".
KEY = rf"[(\[（【*_ ]*(?:{_WORDS}|correct)[*_]*\s*[:：][*_(\s]*[A-D][).\]）】*_\s]*"
_COLON, _BOLD = r"[:：]", r"[*_`#>]*"
_MARK = re.compile(
    (
        rf"(?:^|(?<=[.!?。！？，*])|(?<=\. )|(?<=^- ))[ \t]*{_BOLD}[ \t]*(?:{_WORDS}){_BOLD}[ \t]*{_COLON}(?={_BOLD}[ "
        rf"\t]*(.*)$)"
        rf"|【(?:{_WORDS})】{_COLON}?|^[ \t]*#+[ \t]*(?:{_WORDS})[ \t]*$"  # without a colon: brackets, a heading
    ),
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(rf"(?<![A-Za-zÀ-ɏЀ-ӿ])(?:{_SENTENCES})[ \t]*{_COLON}?[ \t]*", re.IGNORECASE | re.MULTILINE)
_TAGGED = re.compile(
    r"<answer>((?:(?!</?answer>).)*)</answer>|<\|begin_of_box\|>((?:(?!<\|).)*)<\|end_of_box\|>",
    re.DOTALL | re.IGNORECASE,
)
_AROUND_ALL = re.compile(r"\*\*((?:(?!\*\*).)+)\*\*|\$\$?([^$]+)\$\$?\.?|\\\((.+)\\\)\.?|\\\[(.+)\\\]\.?", re.DOTALL)
_WORDED = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}\.?")  # words in mathematics
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BOXES = 10  # the last ones, that are looked at
_FAR = 200  # characters behind a mark in which the letter is
_DOUBTED = re.compile(r"(?:n't|not|cannot) (?:think|believe|say|sure|know)", re.IGNORECASE)


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


def declared(text: str) -> Iterator[str]:
    """Yield what a text says that the answer is, wherever it says so."""
    yield from _tagged(text)
    yield from _boxed(text)
    for match in _MARK.finditer(text):
        yield _behind(text[match.end() : match.end() + _FAR], 0)
    for match in _SENTENCE.finditer(text):
        if not _DOUBTED.search(text[max(0, match.start() - _FAR) : match.start()].rpartition(".")[2]):
            yield _behind(text[match.end() : match.end() + _FAR], 0)


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
    while match := _AROUND_ALL.fullmatch(text) or _WORDED.fullmatch(text):
        text = next(filter(None, match.groups())).strip()
    return text
