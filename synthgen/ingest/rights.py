"""The rights to an image, as far as anybody states them: its file, or the metadata that its source brings along.

Nothing is guessed. What names a licence of Creative Commons becomes its usual name (CC-BY-4.0), so that rules and
counts know it by one spelling; every other text stays. An image is reserved if its file, its metadata or its server
says that no model may learn from it: by `plus:DataMining` of XMP, the words of a robots header that img2dataset obeys,
or the TDM Reservation Protocol.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from synthgen.errors import one_line, whole_text
from synthgen.ingest.images.stated import UNREAD
from synthgen.tables import is_set

LONGEST = 500  # characters of a statement
KEYS: Mapping[str, tuple[str, ...]] = {  # of metadata, in any case and with - or _, the surest first
    "license": ("license", "licence", "license_name", "license_url", "licence_url", "usage_terms"),
    "author": ("author", "creator", "artist", "photographer", "attribution", "credit", "image_artist"),
    "copyright": ("copyright", "copyright_notice", "rights", "image_copyright"),
    "source_url": ("source_url", "original_url", "landing_url", "foreign_landing_url", "page_url", "url", "source"),
}
ROBOTS = ("robots", "x_robots_tag")
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex")  # that img2dataset obeys
NO_AI = ("no_ai", "noai", "noimageai", "no_ai_training", "ai_prohibited", "opt_out")
AI = ("ai_allowed", "allow_ai", "ai_training", "ai_training_allowed")
TDM = ("tdm_reservation",)
DATA_MINING = ("data_mining", "plus_datamining", "datamining")
PROHIBITED = "DMI-PROHIBITED"  # begins the values of plus:DataMining that forbid something
YES, NO = ("1", "true", "yes", "y"), ("0", "false", "no", "n", "denied", "notallowed", "not allowed", "prohibited")
CC_URL = re.compile(r"creativecommons\.org/licen[sc]es/([a-z-]+)/(\d\.\d)", re.IGNORECASE)
CC_TEXT = re.compile(
    r"(?:cc|creative commons)[\s_-]*((?:by)(?:[\s_-]+(?:nc|nd|sa))*)[\s_-]*v?(\d(?:\.\d)?)?", re.IGNORECASE
)
CC_ZERO = re.compile(r"creativecommons\.org/publicdomain/zero/|cc[\s_-]?(?:0|zero)(?:[\s_-]*v?1\.0)?$", re.IGNORECASE)
PUBLIC_DOMAIN = re.compile(r"creativecommons\.org/publicdomain/mark/|public[\s_-]?domain(?: mark)?$", re.IGNORECASE)
NOTHING: Mapping[str, str] = {}
URL = re.compile(r"https?://\S+", re.IGNORECASE)


@dataclass(frozen=True)
class Rights:
    """What is stated of an image; None where nobody says anything.

    Attributes:
        license: By its usual name where that is known.
        copyright: A notice.
        source_url: Where it was published.
        reserved: Who says that no model may learn from it, in words.
        unread: Which of EXIF, IPTC and XMP its file has and cannot be read, so that it may say more.
    """

    license: str | None = None
    author: str | None = None
    copyright: str | None = None
    source_url: str | None = None
    reserved: str | None = None
    unread: str | None = None


def rights_of(source_meta: str | None, stated: Mapping[str, str] = NOTHING, uri: str = "") -> Rights | None:
    """Return the rights to an image, or None if nobody states any; what the source says comes before its file.

    Args:
        source_meta: The metadata that came along, as JSON.
        stated: As of `images.stated.statements`.
        uri: Of the object, which is where it was published if it is a URL.
    """
    brought = _of_set(source_meta) if is_set(uri) else _of_meta(source_meta)
    own = _of_file(stated)
    ways = (brought, own, Rights(source_url=uri if URL.fullmatch(uri) else None))
    names = asdict(Rights())
    found = Rights(**{name: next(filter(None, (getattr(way, name) for way in ways)), None) for name in names})
    if found.license is None and (page := _known_license(found.copyright)):  # a notice can be a licence
        found = replace(found, license=license_name(page))
    return None if found == Rights() else found


def license_of(source_meta: str | None) -> str | None:
    """Return the licence that metadata states, or None."""
    return _of_meta(source_meta).license


def license_name(text: str) -> str:
    """Return the usual name of a licence of Creative Commons, and any other text as it is."""
    if CC_ZERO.search(text):
        return "CC0-1.0"
    if PUBLIC_DOMAIN.search(text):
        return "Public domain"
    match = CC_URL.search(text) or CC_TEXT.fullmatch(text.strip())
    if not match:
        return text
    parts = re.split(r"[\s_-]+", match[1].upper())
    version = match[2] and (match[2] if "." in match[2] else f"{match[2]}.0")
    return "-".join(["CC", *parts, *([version] if version else [])])


def forbidding(robots: str) -> str | None:
    """Return the directive of a robots header that forbids the use of an image, or None; it may name a crawler."""
    words = (word.strip().lower() for part in robots.split(",") for word in part.split(":"))
    return next((word for word in words if word in DIRECTIVES), None)


def _of_file(stated: Mapping[str, str]) -> Rights:
    license = stated.get("license") or stated.get("usage_terms") or _known_license(stated.get("web_statement"))
    mining = _mining(stated.get("data_mining"))
    return Rights(
        license=license_name(license) if license else None,
        author=stated.get("author"),
        copyright=stated.get("copyright"),
        source_url=_url(stated.get("source_url")),
        reserved=f"its XMP says plus:DataMining {mining}" if mining else None,
        unread=stated.get(UNREAD),
    )


def _known_license(statement: str | None) -> str | None:
    """Return a statement if it is a licence that is known by a name."""
    return statement if statement and license_name(statement) != statement else None


def _of_meta(source_meta: str | None) -> Rights:
    meta = _read(source_meta)
    if meta is None:
        return Rights()
    values = {re.sub(r"[\W_]+", "_", str(key)).strip("_").lower(): value for key, value in meta.items()}
    values = {**_exif_of(values), **values}
    first: dict[str, str | None] = {
        name: next(filter(None, (_statement(values.get(key), name) for key in keys)), None)
        for name, keys in KEYS.items()
    }
    license = first.pop("license")
    reserved = next(_reservations(values), None)
    return Rights(license=license_name(license) if license else None, reserved=reserved, **first)


def _of_set(source_meta: str | None) -> Rights:
    """Return what metadata states of a set: what each of its images has, all that differs, and any reservation."""
    meta = _read(source_meta) or {}
    members = meta.get("members")
    each = [_of_meta(json.dumps(member)) for member in members if isinstance(member, dict)] if members else []
    own = _of_meta(source_meta)
    found = {
        name: getattr(own, name) or "; ".join(dict.fromkeys(filter(None, (getattr(one, name) for one in each)))) or None
        for name in ("license", "author", "copyright")
    }
    reserved = own.reserved or next((one.reserved for one in each if one.reserved), None)
    return replace(own, **found, reserved=reserved)


def _exif_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what img2dataset kept of the EXIF of an image: JSON whose keys are as `Image Artist`."""
    exif = values.get("exif")
    exif = _read(exif) if isinstance(exif, str) else exif
    if not isinstance(exif, Mapping):
        return {}
    return {str(key).lower().replace(" ", "_"): value for key, value in exif.items() if str(key).startswith("Image ")}


def _read(text: str | None) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _statement(value: Any, name: str) -> str | None:
    """Return a statement as text: itself, a number as of COCO, or JSON; None for what states none, as NaN or true."""
    if name == "source_url":
        return _url(value)
    if isinstance(value, str):
        return one_line(whole_text(value).strip(), LONGEST) or None
    if isinstance(value, bool) or value is None or not value:
        return None
    try:
        return one_line(whole_text(json.dumps(value, ensure_ascii=False, allow_nan=False)), LONGEST)
    except (ValueError, RecursionError):
        return None


def _url(value: Any) -> str | None:
    return whole_text(value.strip()) if isinstance(value, str) and URL.fullmatch(value.strip()) else None


# --- reservations -----------------------------------------------------------------------------------------------------


def _reservations(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what metadata says against the use of an image, each with its key and value."""
    tests: tuple[tuple[tuple[str, ...], Callable[[Any], bool]], ...] = (
        (ROBOTS, lambda value: isinstance(value, str) and forbidding(value) is not None),
        (NO_AI, lambda value: _word(value) in YES),
        (AI, lambda value: _word(value) in NO),
        (TDM, lambda value: _word(value) in YES),
        (DATA_MINING, lambda value: isinstance(value, str) and _mining(value) is not None),
    )
    for keys, forbids in tests:
        for key in keys:
            if key in values and forbids(values[key]):
                yield f"its metadata says {key}: {one_line(str(values[key]), 80)}"


def _word(value: Any) -> str:
    return str(value).strip().lower() if isinstance(value, str | bool | int) else ""


def _mining(value: str | None) -> str | None:
    """Return a value of plus:DataMining that forbids something, without its address."""
    name = (value or "").strip().rpartition("/")[2]
    return name if name.upper().startswith(PROHIBITED) else None
