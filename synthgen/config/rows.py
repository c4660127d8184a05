"""Settings of a source whose rows bring conversations: an instruction set."""

from typing import Literal

from synthgen.config.library import Section


class RowsConfig(Section):
    """How the rows of `instructions:SET` are read."""

    form: str | None = None  # the forms: ingest/sources/instructions/forms.py; None: as the fields of the first row say
    name: str | None = None  # of the set, kept with each row; by default that of its file or folder
    license: str | None = None  # of rows that state none; never guessed
    system: Literal["refuse", "drop"] = (
        "refuse"  # what is done with a text of the system, for which samples have no room
    )
    linked: bool = True  # a turn goes on from the first one of its row, and is not kept without it
