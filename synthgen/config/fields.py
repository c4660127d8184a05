"""What a setting may hold beyond its type: the types of single values in a pipeline file.

Comes in: a value as the file has it. Goes out: the same, or a ValueError that says in one line what is wrong with it. What would
fail hours later, or be stored where all can read it, is refused here.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from synthgen.errors import nearest
from synthgen.tables import ANSWER_FORMS

# Pillow's names of the formats that are told by their first bytes and that it decodes; for EPS it would start Ghostscript.
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "MPO",
    "AVIF",
    "JPEG2000",
    "PPM",
    "PSD",
    "ICO",
    "ICNS",
    "DDS",
    "QOI",
    "FITS",
)


def _answer_form(form: str) -> str:
    if form not in ANSWER_FORMS:
        raise ValueError(f"'{form}' is not an answer form: {nearest(form, ANSWER_FORMS)}")
    return form


def _some(shares: Mapping[str, float]) -> Mapping[str, float]:
    if not any(shares.values()):
        raise ValueError("one share at least must be above 0")
    return shares


def _expressions(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Checked by what will run them, hours later: Arrow's RE2 knows no lookahead, and some of what Python does not."""
    for pattern in patterns:
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except (pa.ArrowInvalid, UnicodeEncodeError) as error:
            why = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(f"{pattern!r} is not a regular expression as RE2 reads them: {why}") from error
    return patterns


def _without_secret(uri: str) -> str:
    """What a pipeline says is stored and shown, so no secret may stand in it."""
    _, separator, rest = uri.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        raise ValueError("holds a user name or password, and would be stored; set credentials in the environment")
    return uri


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a base URL such as http://127.0.0.1:8000/v1")
    return url


def _language(code: str) -> str:
    if not re.fullmatch("[a-z]{2,3}", code):
        raise ValueError(f"'{code}' is not an ISO 639 code, two or three small letters such as en")
    return code


def _without_secrets(uris: tuple[str, ...]) -> tuple[str, ...]:
    for uri in uris:
        _without_secret(uri)
        if "?" in uri:
            raise ValueError("has a query, which could hold a key and would be stored; name its variable in key_env")
    return uris


def _open_variables(variables: Mapping[str, str]) -> Mapping[str, str]:
    for name in variables:
        if re.search(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(?<![A-Z])KEY$|_KEY_|ACCESS_KEY", name.upper()):
            raise ValueError(
                f"{name} looks like a secret, and would be stored; set it in the environment of the run itself"
            )
    return variables


def _format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(
            f"'{name}' is not Pillow's name of a format that can be read: {nearest(name.upper(), FORMATS)}"
        )
    return name


def _template_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in {"add_generation_prompt", "tokenize"} & options.keys():
        raise ValueError(f"{name} is what each call says for itself")
    return options


def _distinct(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not names:
        raise ValueError("must name a tagger")
    if isinstance(names, tuple) and len(set(names)) < len(names):
        raise ValueError("names a tagger twice")
    return names


AnswerForm = Annotated[str, AfterValidator(_answer_form)]
BaseUrls = Annotated[tuple[Annotated[str, AfterValidator(_base_url)], ...], AfterValidator(_without_secrets)]
Expressions = Annotated[tuple[str, ...], AfterValidator(_expressions)]
ImageFormat = Annotated[str, AfterValidator(_format)]
Language = Annotated[str, AfterValidator(_language)]
Share = Annotated[float, Field(ge=0, strict=True)]  # a number in quotes is text
FormShares = Annotated[Mapping[AnswerForm, Share], AfterValidator(_some)]
Shares = Annotated[Mapping[str, Share], AfterValidator(_some)]
Taggers = Annotated[str | tuple[str, ...], AfterValidator(_distinct)]
TemplateOptions = Annotated[Mapping[str, Any], AfterValidator(_template_options)]
Uri = Annotated[str, AfterValidator(_without_secret)]
Variables = Annotated[Mapping[str, str], AfterValidator(_open_variables)]
