"""The page: one HTML file without any request, whose only scripts and styles are ours.

Charts are SVG that Jinja writes: they follow the colours of the reader's system and the width of the window without a
script, need no inline style, and are some tens of kB, where a chart library would be 1 to 5 MB and draw in a canvas or
ask for `unsafe-eval`. Jinja escapes every text. Scripts and styles are allowed by their hashes alone, so a script that
hid in a name or an answer would not run even if it were not escaped.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

NOTHING = "\N{EN DASH}"  # in place of a number that there is none of
NO_MORE: Mapping[str, str] = {}


def render(page: Mapping[str, Any]) -> bytes:
    """Return the page as HTML."""
    return html_of(__package__, "report.html", page).encode(errors="replace")  # half a character may be in a setting


def html_of(package: str, template: str, values: Mapping[str, Any]) -> str:
    """Return a page of a package that has its template, style and script in the folder `page`.

    It has the style of the report too, and may import its macros. The template is given `policy`, `style` and `script`.
    """
    style, script = style_of(package), text_of(package, "script.js")
    more = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy_of(style, script))}
    return environment(package).get_template(template).render(values, **more)


def style_of(package: str) -> str:
    """Return the style of the pages of a package: that of the report, and its own."""
    own = [package] if package != __package__ else []
    return "\n".join(text_of(each, "style.css") for each in (__package__, *own))


def policy_of(style: str, script: str, more: Mapping[str, str] = NO_MORE) -> str:
    """Return the policy of a page that runs nothing but this style and this script; `more` allows more."""
    rules = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'{_hash(style)}'",
        "script-src": f"'{_hash(script)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        **more,
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


@cache
def text_of(package: str, name: str) -> str:
    """Return a file of the folder `page` of a package."""
    return resources.files(package).joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def environment(package: str) -> Environment:
    """Return what fills in the templates of a package; they may import those of the report."""
    environment = SandboxedEnvironment(
        loader=ChoiceLoader([PackageLoader(each, "page") for each in (package, __package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "compact": compact, "share": share, "percent": percent, "span": span}
    return environment


def number(count: float) -> str:
    """Return a number with commas."""
    return f"{count:,}" if isinstance(count, int) else f"{count:,.3g}"


def compact(count: float) -> str:
    """Return a large number in few characters, as 1.2M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= size:
            return f"{count / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{count:,.0f}"


def share(part: float | None) -> str:
    """Return a share in per cent; a small one is not rounded to none, and a large one not to all."""
    if part is None:
        return NOTHING
    if 0 < part < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < part < 1 else f"{part:.1%}"


def percent(part: float) -> str:
    """Return a share as a length in SVG."""
    return f"{100 * part:.3f}".rstrip("0").rstrip(".") + "%"


def span(seconds: float | None) -> str:
    """Return a time in words."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.0f} s"
