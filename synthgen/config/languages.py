"""What rules know of languages: script, commonest words, the words for yes and no, and the words that end no text.

A language that is not listed is checked by no rule. All words are in lower case.
"""

# ruff: noqa: RUF001 (words of many scripts)

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

# Scripts by the names of Unicode, as regular expressions write them (`\\p{Latin}`).
SCRIPTS = tuple(
    re.findall(
        r"\w+",
        "Latin Cyrillic Greek Arabic Hebrew Devanagari Bengali Gurmukhi Gujarati Tamil Telugu Kannada Malayalam Thai "
        "Lao Khmer Myanmar Georgian Armenian Ethiopic Hangul Hiragana Katakana Han",
    )
)
# The same scripts as ranges of characters, for expressions without names of scripts.
UNSPACED_RANGES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSPACED = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")  # no spaces between words


@dataclass(frozen=True)
class Language:
    """A language.

    Attributes:
        names: In English and in itself, and its codes, in lower case.
        scripts: That it is written in; several may stand in one text.
        needs: One of these scripts is in every text of some length.
        words: Some of its commonest, without those that English has too; empty where the script tells enough.
        yes: How an answer that says yes begins.
        no: How an answer that says no begins.
        never_last: Words that a text cannot end in, such as articles.
    """

    names: tuple[str, ...]
    scripts: tuple[str, ...]
    words: frozenset[str]
    yes: tuple[str, ...]
    no: tuple[str, ...]
    never_last: frozenset[str]
    needs: tuple[str, ...]


def _language(
    names: str, scripts: str, yes_no: str, words: str = "", never_last: str = "", needs: str = ""
) -> Language:
    """Return a language from lists in one string each; yes and no are parted by " / "."""
    yes, no = yes_no.split(" / ")
    return Language(
        tuple(names.split("|")),
        tuple(scripts.split()),
        frozenset(words.split()),
        tuple(yes.split("|")),
        tuple(no.split("|")),
        frozenset(never_last.split()),
        tuple((needs or scripts).split()),
    )


LANGUAGES = (
    _language(
        "english|en|eng",
        "Latin",
        "yes|yeah|yep / no|nope",
        "the and that with this what which there it from have how does its they their where who why can you not",
        "the a an and or my your its our their",
    ),
    _language(
        "german|deutsch|de|deu|ger",
        "Latin",
        "ja|doch / nein|nö",
        "der das und ist nicht ein eine einen dem mit auf sind wird auch sich welche wie von für zu im",
        "des eine einem einen einer eines und oder vom zum zur im am beim",
    ),
    _language(
        "french|français|francais|fr|fra|fre",
        "Latin",
        "oui|si / non",
        "le la les des est une dans et du que qui pour sur avec il sont cette au pas quelle quel ce",
        "les des du de à au aux dans sur et ou l d",
    ),
    _language(
        "spanish|español|espanol|castellano|es|spa",
        "Latin",
        "sí|si / no",
        "el la los las una del que en por con está se para qué es hay cuál como su más y",
        "el los las del de en con por y o al",
    ),
    _language(
        "portuguese|português|portugues|pt|por",
        "Latin",
        "sim / não|nao",
        "os uma dos das não na em são está qual para é há um mais pelo pela",
        "de do da dos das em nas nos e ou ao",
    ),
    _language(
        "italian|italiano|it|ita",
        "Latin",
        "sì|si / no",
        "il lo gli della di che è una nel nella sono del non quale cosa sul dei questo questa",
        "il gli di del della dei delle degli dal dalla nel nella sul sulla con per e",
    ),
    _language(
        "dutch|nederlands|nl|nld|dut",
        "Latin",
        "ja|jawel / nee|neen",
        "de het een van en op met niet zijn er wat welke dat aan voor deze naar ook wordt hoe",
        "de en of",
    ),
    _language(
        "polish|polski|pl|pol",
        "Latin",
        "tak / nie",
        "jest nie się że jak są czy który jakie przez dla po ma",
        "w z na do i lub oraz ze",
    ),
    _language(
        "turkish|türkçe|turkce|tr|tur",
        "Latin",
        "evet|var / hayır|hayir|yok|değil",
        "ve bir bu için ile olan nasıl hangi var görselde resimde çok daha gibi olarak kaç",
        "ve veya ile",
    ),
    _language(
        "vietnamese|tiếng việt|tieng viet|vi|vie",
        "Latin",
        "có|vâng|đúng|phải / không|chưa",
        "là của và có trong không được những các này một cho với người gì bao nhiêu đang màu",
        "của và hoặc những các",
    ),
    _language(
        "indonesian|bahasa indonesia|malay|bahasa melayu|id|ind|ms",
        "Latin",
        "ya|iya|benar / tidak|bukan|tak",
        "yang di dan ini itu dengan pada adalah untuk dari apa tidak ada dalam berapa gambar warna sebuah",
        "yang dan atau dari untuk dengan",
    ),
    _language(
        "swedish|svenska|sv|swe",
        "Latin",
        "ja|jo / nej",
        "och är det som en på av med till inte har ett för vad finns vilken hur",
        "och eller ett",
    ),
    _language(
        "danish|dansk|da|dan|norwegian|norsk|bokmål|no|nb|nor",
        "Latin",
        "ja|jo / nej|nei",
        "og er det som en på af av med til ikke har et hvad hva hvilken hvor",
        "og eller",
    ),
    _language(
        "finnish|suomi|fi|fin", "Latin", "kyllä|joo / ei", "ja ei se että mikä ovat kuvassa joka mitä kuinka", "ja tai"
    ),
    _language(
        "czech|čeština|cs|ces|slovak|slovenčina|sk",
        "Latin",
        "ano|áno|jo / ne|nie",
        "je na se že jsou jak které který pro není ako čo sú nie",
        "v s z na do a nebo alebo",
    ),
    _language(
        "romanian|română|romana|ro|ron",
        "Latin",
        "da / nu",
        "este și în care un pe cu din sunt ce nu la",
        "și sau de în pe cu din",
    ),
    _language(
        "hungarian|magyar|hu|hun",
        "Latin",
        "igen / nem",
        "az és egy hogy nem van milyen mi hány képen látható",
        "a az és vagy egy",
    ),
    _language(
        "catalan|català|ca|cat",
        "Latin",
        "sí|si / no",
        "el la els les una del que és amb per hi ha què quin dels en",
        "els del de amb i o",
    ),
    _language("russian|русский|ru|rus", "Cyrillic", "да / нет|не", "", "в на с и или из для"),
    _language("ukrainian|українська|uk|ukr", "Cyrillic", "так|да / ні|не", "", "в у на з і та або для"),
    _language("bulgarian|български|bg|bul", "Cyrillic", "да / не", "", "в на с и или"),
    _language("serbian|српски|srpski|sr|srp", "Cyrillic Latin", "да|da|јесте / не|ne"),
    _language("greek|ελληνικά|el|ell", "Greek", "ναι|μάλιστα / όχι|δεν", "", "το η ο και ή"),
    _language("arabic|العربية|عربي|ar|ara", "Arabic", "نعم|أجل|بلى / لا|كلا|ليس", "", "في من على و أو"),
    _language("persian|farsi|فارسی|fa|fas", "Arabic", "بله|آری|بلی / نه|خیر", "", "در از و یا"),
    _language("urdu|اردو|ur|urd", "Arabic", "ہاں|جی / نہیں", "", "اور یا"),
    _language("hebrew|עברית|he|heb", "Hebrew", "כן / לא|אין", "", "של או את"),
    _language(
        "hindi|हिन्दी|हिंदी|hi|hin|marathi|nepali",
        "Devanagari",
        "हाँ|हां|जी हाँ|जी हां|हो / नहीं|जी नहीं|नही|नाही|होइन",
        "",
        "और या",
    ),
    _language("bengali|bangla|বাংলা|bn|ben", "Bengali", "হ্যাঁ|হ্যা|হাঁ / না|নেই", "", "এবং বা"),
    _language("tamil|தமிழ்|ta|tam", "Tamil", "ஆம்|ஆமாம் / இல்லை"),
    _language("telugu|తెలుగు|te|tel", "Telugu", "అవును / లేదు|కాదు"),
    _language("thai|ไทย|ภาษาไทย|th|tha", "Thai", "ใช่|มี|ได้|ถูก|เป็น / ไม่|เปล่า"),
    _language(
        "chinese|中文|mandarin|汉语|漢語|zh|zho|cmn|cantonese",
        "Han",
        "是|对|對|有|正确|正確|能|可以|会|會 / 不|否|没|沒|無|无|未|错|錯",
    ),
    _language(
        "japanese|日本語|ja|jpn",
        "Hiragana Katakana Han",
        "はい|ええ|うん|そう|います|あります"
        " / いいえ|いや|いません|いない|ありません|ない|なし|無|違|見えません|見当たりません",
        "",
        "",
        "Hiragana Katakana",
    ),
    _language("korean|한국어|ko|kor", "Hangul Han", "네|예|맞|그렇|있 / 아니|아뇨|아닙|없|않", "", "", "Hangul"),
)
_BY_NAME = {name: language for language in LANGUAGES for name in language.names}


@cache
def language_of(name: str | None) -> Language | None:
    """Return the language that a plan names ("English", "Simplified Chinese", "pt-BR"), or None if none is known."""
    plain = unicodedata.normalize("NFKC", name or "").casefold().strip()
    if found := _BY_NAME.get(plain) or _BY_NAME.get(re.split(r"[-_]", plain)[0]):
        return found
    named = {_BY_NAME[word] for word in re.findall(r"\w+", plain) if len(word) > 3 and word in _BY_NAME}
    named |= {_BY_NAME[word] for word in ("中文",) if word in plain}
    return named.pop() if len(named) == 1 else None


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case, without signs and digits."""
    return (match[0] for match in re.finditer(r"[^\W\d_]+", text.lower()))
