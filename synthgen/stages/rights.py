"""The licence of an image in the metadata that came along with it, whatever the source put there."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase

from synthgen.errors import whole_text

UNSTATED = "unstated"  # in a list of licences: images whose source states none


def license_of(source_meta: str | None) -> str | None:
    """Return the licence in the metadata of an image, or None."""
    try:
        meta = json.loads(source_meta or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(meta, dict):
        return None
    values = (_license_text(meta.get(key)) for key in ("license", "licence"))
    return next(filter(None, values), None)


def is_allowed(license_name: str | None, allowed: Sequence[str]) -> bool:
    """Return whether a licence is among those that are allowed, which may have wildcards; case does not matter."""
    name = (license_name or UNSTATED).casefold()
    return any(fnmatchcase(name, pattern.casefold()) for pattern in allowed)


def _license_text(value: object) -> str | None:
    """Return a licence as text: itself, a number as of COCO, or JSON; None for what states none, as NaN or true."""
    if isinstance(value, str):
        return whole_text(value).strip()
    if isinstance(value, bool) or value is None or not value:
        return None
    try:
        return whole_text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except ValueError:
        return None
