"""A model that speaks of itself or its task instead of the image, in many languages.

An answer that says what the image does not show is a right one, so a phrase counts only where the model is its subject
("as a language model"), or where it says that it got or saw no image at all. "I cannot see the image." does so; "I
cannot see the back of the sheet." and "The image does not show it." do not.
"""

# ruff: noqa: RUF001 (phrases of many scripts)

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from synthgen.stages.rules.quoted import QUOTED
from synthgen.stages.rules.refusals import REFUSALS

_BEFORE, _CLOSE = 60, 4  # characters before a phrase: of its clause, and in which 'I' is its own
# After a phrase about the image as a whole: its end, or words about sending or opening it.
_END = r"(?:\s*(?:$|[.,;:!。，、！؛،।*\"')\]]))"
_MODEL = r"(?:large |visual |multimodal |text-based )*(?:language|vision) model"
_AI = rf"(?:ai|a\.i\.|artificial intelligence|{_MODEL}|llm|chatbot)"
_IMAGE = r"(?:images?|pictures?|photos?|photographs?|attachments?)"
_AND_SO = (
    rf"(?:{_END}| (?:directly|itself|you|that you|here|at all|provided|attached|uploaded|shared|or\b|and (?:so|there)))"
)

# The same behind "no image was provided".
_TO_ME = (
    rf"(?:{_END}| (?:so|and|for me|yet|here)\b| (?:for|to|with|in) (?:this|your|the) "
    r"(?:question|request|message|prompt|conversation|chat))"
)

_PHRASES = (
    # English
    rf"\bas an? (?:\w+ )?{_AI}(?: model| assistant| system| chatbot)?\s*(?:$|[,.;:!]|i\b|without\b)",
    rf"\bi(?:'m|’m| am) (?:just |only )?an? (?:\w+ )?{_AI}\b",
    rf"\b(?:can(?:'|’)?t|cannot|can not|could not|couldn(?:'|’)t|unable to|not able to|do not have the ability "
    rf"to|don(?:'|’)t have the ability to)"
    rf" (?:directly |actually )?(?:see|view|access|open|display|process|analy[sz]e|load|interpret|do not|don(?:'|’)t)"
    rf" (?:or \w+ )?(?:(?:the|this|any|that|your|an?|these|those|external) )?{_IMAGE}{_AND_SO}",
    rf"\bi (?:do not|don(?:'|’)t) (?:see|have access to|have) (?:(?:the|this|any|that|your|an) )?{_IMAGE}{_AND_SO}",
    rf"\b(?:the|this|your) {_IMAGE} (?:can(?:'|’)?t|cannot|could not) be (?:accessed|opened|displayed|loaded)\b",
    rf"\b(?:the|this|your) {_IMAGE} (?:can(?:'|’)?t|cannot|could not) be (?:seen|viewed){_END}",
    rf"\b(?:no|any) {_IMAGE} (?:was|were|is|has been|have been) (?:provided|attached|given|uploaded|included|shared)"
    rf"{_TO_ME}",
    rf"\b(?:there (?:is|was|are|were) |there(?:'|’)s )?(?:no|any) {_IMAGE} "
    rf"(?:provided|attached|given|uploaded|included|shared){_TO_ME}",
    rf"\byou (?:have not|haven(?:'|’)t|did not|didn(?:'|’)t) (?:yet )?(?:upload|attach|provid|shar|includ|sen[dt])\w*"
    rf" (?:(?:me|the|an?|any|your) )*{_IMAGE}\b",
    rf"\bplease (?:provide|upload|share|attach|send|re-?upload)(?: me)? (?:(?:the|an?|your|this|that) )?{_IMAGE}\b",
    r"\b(?:i(?:'m|’m| am) sorry|sorry|i apologi[sz]e),?(?: but)? i (?:can(?:'|’)?t|cannot|can not|am unable to|"
    r"am not able to|won(?:'|’)t)"
    r" (?:assist|help|comply|fulfil|do that|continue)",
    r"\bi(?:'m|’m| am)? (?:can(?:'|’)?t|cannot|can not|unable to|not able to|won(?:'|’)t) "
    rf"(?:(?:help|assist)(?: you)?(?: with\b|{_END})|comply\b"
    r"|identify (?:(?:real|specific|any|the) )*(?:people|persons?|individuals?|faces|someone|anyone)\b)",
    r"\bmy (?:training data|knowledge cut-?off|programming)\b",
    r"\bi (?:was|am) (?:trained|programmed) (?:on|to|by)\b",
    # Chinese
    r"作为(?:一个|一名|一款|一種|一个由)?.{0,6}(?:AI|人工智能|语言模型|語言模型|大模型|智能助手)",
    r"我(?:只)?是(?:一个|一名|一款|由)?.{0,6}(?:AI|人工智能|语言模型|語言模型|大模型|智能助手)",
    (
        r"(?:无法|無法|不能|没办法)(?:直接)?(?:查看|看到|看见|访问|打开|处理|浏览|檢視)(?:到)?(?:您|你)?(?:所)?(?:提供|上传|发送|分享)?的?(?:这张|该|任何|"
        r"此)?(?:图片|图像|照片|圖片|圖像)(?:$|[。，,.！!；;]|内容|的内容|或)"
    ),
    r"(?:请|請)(?:您|你)?(?:重新)?(?:提供|上传|上傳|发送|描述)(?:一下)?(?:这张|该|一张|相关的?|图片的|您的)?(?:图片|图像|照片|圖片)",
    r"(?:抱歉|对不起|對不起).{0,4}我?(?:无法|無法|不能)(?:协助|协助您|帮助您|提供帮助|满足(?:您|你)的)",
    r"没有(?:收到|看到)(?:您|你)?(?:提供|上传|发送)?的?(?:任何)?(?:图片|图像|照片)(?:$|[。，,.！!])",
    # Japanese
    r"(?:AI|人工知能|言語モデル|大規模言語モデル)(?:アシスタント|モデル)?(?:として|なので|ですので|であるため)",
    r"私は.{0,8}(?:AI|人工知能|言語モデル)",
    r"画像を(?:直接)?(?:見る|表示する|確認する|閲覧する|開く|処理する)?(?:こと(?:が|は))?(?:表示|確認|閲覧|処理)?(?:でき(?:ません|ない)|見られません|見えません)",
    r"画像を(?:もう一度)?(?:提供|アップロード|添付|共有|送信)して(?:ください|いただ)",
    # Korean
    r"(?:AI|인공지능|언어 ?모델|인공 지능)(?: 모델| 어시스턴트)?(?:로서|로써|이기 때문|이므로|이라|입니다)",
    r"(?:이미지|사진|그림)를? ?(?:직접 )?(?:볼|확인할|열|처리할|열람할) 수 (?:없|가 없)",
    r"(?:이미지|사진)를 (?:다시 )?(?:제공|업로드|첨부|공유)해 ?(?:주|주시)",
    # Spanish, Portuguese, Italian, French
    (
        r"\bcomo (?:un |una |um |uma )?(?:modelo de (?:lenguaje|ia|inteligencia|linguagem)|ia\b|inteligencia "
        r"artificial|inteligência artificial|asistente (?:de ia|virtual)|assistente (?:de ia|virtual))"
    ),
    (
        r"\b(?:soy|sou) (?:solo |apenas )?(?:un|una|um|uma) (?:modelo de|ia\b|inteligencia artificial|inteligência "
        r"artificial|asistente|assistente)"
    ),
    (
        rf"\bno (?:puedo|tengo la capacidad de|soy capaz de) (?:ver|acceder a|abrir|visualizar|procesar|analizar) "
        rf"(?:directamente )?(?:(?:la|las|esta|tu|su|el) )?(?:imagen|imágenes|foto|fotos|fotografía){_END}"
    ),
    r"\bno se (?:me )?ha (?:proporcionado|adjuntado|enviado) ninguna (?:imagen|foto)",
    (
        r"\b(?:por favor,? )?(?:sube|suba|adjunta|adjunte|proporciona|proporcione|comparte|comparta) (?:la|una|tu|"
        r"su) (?:imagen|foto)"
    ),
    (
        rf"\bnão (?:consigo|posso|sou capaz de) (?:ver|visualizar|acessar|aceder a|abrir|processar|analisar) "
        rf"(?:diretamente )?(?:(?:a|as|esta|essa|sua) )?(?:imagem|imagens|foto|fotos){_END}"
    ),
    r"\bnenhuma (?:imagem|foto) foi (?:fornecida|anexada|enviada|carregada)",
    r"\bpor favor,? (?:envie|forneça|anexe|carregue|compartilhe) (?:a|uma|sua) (?:imagem|foto)",
    (
        r"\b(?:come|in quanto|essendo) (?:un |una |un['’])?(?:modello (?:linguistico|di linguaggio|di ia)|ia\b|"
        r"intelligenza artificiale|assistente (?:ia|virtuale))"
    ),
    r"\bsono (?:solo )?(?:un |una |un['’])(?:modello (?:linguistico|di)|ia\b|intelligenza artificiale|assistente)",
    (
        rf"\bnon (?:posso|riesco a|sono in grado di) (?:vedere|visualizzare|accedere al?|aprire|elaborare) "
        rf"?(?:(?:l['’]|la |le |questa |alcuna ))?(?:immagine|immagini|foto){_END}"
    ),
    r"\bnessuna (?:immagine|foto) è stata (?:fornita|allegata|caricata)",
    (
        r"\ben tant qu(?:['’]|e )(?:une? )?(?:ia\b|intelligence artificielle|assistant|modèle (?:de langage|d['’]ia|"
        r"linguistique)|modèle de)"
    ),
    (
        r"\bje (?:ne )?suis (?:qu['’])?(?:une? )?(?:ia\b|intelligence artificielle|modèle (?:de langage|d['’]ia)|"
        r"assistant)"
    ),
    (
        rf"\bje ne (?:peux|suis pas en mesure de|parviens) (?:pas )?(?:à )?(?:voir|accéder à|ouvrir|visualiser|"
        rf"afficher|traiter|consulter) (?:directement )?(?:l['’]|les |la |cette |votre |d['’]|des )?(?:image|images|"
        rf"photo|photos){_END}"
    ),
    r"\baucune (?:image|photo) n['’]a été (?:fournie|jointe|envoyée|téléchargée)",
    r"\bveuillez (?:fournir|télécharger|joindre|partager|envoyer|transmettre) (?:l['’]|une |votre )(?:image|photo)",
    # German, Dutch
    (
        r"\bals (?:eine? |ein )?(?:ki\b|ki-\w+|künstliche intelligenz|sprachmodell|großes sprachmodell|"
        r"textbasiert\w+|ai\b|ai-\w+|(?:groot )?taalmodel|kunstmatige intelligentie)"
    ),
    r"\bich bin (?:nur )?(?:eine? )(?:ki\b|ki-\w+|künstliche intelligenz|(?:großes )?sprachmodell)",
    (
        rf"\bich kann (?:leider )?(?:das|die|dieses|keine|ihr|dein|diese) (?:bild|bilder|foto|fotos) (?:leider "
        rf")?(?:nicht )?(?:direkt )?(?:sehen|öffnen|anzeigen|einsehen|betrachten|abrufen|verarbeiten|"
        rf"analysieren){_END}"
    ),
    r"\bes wurde kein (?:bild|foto) (?:bereitgestellt|hochgeladen|angehängt|übermittelt|beigefügt|mitgeschickt)",
    (
        r"\bbitte (?:laden sie|lade|stellen sie|schicken sie|senden sie|teilen sie) (?:mir )?(?:das|ein|ihr|dein) "
        r"(?:bild|foto)"
    ),
    r"\bik ben (?:slechts )?een (?:ai\b|ai-\w+|taalmodel|kunstmatige)",
    (
        rf"\bik kan (?:helaas )?(?:de |deze |geen |je |uw )?(?:afbeelding|afbeeldingen|foto|foto's) (?:helaas "
        rf")?(?:niet )?(?:zien|openen|bekijken|verwerken){_END}"
    ),
    # Polish, Turkish, Vietnamese, Indonesian
    (
        r"\bjako (?:model (?:językowy|ai)|sztuczna inteligencja|ai\b|asystent ai)|\bjestem (?:tylko )?(?:modelem "
        r"(?:językowym|ai)|sztuczną inteligencją)"
    ),
    (
        rf"\bnie (?:mogę|jestem w stanie|potrafię) (?:zobaczyć|wyświetlić|otworzyć|przeanalizować) (?:tego |żadnego "
        rf")?(?:obrazu|obrazka|zdjęcia){_END}"
    ),
    (
        r"\bbir (?:yapay zek[aâ]|(?:büyük )?dil modeli)\b.{0,20}olarak|\bben (?:sadece )?bir (?:yapay zek|(?:büyük "
        r")?dil model)"
    ),
    (
        rf"(?:görseli|görselleri|resimleri|görüntüyü|görüntüleri) (?:doğrudan )?(?:göremiyorum|göremem|açamıyorum|"
        rf"görüntüleyemiyorum|görüntüleyemem){_END}"
    ),
    r"(?:là|với tư cách là) (?:một )?(?:mô hình (?:ngôn ngữ|ai)|ai\b|trí tuệ nhân tạo|trợ lý ai)",
    rf"tôi không thể (?:xem|nhìn thấy|truy cập|mở|xử lý) (?:được )?(?:hình ảnh|ảnh|bức ảnh)(?: này| đó| nào)?{_END}",
    r"vui lòng (?:cung cấp|tải lên|gửi|chia sẻ) (?:lại )?(?:một )?(?:hình ảnh|ảnh|bức ảnh)",
    r"\b(?:sebagai|saya adalah|saya hanyalah) (?:sebuah )?(?:model bahasa|ai\b|kecerdasan buatan|asisten ai)",
    (
        rf"\bsaya tidak (?:dapat|bisa) (?:melihat|mengakses|membuka|memproses) (?:gambar|foto)(?: ini| tersebut| "
        rf"itu)?{_END}"
    ),
    # Russian, Ukrainian
    (
        r"как (?:большая |мультимодальная )?(?:языковая модель|ии\b|искусственный интеллект|нейросеть|модель ии)|"
        r"(?:я|мені?)[ —-]{1,3}(?:всего лишь |лише )?(?:языковая модель|ии\b|искусственный интеллект|мовна модель)|"
        r"як (?:велика )?(?:мовна модель|штучний інтелект)"
    ),
    (
        rf"я не (?:могу|умею|в состоянии) (?:видеть|увидеть|просматривать|просмотреть|открыть|открывать|"
        rf"анализировать) (?:это |эту |ваше |вашу |никакие )?(?:изображени[еяй]|картинк[уи]|фотографи[юи]|"
        rf"фото){_END}"
    ),
    (
        r"(?:загрузите|предоставьте|прикрепите|отправьте|пришлите),? (?:пожалуйста,? )?(?:само |это |ваше "
        r")?(?:изображение|картинку|фото)"
    ),
    # Arabic, Persian, Hindi, Thai
    (
        r"(?:بصفتي|باعتباري|كوني|أنا) (?:مجرد )?(?:نموذج|ذكاء اصطناعي|مساعد ذكاء)|كنموذج (?:لغوي|ذكاء)|به عنوان یک "
        r"(?:مدل|هوش مصنوعی)"
    ),
    rf"لا (?:يمكنني|أستطيع|أقدر على) (?:رؤية|عرض|فتح|مشاهدة|الوصول إلى) (?:هذه )?(?:الصورة|الصور|أي صورة){_END}",
    r"(?:يرجى|الرجاء|من فضلك) (?:تحميل|إرفاق|تقديم|مشاركة|رفع|إرسال) (?:الصورة|صورة)",
    r"(?:एक|मैं) (?:एक )?(?:बड़ा )?(?:एआई|AI|भाषा मॉडल|कृत्रिम बुद्धिमत्ता)",
    r"(?:छवि|चित्र|तस्वीर|छवियों|छवियाँ)(?: को)? (?:सीधे )?(?:नहीं देख|देखने में असमर्थ|नहीं खोल|देख नहीं)",
    r"कृपया (?:छवि|चित्र|तस्वीर|एक छवि|एक तस्वीर)(?: को)? (?:अपलोड|प्रदान|साझा|भेज)",
    (
        r"ในฐานะ.{0,6}(?:โมเดลภาษา|แบบจำลองภาษา|AI|ปัญญาประดิษฐ์)|(?:ไม่สามารถ|ไม่อาจ)(?:ดู|เห็น|เปิด|"
        r"เข้าถึง)(?:รูปภาพ|ภาพ|รูป)(?:ได้|นี้)*(?:$|[ .])"
    ),
)
META = "(?:" + "|".join((*_PHRASES, *REFUSALS)) + ")"
_META = re.compile(META, re.IGNORECASE)
# What others say is told: a phrase counts where a sentence or a clause begins with it, but for some words before it,
# or where it says "I" itself.
_LEADS = re.compile(
    r"(?:^|[.!?,;。！？，；、،؛।…\n–—]|\b(?:but|and|so|sorry|pero|mas|mais|ma|aber|но|maar|ale|ama|nhưng|tapi|namun)\b)[\s*_>#(-]*"
    r"(?:(?:i|we|am|i['’]m|are|that|directly|unfortunately|currently|sorry|it (?:seems|appears|looks)(?: like| that)?"
    r"|ich|leider|je|yo|eu|io|я|ik|helaas|tôi|saya|ben|नहीं|मैं)\b\s*|ฉัน|ผม|ดิฉัน|ขออภัย(?:ค่ะ|ครับ)?"
    r"|我们?|本人|저는 ?|AI ?|인공지능 ?"
    r"|죄송(?:하지만|합니다만) ?|私は|私には|申し訳(?:ありません|ございません)が|を|का |की |के )*$",
    re.IGNORECASE,
)
_FIRST = re.compile(
    r"\b(?:i|i['’]m|my|me|we|ich|je|yo|eu|io|я|ik|tôi|saya|ben|\w+(?:amam|emem|m[ıi]yorum))\b|我|私|お手伝い|お答え|저|드릴|मैं|ฉัน|ผม",
    re.IGNORECASE,
)


def speaks_of_itself(texts: Any) -> npt.NDArray[np.bool_]:
    """Return where a text has such a phrase outside of quotations."""
    found = np.asarray(pc.fill_null(pc.match_substring_regex(texts, META, ignore_case=True), False), dtype=bool)
    candidates = np.flatnonzero(found)
    found = np.zeros(len(found), bool)
    found[candidates] = [_is_own(QUOTED.sub("“”", text)) for text in texts.take(candidates).to_pylist()]
    return found


def _is_own(text: str) -> bool:
    """Return whether a text says such a phrase for itself."""
    for match in _META.finditer(text):
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        if _FIRST.search(match[0]) or _FIRST.search(before[-_CLOSE:]) or _LEADS.search(before):
            return True
    return False
