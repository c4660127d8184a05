"""What models reply: the shapes that they are held to, and the readers of what they write.

A reader takes the noise around a reply off (thoughts, a code fence, words before and after) and reads the rest, or says
why it cannot. It makes no guess at what the model meant: that would be data that the model did not write. The shape
that an engine holds replies to and the reader of that shape are one package, because both must accept the same replies;
letters are here so that scores and selection rules read the same one.
"""

from synthgen.config.replies.answers import final_answer
from synthgen.config.replies.chosen_letter import letter_of
from synthgen.config.replies.grammar import LETTERS, OPTIONS, Style, letters, places_schema, question_schema
from synthgen.config.replies.places import Place, parse_places
from synthgen.config.replies.questions import Question, parse_questions, shuffled

__all__ = [
    "LETTERS",
    "OPTIONS",
    "Place",
    "Question",
    "Style",
    "final_answer",
    "letter_of",
    "letters",
    "parse_places",
    "parse_questions",
    "places_schema",
    "question_schema",
    "shuffled",
]
