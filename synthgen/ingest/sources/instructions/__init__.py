"""Instruction sets as a source: `instructions:SET`, whose rows bring their questions and answers.

`forms` tells the forms apart, `files` reads rows one after the other, `json_list` those of a list that no memory holds,
`conversation` checks what a row says, and `listing` makes an object of each row: of its image with the conversation, or
of the row alone with the reason why it cannot be used. So a bad row costs itself, and every row is accounted for.
"""

from synthgen.ingest.sources.instructions.conversation import Conversation, Turn
from synthgen.ingest.sources.instructions.forms import FORMS, SetForm
from synthgen.ingest.sources.instructions.listing import (
    SCHEME,
    list_instructions,
    name_of_set,
    place_of_images,
    recognise,
)

__all__ = [
    "FORMS",
    "SCHEME",
    "Conversation",
    "SetForm",
    "Turn",
    "list_instructions",
    "name_of_set",
    "place_of_images",
    "recognise",
]
