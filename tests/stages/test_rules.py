"""Rules: each drops what it names, and keeps what only looks like it."""

# ruff: noqa: RUF001 (texts of many scripts)

from typing import Any

import pytest

from synthgen.config import prompt_pack
from synthgen.config.languages import LANGUAGES, language_of
from synthgen.config.selection import SelectConfig
from synthgen.dedup import plain_texts
from synthgen.stages.rules import mask, rules
from synthgen.tables import PAIRS, table

GOOD = "What colour is the large bus?"


def broken(question: str = GOOD, answer: str = "It is red.", **more: Any) -> set[str]:
    """Return the rules that a pair breaks."""
    rows = table([{"form": "brief", "language": "English", "question": question, "answer": answer, **more}], PAIRS)
    rows = rows.append_column("plain", plain_texts(rows.column("question")))
    return {name for name, matches in rules(rows, SelectConfig()) if mask(matches)[0]}


REFUSALS = [
    "I'm unable to determine the dog's name from the image.",
    "I am unable to tell what is written on the other side.",
    "I am not able to see the back of the sheet.",
    "I cannot see the picture behind the curtain.",
    "The image cannot be seen clearly in the lower left corner.",
    "I'm sorry, but the image does not contain that information.",
    "I cannot tell from the image whether the shop is open.",
    "I don't see a picture on that wall.",
    "No image of the owner is given on the page.",
    "It is not possible to determine the price from the image.",
    "I can't see the image on the screen clearly enough to read it.",
    "Sorry, the picture does not show the driver.",
    "The photo is too dark to say what the person holds.",
    "I cannot view the photo in the frame, because it is turned away.",
    "从图片中无法判断这只狗的名字。",
    "图片中没有显示价格。",
    "抱歉，图片中看不到司机。",
    "我无法从图片中看出车牌号码。",
    "この画像からは、犬の名前は分かりません。",
    "申し訳ありませんが、画像には価格が書かれていません。",
    "이미지에서는 개의 이름을 알 수 없습니다.",
    "No puedo ver la imagen reflejada en el espejo con claridad.",
    "La imagen no muestra el precio.",
    "Lo siento, pero en la imagen no se ve al conductor.",
    "Je ne peux pas voir l'image qui se trouve derrière le rideau.",
    "L'image ne permet pas de savoir comment s'appelle le chien.",
    "Das lässt sich auf dem Bild nicht erkennen.",
    "Ich kann das Bild hinter dem Vorhang nicht erkennen.",
    "A imagem não mostra o preço.",
    "Não consigo ver a imagem refletida no espelho.",
    "Non è possibile determinare il nome del cane dall'immagine.",
    "На изображении не видно номера автомобиля.",
    "Я не могу определить имя собаки по этому изображению.",
    "لا تظهر الصورة اسم الكلب.",
    "لا يمكن تحديد السعر من الصورة.",
    "तस्वीर में कीमत नहीं दिखाई गई है।",
    "Không thể biết tên của con chó từ hình ảnh.",
    "Görselden köpeğin adı anlaşılmıyor.",
    "Na zdjęciu nie widać ceny.",
    "Gambar ini tidak menunjukkan harganya.",
    "Op de foto is de prijs niet te zien.",
    "ภาพไม่ได้แสดงราคา",
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_an_answer_that_the_image_does_not_show_it_is_kept(answer: str) -> None:
    assert "meta" not in broken(answer=answer, form="short")


SELF_TALK = [
    "As an AI language model, I do not see images.",
    "I'm an AI assistant and have no eyes.",
    "As a large language model I have no access to it.",
    "I cannot see the image.",
    "I can't view images directly.",
    "I'm unable to view the image you provided.",
    "I am not able to access images.",
    "I don't see any image attached.",
    "I don't see an image. Could you share it?",
    "The image cannot be displayed.",
    "No image was provided.",
    "Please upload the image.",
    "I'm sorry, but I can't assist with that.",
    "Sorry, I can't help with identifying people.",
    "My training data does not cover it.",
    "作为一个人工智能语言模型，我没有视觉。",
    "我是一个AI助手。",
    "抱歉，我无法查看图片。",
    "对不起，我无法看到您提供的图片。",
    "请您上传图片。",
    "AIとして、私は画像を判断できません。",
    "申し訳ありませんが、画像を見ることができません。",
    "画像をアップロードしてください。",
    "저는 AI 언어 모델입니다.",
    "죄송하지만 이미지를 볼 수 없습니다.",
    "Como modelo de lenguaje, no tengo ojos.",
    "Lo siento, pero no puedo ver la imagen.",
    "Soy una inteligencia artificial.",
    "En tant qu'IA, je n'ai pas d'yeux.",
    "En tant que modèle de langage, je ne sais pas.",
    "Désolé, je ne peux pas voir l'image.",
    "Als KI-Modell habe ich keine Augen.",
    "Als Sprachmodell kann ich das nicht.",
    "Ich kann leider keine Bilder sehen.",
    "Como um modelo de linguagem, não sei.",
    "Não consigo ver a imagem.",
    "Come modello linguistico, non lo so.",
    "Mi dispiace, non posso vedere l'immagine.",
    "Как языковая модель, я этого не знаю.",
    "Извините, я не могу видеть изображение.",
    "Пожалуйста, загрузите изображение.",
    "بصفتي نموذج لغة، لا أعرف.",
    "عذرًا، لا يمكنني رؤية الصورة.",
    "मैं एक एआई हूँ।",
    "Tôi là một mô hình ngôn ngữ.",
    "Xin lỗi, tôi không thể xem hình ảnh.",
    "Bir yapay zeka modeli olarak bilmiyorum.",
    "Jako model językowy nie wiem.",
    "Sebagai model bahasa, saya tidak tahu.",
    "Als AI-taalmodel weet ik dat niet.",
    "ฉันไม่สามารถดูภาพได้",
    "I cannot assist with that request.",
    "I'm sorry, but I can't identify people in images.",
    "I can’t help with identifying people.",
    "I'm unable to help with that.",
    "There is no image attached.",
    "It seems you haven't uploaded an image.",
    "No image provided.",
    "Answer: I cannot see the image.",
    "Unfortunately, as an AI assistant I have no eyes.",
    "Lo siento, pero no puedo ayudar con eso.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Es tut mir leid, ich kann Ihnen dabei leider nicht helfen.",
    "Désolé, je ne peux pas vous aider avec cette demande.",
    "Mi dispiace, non posso aiutarti con questa richiesta.",
    "Desculpe, não posso ajudar com isso.",
    "Извините, я не могу с этим помочь.",
    "عذرًا، لا يمكنني مساعدتك في ذلك.",
    "申し訳ありませんが、お手伝いできません。",
    "抱歉，我无法协助您完成这个请求。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Het spijt me, ik kan u daar niet mee helpen.",
    "Przykro mi, nie mogę w tym pomóc.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Xin lỗi, tôi không thể giúp với yêu cầu này.",
    "Maaf, saya tidak dapat membantu permintaan itu.",
    "क्षमा करें, मैं इसमें मदद नहीं कर सकता।",
    "ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้",
    "Вибачте, я не можу з цим допомогти.",
    "Tyvärr, jag kan inte hjälpa till med det.",
]

OF_OTHERS = [
    "She works as an AI researcher.",
    'The sign reads "I am a chatbot".',
    "The form says: Please upload your photo.",
    "The screenshot shows the error 'No image was provided'.",
    "The visually impaired user cannot see the image.",
    "页面显示“请上传照片”。",
    "画面には「画像をアップロードしてください」と書かれています。",
    "Er tritt als KI-Forscher auf.",
    "According to the sign, what happens if no photo was provided?",
    "Elle travaille en tant qu'assistante, comme l'indique son badge.",
    "The app says that you haven't uploaded a photo.",
    "No photo is included on this page of the catalogue.",
    "There is no photo attached to the form.",
    "The man cannot help with the boxes, because he holds a child.",
    "I cannot identify the breed of the dog from the image.",
    "I can't help noticing the red hat.",
    "El niño no puede ayudar a su madre.",
    "Das Kind kann dem Mann nicht helfen.",
    "На табличке написано «Я не могу с этим помочь».",
    "彼は荷物が重いので手伝うことができません。",
]


@pytest.mark.parametrize("answer", OF_OTHERS)
def test_a_text_that_tells_what_others_say_or_do_is_kept(answer: str) -> None:
    assert "meta" not in broken(answer=answer, form="short") and "meta" not in broken(answer, "7", language=None)


@pytest.mark.parametrize("answer", SELF_TALK)
def test_a_model_that_speaks_of_itself_is_dropped_in_any_language(answer: str) -> None:
    assert "meta" in broken(answer=answer, form="short")


def test_a_text_that_is_copied_may_speak_of_models() -> None:
    assert "meta" not in broken(answer="As an AI language model, I do not see images.", form="text")


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ('What does the sign "', "English"),
        ('What does "SALE', "English"),
        ("What does the word “Ausfahrt", "English"),
        ("Which of the two (the left", "English"),
        ("What is written on the", "English"),
        ("What is the colour of a", "English"),
        ("What is on the left and", "English"),
        ("Que voit-on dans la rue et dans les", "French"),
        ("¿Cuál es el color de", "Spanish"),
        ("Welche Farbe hat der Hut einer", "German"),
        ("Что написано на", "Russian"),
        ("写着「出口", "Chinese"),
    ],
)
def test_a_question_that_breaks_off_is_dropped(question: str, language: str) -> None:
    assert "breaks_off" in broken(question, language=language)


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("translate the sign", "English"),
        ("What is she looking at", "English"),
        ("What is this made of", "English"),
        ("Describe the scene", "English"),
        ('What does the sign "SALE" mean?', "English"),
        ('What does the sign say: "SALE"', "English"),
        ('How wide is the 27" screen', "English"),
        ("Complete the line “To be or not to", "Klingon"),
        ("Is it a smile :(", "English"),
        ("Was ist das", "German"),
        ("Was hat die Frau an", "German"),
        ("Wie heißt „Exit“ auf Deutsch", "German"),
        ("Où est-il", "French"),
        ("这是谁的", "Chinese"),
        ("Which is option A", "English"),
        ("Which values lie in the interval [0, 1)", "English"),
        ("Which letter comes first, b or a", "English"),
        ('What does "the', "Klingon"),
    ],
)
def test_a_question_without_a_mark_at_its_end_is_kept(question: str, language: str) -> None:
    assert ("breaks_off" in broken(question, language=language)) == (language == "Klingon")


@pytest.mark.parametrize(
    "question",
    [
        "What colour is the bus? How many people are in it?",
        "What kind of damage is it, how serious is it, and can it still be used?",
        "Who is it, where does she stand and what does she hold?",
        "这辆车是什么颜色？车上有几个人？",
        "What does the link https://a.b/c lead to? Where does it stand?",
        "What is it, where does it stand and how old is it",
        "Is the bus red? Is the car in front of it blue or green?",
        "Welche Farbe hat der Bus? Wie viele Leute sitzen in ihm?",
        "De quelle couleur est le bus ? Combien de gens y sont assis ?",
        "ما لون الحافلة؟ كم عدد الركاب فيها؟",
    ],
)
def test_two_questions_in_one_are_dropped(question: str) -> None:
    assert "two_questions" in broken(question, language=None)


@pytest.mark.parametrize(
    "question",
    [
        "Is the cup full? Why?",
        "Is the cup full? Why or why not?",
        'What does the sign "Hungry? Come in and eat?" invite to?',
        "What is the name and address on the letter?",
        "Which is larger, the bus or the van?",
        "What do the two houses have in common, and where do they differ?",
        "When and where was the photo taken?",
        "What are the black and white stripes for?",
        "杯子是满的吗？为什么？",
        "Really?! What is that on the roof of the house?",
        "I am allergic to nuts. Which of these can I eat?",
        "What happens when the light turns red and the car does not stop?",
        "Is it a dog? How can you tell?",
        "Ist es ein Hund? Woran erkennt man das?",
        "¿Es un perro? ¿Cómo lo sabes?",
        "Est-ce un chien ? Comment le savez-vous ?",
        "これは犬ですか？どうしてわかりますか？",
        "È un cane? Come lo sai?",
        "É um cachorro? Como você sabe?",
        "Is dit een hond? Hoe weet je dat?",
        "Czy to jest pies? Skąd to wiadomo?",
        "Это собака? Как вы это определили?",
        "Bu bir köpek mi? Nereden anlaşılıyor?",
        "هل هذا كلب؟ كيف عرفت ذلك؟",
        "क्या यह कुत्ता है? आपको कैसे पता चला?",
        "이것은 개인가요? 어떻게 알 수 있나요?",
        "这是狗吗？你是怎么知道的？",
        "Đây là con chó phải không? Làm sao bạn biết?",
        "Apakah ini seekor anjing? Bagaimana Anda tahu?",
        "What does the link https://a.b/c?id=3 lead to?",
        "What does the line x = a ? b : c do, and what is x afterwards?",
        "Where is it? Left, right or in the middle of the picture?",
        "¿Dónde está el perro? ¿A la izquierda o a la derecha?",
    ],
)
def test_one_question_is_kept_however_long(question: str) -> None:
    assert "two_questions" not in broken(question, language=None)


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("图中有一辆红色的公交车停在路边。", "English"),
        ("Это красный автобус на остановке возле дома.", "English"),
        ("これは赤いバスです。道の横に止まっています。", "English"),
        ("这是一辆停在路边的红色公交车。", "Japanese"),
        ("これは赤いバスです。道の横に止まっています。", "Chinese"),
        ("这是一辆停在路边的红色公交车旁边有人。", "Korean"),
        ("The red bus is parked at the side of the road, and there are people in it.", "Chinese"),
        ("The red bus is parked at the side of the road, and there are people in it.", "Russian"),
        ("The red bus stands at the side of the road, and there are people in it.", "German"),
        ("Der rote Bus steht am Rand und ist nicht voll, wie das Bild zeigt.", "English"),
        ("Le bus rouge est dans la rue et les gens sont dans le bus.", "English"),
        ("El autobús rojo está en la calle y hay personas que lo esperan.", "English"),
        ("O ônibus vermelho está na rua e não há pessoas em uma das portas.", "English"),
        ("Il bus rosso è nella strada e questo non è della città.", "English"),
        ("Xe buýt màu đỏ đang đỗ và có những người trong xe.", "English"),
    ],
)
def test_a_text_in_another_language_than_planned_is_dropped(answer: str, language: str) -> None:
    question = "" if language != "English" else GOOD
    assert "wrong_language" in broken(question, answer, language=language)
    assert "wrong_language" in broken(answer, "7", form="short", language=language)
    assert "wrong_language" not in broken(question, answer, form="text", language=language)


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("The red bus is parked at the side of the road.", "English"),
        ('The sign reads "图中有一辆红色的公交车停在路边".', "English"),
        ("The sign says 出口, which means exit.", "English"),
        ("It is the Château de la Rochefoucauld et de la Tour.", "English"),
        ("Red and white stripes.", "English"),
        ("`for i in range(10): print(i)` prints ten numbers.", "Russian"),
        ("BMW X5 xDrive40i", "Chinese"),
        ("iPhone 15 Pro Max 256 GB", "Chinese"),
        ("牌子上写着 “The quick brown fox jumps over the lazy dog and that is it”。", "Chinese"),
        ("图中的汽车是BMW X5。", "Chinese"),
        ("優衣庫の店です。", "Japanese"),
        ("東京駅", "Japanese"),
        ("サイン", "Japanese"),
        ("이것은 버스입니다.", "Korean"),
        ("Ein roter Bus.", "German"),
        ("Der Schriftzug lautet The North Face.", "German"),
        ("La voiture est rouge.", "French"),
        ("El coche es rojo y está en la calle.", "Spanish"),
        ("O carro está na rua.", "Portuguese"),
        ("12 + 30 = 42", "Chinese"),
        ("Der rote Bus steht am Rand und ist nicht voll, wie das Bild zeigt.", "Klingon"),
        ("Crveni autobus je na ulici.", "Serbian"),
        ("$\\frac{a}{b} = c$ and so on", "Hindi"),
        ("Museo Nacional del Prado y Palacio de la Moneda en Madrid", "English"),
        ("東京都渋谷区神南一丁目二番三号", "Japanese"),
        ("Vincent van Gogh, Johannes Vermeer van Delft en Jan van Eyck.", "English"),
    ],
)
def test_names_code_numbers_and_quotations_are_in_no_wrong_language(answer: str, language: str) -> None:
    assert "wrong_language" not in broken("", answer, language=language)


@pytest.mark.parametrize(
    "answer",
    [
        "Other; " * 30,
        "The list is: " + "Other; " * 30,
        "系统修复完成。" * 20,
        "The bus is red. It stands at the stop. " * 6,
        "It is red. " + "the side of " * 12 + "the s",
        "大丈夫なのですよね" + "よね" * 60,
        "9" * 200,
    ],
)
def test_an_answer_that_ends_in_a_loop_is_dropped(answer: str) -> None:
    assert "loops" in broken(answer=answer, language=None)


@pytest.mark.parametrize(
    "answer",
    [
        "no no no no",
        "Ha ha ha ha!",
        "| name | age |\n|---|---|\n| a | 1 |\n| b | 1 |\n| c | 1 |\n| d | 1 |",
        "Please fill in: " + "_" * 120,
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        "0 0 0 0 0 0 0 0 0 0 0 0",
        "The first bar is 5, the second bar is 6, the third bar is 7, the fourth bar is 8, the fifth bar is 9.",
        "Red, red, red, and then a long explanation of the reason for which there is so much red in the picture.",
    ],
)
def test_an_answer_that_repeats_a_little_is_kept(answer: str) -> None:
    assert "loops" not in broken(answer=answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("The capital of the marked country", "The capital of the marked country is Paris."),
        ("Name of the shop", "Name of the shop: Joe's."),
        ("店名", "店名：山田屋"),
    ],
)
def test_an_answer_that_completes_what_is_asked_is_kept(question: str, answer: str) -> None:
    assert "repeats_question" not in broken(question, answer, language=None)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (GOOD, f"{GOOD} It is red."),
        ("Describe the scene", "Describe the scene."),
        ("Describe the scene", "Describe the scene\n\nA dog runs."),
        ("Describe the scene.", "Describe the scene. A dog runs."),
    ],
)
def test_an_answer_that_repeats_the_question_is_dropped(question: str, answer: str) -> None:
    assert "repeats_question" in broken(question, answer)


SIBLINGS = {
    "Ukrainian": "Якого кольору великий автобус, що стоїть перед вокзалом, і скільки в ньому місць?",
    "Russian": "Какого цвета большой автобус, который стоит рядом с этим вокзалом, и сколько в нём людей?",
    "Persian": "رنگ اتوبوس بزرگی که جلوی ایستگاه ایستاده چیست؟",
    "Arabic": "ما لون الحافلة الكبيرة التي تقف أمام المحطة؟",
    "Urdu": "اسٹیشن کے سامنے کھڑی بڑی بس کا رنگ کیا ہے؟",
    "Spanish": "¿De qué color es el autobús grande que está delante de la estación?",
    "French": "Quelle est la couleur du grand bus qui est devant la gare ?",
    "Romanian": "Ce culoare are autobuzul mare care este în fața gării și nu pleacă?",
    "Italian": "Di che colore è il grande autobus che si trova davanti alla stazione e non parte?",
}


@pytest.mark.parametrize(
    ("planned", "written"),
    [
        ("Ukrainian", "Russian"), ("Russian", "Ukrainian"), ("Persian", "Arabic"), ("Urdu", "Arabic"),
        ("Arabic", "Persian"), ("Arabic", "Urdu"), ("Portuguese", "Spanish"), ("Romanian", "French"),
        ("Italian", "Spanish"), ("French", "Spanish"), ("Catalan", "Italian"),
    ],
)  # fmt: skip
def test_a_language_that_shares_script_and_words_with_the_planned_one_is_another(planned: str, written: str) -> None:
    assert "wrong_language" in broken(SIBLINGS[written], language=planned)


def test_one_word_again_and_again_is_no_other_language() -> None:
    assert "wrong_language" not in broken("Hava sakin mi, neşeli mi, kasvetli mi, gergin mi?", language="Turkish")


@pytest.mark.parametrize("language", SIBLINGS)
def test_a_language_is_not_taken_for_one_that_shares_its_script_and_words(language: str) -> None:
    assert "wrong_language" not in broken(SIBLINGS[language], SIBLINGS[language], language=language)


def test_a_question_may_ask_for_an_answer_on_a_sheet_but_not_bring_its_own() -> None:
    assert "answer_in_question" not in broken('What is written after "Answer:" on the sheet?')
    assert "answer_in_question" not in broken("写着“答案：”的地方是什么？", language="Chinese")
    assert "answer_in_question" in broken("What is it? Answer: a dog")


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("这是什么颜色？答案：红色", "Chinese"),
        ("これは何ですか？\n答え：犬", "Japanese"),
        ("이것은 무엇입니까? 정답: 개", "Korean"),
        ("Welche Farbe hat der Bus? Antwort: rot", "German"),
        ("Quelle est la couleur ? Réponse : rouge", "French"),
        ("¿De qué color es? (Respuesta: rojo)", "Spanish"),
        ("Какого цвета автобус? Ответ: красный", "Russian"),
        ("ما لون الحافلة؟ الإجابة: أحمر", "Arabic"),
    ],
)
def test_a_question_of_any_language_does_not_bring_its_answer(question: str, language: str) -> None:
    assert "answer_in_question" in broken(question, language=language)


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ("| N/A | N/A | N/A |\n", "detailed"),
        ("n/a & n/a & n/a & n/a \\\\\n", "detailed"),
        ("<tr><td>none</td><td>none</td></tr>", "detailed"),
        ("SALE ", "text"),
        ("Name: ________ Date: ________\n", "text"),
    ],
)
def test_rows_of_tables_and_copied_texts_may_repeat_but_not_without_end(row: str, form: str) -> None:
    assert "loops" not in broken(answer="Head:\n" + row * 15, form=form)
    assert "loops" in broken(answer="Head:\n" + row * 90, form=form)


@pytest.mark.parametrize(
    ("answer", "truth", "language"),
    [
        ("Yes.", "yes", "English"),
        ("yes, two of them", "yes", "English"),
        ("**No**, there is none.", "no", "English"),
        ("No", "no", "English"),
        ("The bars are 3 and 5.\n\nAnswer: no", "no", "English"),
        ("是的，有一只狗。", "yes", "Chinese"),
        ("有。", "yes", "Chinese"),
        ("没有。", "no", "Simplified Chinese"),
        ("不是。", "no", "zh-CN"),
        ("はい、います。", "yes", "Japanese"),
        ("いいえ。", "no", "Japanese"),
        ("네, 있습니다.", "yes", "Korean"),
        ("아니요.", "no", "Korean"),
        ("아뇨, 없습니다.", "no", "Korean"),
        ("아닙니다.", "no", "Korean"),
        ("있습니다.", "yes", "Korean"),
        ("いません。", "no", "Japanese"),
        ("ありません。", "no", "Japanese"),
        ("いないです。", "no", "Japanese"),
        ("います。", "yes", "Japanese"),
        ("あります。", "yes", "Japanese"),
        ("Sí, hay uno.", "yes", "Spanish"),
        ("No, no hay.", "no", "Spanish"),
        ("Oui.", "yes", "French"),
        ("Nein.", "no", "German"),
        ("Ja, einer.", "yes", "Deutsch"),
        ("Нет, не видно.", "no", "Russian"),
        ("نعم، يوجد.", "yes", "Arabic"),
        ("नहीं।", "no", "Hindi"),
        ("jIyajbe'", "yes", "Klingon"),
    ],
)
def test_an_answer_with_the_planned_yes_or_no_is_kept(answer: str, truth: str, language: str) -> None:
    assert "not_as_planned" not in broken(answer=answer, truth=truth, language=language)
    other = {"yes": "no", "no": "yes"}[truth]
    assert ("not_as_planned" in broken(answer=answer, truth=other, language=language)) == (language != "Klingon")


def test_the_option_counts_where_yes_or_no_is_chosen_by_letter() -> None:
    options = ["Yes", "No", "Only one", "All"]
    assert "not_as_planned" not in broken(answer="B", form="choice", options=options, truth="no")
    assert "not_as_planned" in broken(answer="A", form="choice", options=options, truth="no")


@pytest.mark.parametrize(
    "options",
    [
        ["Red", "red", "blue", "green"],
        ["red", "red.", "blue", "green"],
        ["red", "blue (correct)", "green", "pink"],
        ["red", "blue ✓", "green", "pink"],
        ["red", "**blue**", "green", "pink"],
        ["red ✗", "blue", "green ❌", "pink ✗"],
        ["red (wrong)", "blue", "green (incorrect)", "pink (wrong)"],
        ["红（错误）", "蓝", "绿（错误）", "灰（错误）"],
        ["red", "Correct: blue", "green", "pink"],
        ["red", "blue <-- correct answer", "green", "pink"],
        ["red", "blue", "green", "red\u200b"],
        ["café", "blue", "green", "cafe\u0301"],
        ["red", "blue", "green", "pink Answer: B"],
        ["rot", "blau (richtig)", "grün", "rosa"],
        ["红", "蓝（正确）", "绿", "粉"],
    ],
)
def test_options_that_say_the_same_or_which_is_right_are_a_broken_choice(options: list[str]) -> None:
    assert "broken_choice" in broken(answer="B", form="choice", options=options)


@pytest.mark.parametrize(
    "options",
    [
        ["a", "A", "b", "B"],
        ["✓", "✗", "○", "△"],
        ["auto-correct", "spell check", "search", "replace"],
        ["**red**", "**blue**", "**green**", "**pink**"],
        ["x²", "x2", "2x", "x"],
        ["SALE", "Answer: none", "correct", "right"],
        ["1.5", "15", "1,5", "-15"],
        ["turn left", "turn right", "go on", "stop"],
        ["one (left)", "two (right)", "three", "four"],
    ],
)
def test_options_that_only_look_alike_or_marked_are_kept(options: list[str]) -> None:
    assert "broken_choice" not in broken(answer="B", form="choice", options=options)


def test_an_answer_breaks_the_form_that_its_request_asks_for() -> None:
    three = '{"bullets": [3, 3]}'
    assert "breaks_constraint" not in broken(answer="- a dog\n- a lawn\n- a fence", form="text", constraint=three)
    assert "breaks_constraint" in broken(answer="A dog, a lawn and a fence.", form="text", constraint=three)
    assert "breaks_constraint" not in broken(answer="A dog, a lawn and a fence.", form="text")


@pytest.mark.parametrize("answer", ["There is a dog.", "Nothing", "Yesterday", "Not sure", "Nobody"])
def test_an_answer_that_begins_with_neither_yes_nor_no_is_not_as_planned(answer: str) -> None:
    assert "not_as_planned" in broken(answer=answer, truth="yes")
    assert "not_as_planned" in broken(answer=answer, truth="no")


@pytest.mark.parametrize(
    ("question", "is_short"),
    [("这是什么？", False), ("这是谁？", False), ("何人？", True), ("Why?", True), ("啥？", True), ("왜?", True)],
)
def test_letters_of_scripts_without_spaces_count_twice(question: str, is_short: bool) -> None:
    assert ("question_too_short" in broken(question, language=None)) == is_short


def test_languages_are_found_by_any_of_their_names() -> None:
    for language in LANGUAGES:
        assert all(language_of(name) is language for name in language.names)
    chinese = language_of("zh")
    assert chinese and all(language_of(name) is chinese for name in ("Simplified Chinese", "zh_TW", "繁體中文"))
    assert language_of("Brazilian Portuguese") is language_of("pt-BR") is language_of("português")
    assert language_of("Klingon") is language_of(None) is language_of("English or French") is None


@pytest.mark.parametrize("name", ["everyday", "drawn"])
def test_no_example_of_a_shipped_type_breaks_a_rule_for_questions(name: str) -> None:
    examples = [text for kind in prompt_pack.load(name).types.values() for text in kind.examples]
    rows = table([{"form": "brief", "language": "English", "question": text} for text in examples], PAIRS)
    rows = rows.append_column("plain", plain_texts(rows.column("question")))
    of_answers = {"empty_answer", "not_as_planned"}
    faults = {
        rule: [text for text, is_broken in zip(examples, mask(matches), strict=True) if is_broken]
        for rule, matches in rules(rows, SelectConfig())
        if rule not in of_answers
    }
    assert not {rule: texts for rule, texts in faults.items() if texts}
