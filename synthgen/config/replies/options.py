"""What is wrong with the options of a question, in many languages."""

# ruff: noqa: RUF001 (words of many scripts)

import re
import unicodedata
from collections.abc import Sequence

_RIGHT = (
    r"correct[aeo]?|right answer|richtig|korrekt|juste|corret[ao]|corrett[ao]|juist|goed|poprawn[ae]|doğru|đúng|benar"
    r"|rätt|верно|правильн\w+|вірно|صحيح\w*|सही|ถูกต้อง|正确|正確|正解|정답"
)
_WRONG = (
    r"incorrect[aeo]?|wrong|falsch|inkorrekt|faux|incorrecte|incorret[ao]|errad[ao]|sbagliat[ao]|errat[ao]|fout|onjuist"
    r"|błędn[ae]|yanlış|sai|salah|fel|неверно|неправильн\w+|невірно|خطأ|غلط|गलत|ผิด|错误|錯誤|不正解|오답"
)
# "red (correct)", "red ✓", "red <- right answer", "Correct: red", "**red**"; and what calls the others wrong
_MARKED = re.compile(
    rf"\S.*?(?:\s*[(\[（【]\s*(?:the )?(?:{_RIGHT}|{_WRONG})(?: [\w ]+)?\s*[)\]）】]|\s*[✓✔✅☑✗✘❌❎]\ufe0f?"
    rf"|\s+(?:<?[-=]+>?|[←⟵–—])\s*(?:the |this is the )?(?:{_RIGHT})(?: answer| option| choice)?)[.\s]*"
    rf"|(?:{_RIGHT}|{_WRONG})\s*[:：].*\S.*|\*\*[^*]+\*\*|__[^_]+__",
    re.IGNORECASE,
)
_KEYED = re.compile(r"\b(?:answer|correct)\s*[:：]\s*\(?[A-D]\b", re.IGNORECASE)
_UNSEEN = re.compile(r"[\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
# "All of the above" and "Both A and B" are right in one order of the options alone.
_OF_OTHERS = re.compile(
    r"\b(?:all|none|both|neither|any|either|two) of (?:the |these )?(?:above|below|other options)\b"
    r"|\b(?:all|none) (?:the )?above\b"
    r"|^\W*(?:both |neither |only |either |options? )*\(?[A-D]\)?\s*(?:,|&|and|or|nor|und|et|y|e|en|i|och|og"
    r"|oraz|dan|ve|và|и|و)\s*\(?[A-D]\)?(?: are \w+)?\W*$"
    r"|\b(?:todas|todos|ninguna|ninguno|ambas|nenhuma|nenhum|tutte|tutti|nessuna|nessuno|entrambe)\b.*"
    r"\b(?:anteriores|acima|precedenti|sopra)\b"
    r"|ci-dessus|\bobigen\b|\boben genannt|\bder genannten\b|bovenstaande|powyższ|wyżej wymienion|yukarıdaki"
    r"|ovanstående|ovennævnte|\b(?:semua|tidak ada)\b.*\bdi atas\W*$|(?:đáp án|phương án|lựa chọn) (?:ở )?trên"
    r"|вышеперечисленн|перечисленн\w+ выше|вищезазначен|ما سبق|أعلاه"
    r"|उपरोक्त|उपर्युक्त|ข้างต้น"
    r"|以上(?:都|皆|全|均|所有|选项|選項|答案)|上述|上記|위의? ?(?:모두|모든|것|보기)",
    re.IGNORECASE,
)


def speaks_of_others(option: str) -> bool:
    """Return whether an option speaks of the others by their letter or place, so that their order must not change."""
    return bool(_OF_OTHERS.search(option))


def options_fault(options: Sequence[str]) -> str | None:
    """Return what is wrong with options: fewer than two, two that say the same, or marks that tell the right one."""
    if len(options) < 2:
        return "fewer than two options"
    if len({_plain(option) for option in options}) < len(options):
        return "equal options"
    marked = sum(bool(_MARKED.fullmatch(option) or _KEYED.search(option)) for option in options)
    return "an option marked as the right one" if 0 < marked < len(options) else None


def _plain(option: str) -> str:
    """Return an option without case, bold print, signs that nobody sees and the stop at its end.

    Of a single letter the case may be what is asked for.
    """
    text = " ".join(_UNSEEN.sub("", unicodedata.normalize("NFC", option)).replace("**", "").split())
    bare = text.rstrip(".。") or text
    return bare.casefold() if len(bare) > 1 else bare
