"""Types of single settings in a pipeline file, each with a check beyond its Python type.

A value that would fail hours into a run, or that would store a secret where others can read it, is refused on loading.
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

# The formats that Pillow or a package of the extra `formats` decodes and that their first bytes identify, by Pillow's
# names; for EPS it would start Ghostscript.
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
    "HEIF",
    "SVG",
    "PDF",
    "JXL",
    "RAW",
)
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(?<![A-Z])KEY$|_KEY_|ACCESS_KEY")


def _check_answer_form(form: str) -> str:
    if form not in ANSWER_FORMS:
        raise ValueError(f"'{form}' is not an answer form: {nearest(form, ANSWER_FORMS)}")
    return form


def _check_shares(shares: Mapping[str, float]) -> Mapping[str, float]:
    if not any(shares.values()):
        raise ValueError("at least one share must be above 0")
    return shares


def _check_expressions(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Compile each pattern with Arrow's RE2, which runs it later and does not support lookahead."""
    for pattern in patterns:
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except (pa.ArrowInvalid, UnicodeEncodeError) as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(f"{pattern!r} is not a valid RE2 regular expression: {reason}") from error
    return patterns


def _check_uri(uri: str) -> str:
    _, separator, rest = uri.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        raise ValueError("contains a user name or password, which would be stored; set credentials in the environment")
    return uri


def _check_base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a base URL such as http://127.0.0.1:8000/v1")
    return url


def _check_base_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        _check_uri(url)
        if "?" in url:
            raise ValueError(
                "has a query, which could contain a key and would be stored; name the key's variable in key_env"
            )
    return urls


def _check_variables(variables: Mapping[str, str]) -> Mapping[str, str]:
    for name in variables:
        if SECRET.search(name.upper()):
            raise ValueError(f"{name} looks like a secret, which would be stored; set it in the environment of the run")
    return variables


def _check_language(code: str) -> str:
    if not re.fullmatch("[a-z]{2,3}", code):
        raise ValueError(f"'{code}' is not an ISO 639 code of two or three lower-case letters, such as en")
    return code


def _check_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"'{name}' is not Pillow's name of a supported format: {nearest(name.upper(), FORMATS)}")
    return name


def _check_template_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in {"add_generation_prompt", "tokenize"} & options.keys():
        raise ValueError(f"{name} is set for each call and cannot be configured")
    return options


def _check_source_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"'{name}' is no name of a source: use lower-case letters, digits, - and _")
    return name


def _check_pass_name(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(f"'{name}' is no name of a pass: use lower-case letters, digits and _, a letter first")
    return name


def _check_scores(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names a score twice")
    return names


def _check_taggers(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not names:
        raise ValueError("must name a tagger")
    if isinstance(names, tuple) and len(set(names)) < len(names):
        raise ValueError("names a tagger twice")
    return names


AnswerForm = Annotated[str, AfterValidator(_check_answer_form)]
BaseUrls = Annotated[tuple[Annotated[str, AfterValidator(_check_base_url)], ...], AfterValidator(_check_base_urls)]
Expressions = Annotated[tuple[str, ...], AfterValidator(_check_expressions)]
ImageFormat = Annotated[str, AfterValidator(_check_format)]
Language = Annotated[str, AfterValidator(_check_language)]
SourceName = Annotated[str, AfterValidator(_check_source_name)]
PassName = Annotated[str, AfterValidator(_check_pass_name)]
Scores = Annotated[tuple[str, ...], AfterValidator(_check_scores)]
Share = Annotated[float, Field(ge=0, strict=True)]  # strict: a number in quotes is text
FormShares = Annotated[Mapping[AnswerForm, Share], AfterValidator(_check_shares)]
Shares = Annotated[Mapping[str, Share], AfterValidator(_check_shares)]
Taggers = Annotated[str | tuple[str, ...], AfterValidator(_check_taggers)]
TemplateOptions = Annotated[Mapping[str, Any], AfterValidator(_check_template_options)]
Uri = Annotated[str, AfterValidator(_check_uri)]
Variables = Annotated[Mapping[str, str], AfterValidator(_check_variables)]
