"""The templates of the drawn world: three wordings of each question, requests for questions, answers as sentences.

`oracle.py` must not import this: it reads free text with patterns of its own. The prompt pack `prompts/drawn.yaml`
repeats the prompts to the letter.
"""

from __future__ import annotations

# kind -> (instruction type, wordings); {0}, {1} and {2} are slots
QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "background": ("background", ("Where is this?", "What is the background?", "What place is shown?")),
    "picture_kind": (
        "picture_kind",
        ("What kind of picture is this?", "Is this a chart, a sign or a scene?", "What sort of picture is it?"),
    ),
    "caption": ("caption", ("Describe the picture.", "What does the picture show?", "Write a caption.")),
    "existence": ("existence", ("Is there {0}?", "Can you see {0}?", "Does the picture show {0}?")),
    "at": ("object_at_position", ("What is in the {0}?", "What can be seen in the {0}?", "Which thing is in the {0}?")),
    "where": ("where_is", ("Where is the {0}?", "In which part is the {0}?", "What is the position of the {0}?")),
    "word": ("printed_word", ("What word is written?", "Which word can you read?", "Read the word on the sign.")),
    "number": (
        "printed_number",
        ("What number is written?", "Which number can you read?", "Read the number on the sign."),
    ),
    "colour": ("colour", ("What colour is the {0}?", "Which colour does the {0} have?", "Name the colour of the {0}.")),
    "shape": ("shape", ("What is the {0} shape?", "Which shape is {0}?", "Name the {0} shape.")),
    "kind": (
        "kind_of_thing",
        (
            "What kind of thing is in the {0}?",
            "Which group does the thing in the {0} belong to?",
            "What sort of thing is in the {0}?",
        ),
    ),
    "use": (
        "use_of_thing",
        (
            "What is the thing in the {0} for?",
            "What is the thing in the {0} used for?",
            "What use has the thing in the {0}?",
        ),
    ),
    "count": ("counting", ("How many {0} are there?", "Count the {0}.", "What is the number of {0}?")),
    "relative": (
        "relative_position",
        ("Is the {0} {1} the {2}?", "Is the {0} placed {1} the {2}?", "Does the {0} lie {1} the {2}?"),
    ),
    "more": (
        "compare_counts",
        (
            "Are there more {0} than {1}?",
            "Do the {0} outnumber the {1}?",
            "Is the number of {0} larger than the number of {1}?",
        ),
    ),
    "same": (
        "same_colour",
        (
            "Do the {0} and the {1} have the same colour?",
            "Are the {0} and the {1} equal in colour?",
            "Is the {0} the same colour as the {1}?",
        ),
    ),
    "value": ("chart_value", ("What is the value of the {0} bar?", "How high is the {0} bar?", "Read the {0} bar.")),
    "tallest": (
        "chart_extreme",
        ("Which bar is the tallest?", "What colour is the tallest bar?", "Which bar has the highest value?"),
    ),
    "shortest": (
        "chart_extreme",
        ("Which bar is the shortest?", "What colour is the shortest bar?", "Which bar has the lowest value?"),
    ),
    "taller": (
        "chart_compare",
        (
            "Is the {0} bar taller than the {1} bar?",
            "Is the {0} bar higher than the {1} bar?",
            "Does the {0} bar rise above the {1} bar?",
        ),
    ),
    "sum": (
        "chart_arithmetic",
        (
            "What is the sum of the {0} bar and the {1} bar?",
            "What do the {0} bar and the {1} bar add up to?",
            "Add the {0} bar and the {1} bar.",
        ),
    ),
    "difference": (
        "chart_arithmetic",
        (
            "How much taller is the {0} bar than the {1} bar?",
            "By how much is the {0} bar higher than the {1} bar?",
            "Take the {1} bar from the {0} bar.",
        ),
    ),
}
TYPES = tuple(dict.fromkeys(type_ for type_, _ in QUESTIONS.values()))
ASK_AS = {  # type -> its name in a request for questions
    "background": "the background", "picture_kind": "the kind of picture", "caption": "a caption",
    "existence": "what exists", "object_at_position": "what is at a position", "where_is": "where a thing is",
    "printed_word": "the printed word", "printed_number": "the printed number", "colour": "the colour",
    "shape": "the shape", "kind_of_thing": "the kind of thing", "use_of_thing": "the use of a thing",
    "counting": "counting", "relative_position": "relative position", "compare_counts": "comparing counts",
    "same_colour": "equal colours", "chart_value": "the value of a bar", "chart_extreme": "the tallest or shortest bar",
    "chart_compare": "comparing bars", "chart_arithmetic": "arithmetic with bars",
}  # fmt: skip

# kind -> the sentence that answers it; {a} is the short answer
SENTENCES: dict[str, str] = {
    "background": "This is the {a}.", "picture_kind": "This is {a}.", "where": "The {0} is in the {a}.",
    "word": "The sign says {a}.", "number": "The number is {a}.", "colour": "The {0} is {a}.",
    "shape": "The {0} shape is {a}.", "kind": "The thing in the {0} is {a}.", "use": "It is for {a}.",
    "value": "The {0} bar has the value {a}.", "tallest": "The tallest bar is {a}.",
    "shortest": "The shortest bar is {a}.", "sum": "The sum is {a}.", "difference": "The difference is {a}.",
}  # fmt: skip
YES_NO: dict[str, tuple[str, str]] = {  # kind -> the sentences of yes and of no
    "relative": ("Yes, the {0} is {1} the {2}.", "No, the {0} is not {1} the {2}."),
    "more": ("Yes, there are more {0} than {1}.", "No, there are not more {0} than {1}."),
    "same": ("Yes, the {0} and the {1} have the same colour.", "No, the {0} and the {1} have different colours."),
    "taller": ("Yes, the {0} bar is taller than the {1} bar.", "No, the {0} bar is not taller than the {1} bar."),
    "existence": ("Yes, there is {0}.", "No, there is not {0}."),
}


def with_article(noun: str) -> str:
    """Return `a cat`, `an egg`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def fill_question(kind: str, slots: tuple[str, ...], wording: int) -> str:
    """Return a question in one of its wordings, counted from 0."""
    wordings = QUESTIONS[kind][1]
    return wordings[wording % len(wordings)].format(*slots)


def fill_sentence(kind: str, slots: tuple[str, ...], answer: str) -> str:
    """Return the short answer as one sentence."""
    if kind in YES_NO:
        return YES_NO[kind][answer == "no"].format(*slots)
    if kind == "at":
        return f"{answer[0].upper()}{answer[1:]} is in the {slots[0]}."
    if kind == "count":
        return f"There is 1 {slots[1]}." if answer == "1" else f"There are {answer} {slots[0]}."
    if kind == "caption":
        return answer
    return SENTENCES[kind].format(*slots, a=answer)


def ask_prompt(type_: str, n: int) -> str:
    """Return the prompt that asks for `n` questions of an instruction type."""
    return f"Ask {n} question{'' if n == 1 else 's'} about {ASK_AS[type_]}."
