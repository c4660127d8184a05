"""Rules for questions: one that breaks off, and two in one."""

# ruff: noqa: RUF001 (signs of many scripts)

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import language_of
from synthgen.stages.rules.quoted import QUOTED

Mask = npt.NDArray[np.bool_]

_ENDED = r"[.?!…。？！؟।:：;][\"'”’»」』)\]）】*_` ]*$"
# Between quotation marks or brackets stands what the question is about, which may ask or break off itself.
_QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’|\([^()]*\)|`[^`]*`"
    r"|[\[(\]]\s*[-−+]?[\d.∞a-z]+\s*[,;]\s*[-−+]?[\d.∞a-z]+\s*[)\]\[]"  # an interval
    r"|https?://\S*[^\s?]|=[^?=]{1,40}\?[^?:]{1,40}:\s*\S+"  # an address, "x = a ? b : c"
)
_OPEN = re.compile(r"[“„«「『《(（\[【{]|(?<![\d\w])\"")
_SMILEY = re.compile(r"[:;=8]-?[(\[{]\s*$")
# "Why?" and "How can you tell?" behind a question ask for the reason of its answer.
_REASON = re.compile(
    r"\W*(?:(?:and|und|et|y|e|en|i|ve|và|dan|och|og|и|і|و|और) ?)?(?:why(?: or why not| not)?|how come"
    r"|how (?:do|can) (?:you|we|one) (?:tell|know)|warum(?: nicht)?|wieso|weshalb"
    r"|woran (?:erkennt|sieht|merkt) man(?: das| es)?"
    r"|woher (?:weiß|weißt|wissen) (?:man|du|sie|wir)(?: das)?"
    r"|wie (?:kann man|können sie|kannst du) das (?:erkennen|sagen)"
    r"|pourquoi(?: pas)?|comment (?:le )?(?:sait-on|savez-vous|sais-tu|peut-on le savoir)"
    r"|à quoi (?:le )?(?:voit-on|reconnaît-on)"
    r"|por qu[ée](?: no)?|cómo (?:lo |se )?(?:sabes|sabe|sabemos|puedes saberlo|nota)"
    r"|por quê|como (?:você )?(?:sabe|se sabe|é que sabe|dá para saber)(?: isso| disso)?"
    r"|perché(?: no)?|come (?:lo |si )?(?:sai|sa|capisce)|waarom(?: niet)?|hoe (?:weet|zie) (?:je|u|men)(?: dat)?"
    r"|dlaczego|skąd (?:to )?(?:wiadomo|wiesz)|po czym (?:to )?poznać|neden|niçin|nereden \w+|nasıl anla\w+"
    r"|tại sao|vì sao|làm sao (?:bạn )?(?:biết|để biết)|mengapa|kenapa"
    r"|bagaimana (?:anda |kamu )?(?:tahu|mengetahuinya)"
    r"|varför|hur (?:vet|ser) (?:du|man)(?: det)?|hvorfor|hvordan (?:ved|vet) (?:du|man)(?: det)?"
    r"|почему|отчего|как (?:вы |ты )?(?:это )?(?:узнали|определили|поняли|понять|определить|узнать)"
    r"|откуда (?:это )?\w+"
    r"|чому|як (?:це )?(?:зрозуміти|визначити|дізнатися)|لماذا|كيف (?:عرفت|تعرف)(?: ذلك)?|क्यों"
    r"|(?:आपको )?कैसे पता(?: चला| चलता है)?"
    r"|ทำไม|เพราะอะไร|รู้ได้อย่างไร|为什么|為什麼|为何|為何|你?(?:是)?怎么(?:看出来|知道|判断)的?|如何(?:得知|判断)"
    r"|なぜ(?:です|でしょう)?か?|どうして(?:です|でしょう)?か?"
    r"|(?:なぜ|どうして|どうやって)?(?:それが|そう)?(?:わか|分か)り?(?:ます|りました)か"
    r"|왜(?:요|죠)?|어떻게 (?:알|아).{0,8})\W*",
    re.IGNORECASE,
)
# Answers to choose from behind a question: "Left, right or in the middle?"; a question of its own begins with a verb.
_OR = (
    r"\b(?:or|oder|ou|o|of|lub|czy|veya|hay|atau|eller|или|або|أو|या)\b"
    r"|หรือ|还是|還是|或|または|それとも|か、|아니면|또는"
)
_OFFERS = re.compile(
    rf"(?!\W*(?:is|are|was|were|do|does|did|has|have|can|could|will|would|should|wh\w+|how)\b).*(?:{_OR})",
    re.IGNORECASE,
)
_MOST_OFFERED = 10  # words
_ASKED = re.compile(r"[?？؟]+")
# In upper case, as what a model adds begins; a form in the image has it too, which is why quotations are left out.
_ANSWER = re.compile(
    r"(?:^|\W)(?:Answer|Antwort|Lösung|Réponse|Respuesta|Resposta|Risposta|Antwoord|Odpowiedź|Cevap|Yanıt"
    r"|Đáp án|Trả lời|Jawaban|Svar|Ответ|Відповідь|Απάντηση)\s*[:：]"
    r"|(?:答案|答え|正解|回答|정답|الإجابة|الجواب|پاسخ|תשובה|उत्तर|উত্তর|คำตอบ)\s*[:：]"
)
_AGAIN = r"[?？؟].*\S.*[?？؟]"
_WH = r"(?:what|which|who|whom|whose|where|when|why|how)"
# "What is it, where does it stand and how old is it?": two can be one question ("in common, and where do they differ"),
# three are a list.
_LISTED = rf"(?i)^\W*{_WH}\b.*[,;]\s*{_WH}\b.*\band\s+(?:also\s+)?(?:{_WH}|is|are|does|do|can)\b"


def breaks_off(rows: pa.Table, question: Any) -> Mask:
    """Return the questions that end inside a quotation or a bracket, or in a word that no text ends in.

    Requests and titles end without a mark, so the lack of one is not enough.
    """
    found = np.zeros(rows.num_rows, bool)
    unended = np.flatnonzero(~np.asarray(pc.match_substring_regex(question, _ENDED)))
    texts, names = (column.take(unended).to_pylist() for column in (question, rows.column("language")))
    found[unended] = [_breaks_off(text.strip(), name) for text, name in zip(texts, names, strict=True)]
    return found


def holds_answer(question: Any) -> Mask:
    """Return the questions that go on with "Answer:" in some language, outside of quotations."""
    found = np.asarray(pc.fill_null(pc.match_substring_regex(question, _ANSWER.pattern), False), dtype=bool)
    candidates = np.flatnonzero(found)
    found = np.zeros(len(found), bool)
    texts = question.take(candidates).to_pylist()
    found[candidates] = [bool(_ANSWER.search(QUOTED.sub("“”", text))) for text in texts]
    return found


def two_questions(question: Any) -> Mask:
    """Return the questions that ask twice; "…? Why?" goes with the question before it."""
    found = np.asarray(pc.match_substring_regex(question, f"{_AGAIN}|{_LISTED}"))
    candidates = np.flatnonzero(found)
    found = np.zeros(len(found), bool)
    found[candidates] = [_asks_twice(text) for text in question.take(candidates).to_pylist()]
    return found


def _breaks_off(text: str, language: str | None) -> bool:
    if _OPEN.search(_QUOTED.sub("", text)) and not _SMILEY.search(text):
        return True
    words = re.split(r"[\s'’]+", text)
    last = words[-1] if len(words[-1]) == 1 else words[-1].lower()  # "A" may be a letter
    if len(last) == 1 and len(words) > 2 and len(words[-3].strip(",.")) == 1:
        return False  # "b or a"
    known = language_of(language)
    return bool(known and len(words) > 1 and last in known.never_last)


def _asks_twice(text: str) -> bool:
    bare = _QUOTED.sub("“”", text)
    parts = _ASKED.split(bare)[:-1]  # none where there is no question mark
    asked = [part for part in parts if _weight(part) > 2 and not _REASON.fullmatch(part)]
    asked = asked[:1] + [part for part in asked[1:] if not _OFFERS.match(part) or _weight(part) > _MOST_OFFERED]
    return len(asked) > 1 or bool(re.search(_LISTED, bare))


def _weight(part: str) -> int:
    """Return the words of a part of a question; of scripts without spaces, two letters are about one."""
    words = re.findall(r"[^\W_]+", part)
    return sum(1 if word[0] < "\u2e80" or "\uac00" <= word[0] <= "\ud7a3" else (len(word) + 1) // 2 for word in words)
