"""Whether an answer has the form that its request asks for; a doubtful one passes."""

import pytest

from synthgen.config.constraints import Constraint

THREE = "- A dog runs.\n- It is brown.\n- The lawn is wet."
TWO = "A brown dog, well-fed, runs over the wet lawn near St. Mark's. It has 3.5 tags on its collar!"


@pytest.mark.parametrize(
    ("constraint", "answer"),
    [
        ({"bullets": 3}, THREE),
        ({"bullets": 3}, "1. A dog.\n2. A lawn.\n3. A fence."),
        ({"bullets": 2}, "**Dog on a lawn**\n• A dog runs.\n• The lawn is wet."),
        ({"numbered": 4}, "1) dog\n2) lawn\n3) fence\n4) sky"),
        ({"numbered": 2}, "一、狗在跑。\n二、草是湿的。"),
        ({"words": [0, 20]}, "A brown dog runs over a wet lawn."),
        ({"words": 5}, "Brown dog on wet lawn."),
        ({"words": 5}, "Well-fed dog on wet lawn."),
        ({"words": 6}, "Well-fed dog on wet lawn."),
        ({"words": [0, 6]}, "1. brown dog\n2. wet lawn\n3. old fence"),
        ({"letters": [0, 20]}, "一只棕色的狗在湿草地上奔跑。"),
        ({"characters": [0, 40]}, "A brown dog runs over a wet lawn."),
        ({"sentences": 2}, TWO),
        ({"sentences": 1}, "a brown dog on a lawn"),
        ({"sentences": 2}, "一只狗在跑。草是湿的。"),
        ({"sentences": 2}, "एक कुत्ता दौड़ रहा है। घास गीली है।"),
        ({"sentences": [4, 7]}, "Dear team,\nthank you. We shall come. We bring cake. See you then.\nBest wishes"),
        ({"lines": 2}, "A dog ran out upon the lawn,\n\nand it was gone before the dawn."),
        ({"paragraphs": 2, "sentences": 4}, "A dog runs. It is wet.\n\nThe lawn is green. A fence stands there."),
        ({"hashtags": 4, "words": 4}, "#dog #lawn #wet #running"),
        ({"without": ["e"]}, "A brown dog runs on a lawn."),
        ({"without": ["picture"]}, "A dog."),
        ({"starts": "Below"}, '"Below the fence a dog runs."'),
        ({"starts": "**", "bullets": 2}, "**A dog**\n- It runs.\n- It is wet."),
        ({"ends": "!"}, "What a dog!"),
        ({"case": "upper"}, "A DOG RUNS OVER 3 LAWNS."),
        ({"case": "lower"}, "a dog on a lawn"),
        ({"keys": ["subject", "setting"]}, '```json\n{"setting": "lawn", "Subject": "dog"}\n```'),
    ],
)
def test_an_answer_that_keeps_to_the_form_passes(constraint: dict[str, object], answer: str) -> None:
    assert Constraint.model_validate(constraint).fault(answer) is None


@pytest.mark.parametrize(
    ("constraint", "answer", "fault"),
    [
        ({"bullets": 3}, "A dog runs. It is brown. The lawn is wet.", "has 0 and not at least 3 bullets"),
        ({"bullets": 3}, THREE + "\n- And more.", "has 4 and not at most 3 bullets"),
        ({"numbered": 3}, THREE, "has 0 and not at least 3 numbered"),
        ({"words": [0, 5]}, "A brown dog runs over a wet lawn.", "has 8 and not at most 5 words"),
        ({"words": 5}, "Well-fed dog.", "has 3 and not at least 5 words"),
        ({"letters": [0, 5]}, "一只狗在跑步", "has 6 and not at most 5 letters"),
        ({"characters": [0, 9]}, "A brown dog", "has 11 and not at most 9 characters"),
        ({"sentences": 1}, TWO, "has 2 and not at most 1 sentences"),
        ({"sentences": 3}, "A dog runs.", "has 1 and not at least 3 sentences"),
        ({"lines": 2}, "One line.", "has 1 and not at least 2 lines"),
        ({"paragraphs": 2}, "One line.", "has 1 and not at least 2 paragraphs"),
        ({"hashtags": 3}, "#dog #lawn", "has 2 and not at least 3 hashtags"),
        ({"without": [","]}, "A dog, a lawn.", "has ','"),
        ({"without": ["photo"]}, "A Photo of a dog.", "has 'photo'"),
        ({"starts": "Below"}, "A dog runs.", "does not begin with 'Below'"),
        ({"ends": "!"}, "A dog runs.", "does not end with '!'"),
        ({"case": "upper"}, "A dog", "is not all in upper case"),
        ({"keys": ["subject"]}, "subject: dog", "is no JSON"),
        ({"keys": ["subject"]}, '{"thing": "dog"}', "has other keys than subject"),
        ({"keys": ["subject"]}, '["subject"]', "has other keys than subject"),
    ],
)
def test_an_answer_that_surely_does_not_is_at_fault(constraint: dict[str, object], answer: str, fault: str) -> None:
    assert Constraint.model_validate(constraint).fault(answer) == fault


def test_a_form_that_says_nothing_passes_everything() -> None:
    assert Constraint().fault("") is None and Constraint().fault("anything, in 3 words!") is None
