"""The forms of instruction sets: where a record has its conversation and its image.

They are those that `synth export` writes for trainers, and those of two collections that others are often mixed with.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

JSON, PARQUET, TAR = (".json", ".jsonl", ".ndjson"), (".parquet",), (".tar",)


@dataclass(frozen=True)
class SetForm:
    """A form of instruction sets.

    Attributes:
        turns: The fields that have the conversation.
        image: The field that has the image, or a list of images; empty where the image is a file of the same name.
        suffixes: Of the files that usually have it.
    """

    name: str
    turns: tuple[str, ...]
    image: str
    suffixes: tuple[str, ...]

    def lacks(self, fields: Collection[str]) -> str | None:
        """Return the first field of the form that is not among these, or None."""
        return next((name for name in (*self.turns, *filter(None, [self.image])) if name not in fields), None)


FORMS: Mapping[str, SetForm] = {
    form.name: form
    for form in (
        SetForm("llava", ("conversations",), "image", JSON),
        SetForm("llava-onevision", ("conversations",), "image", PARQUET),
        SetForm("sharegpt", ("conversations",), "images", JSON),
        SetForm("llamafactory", ("messages",), "images", JSON),
        SetForm("ms-swift", ("messages",), "images", JSON),
        SetForm("trl", ("messages",), "images", PARQUET),
        SetForm("trl-turns", ("prompt", "completion"), "images", PARQUET),
        SetForm("finevision", ("texts",), "images", PARQUET),
        SetForm("cauldron", ("texts",), "images", PARQUET),
        SetForm("webdataset", ("messages",), "", TAR),
        SetForm("webdataset-llava", ("conversations",), "", TAR),
    )
}


def forms_of(fields: Collection[str], suffix: str) -> Iterator[SetForm]:
    """Yield the forms whose fields are among those of a record, those that files of this suffix usually have first."""
    fitting = [form for form in FORMS.values() if form.lacks(fields) is None]
    yield from (form for form in fitting if suffix in form.suffixes)
    yield from (form for form in fitting if suffix not in form.suffixes and form.image)
