"""The local page of an audit: one pair at a time, labelled by keys.

Scores are not shown: they would sway the person.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from synthgen.commands.audit.labels import LABELS, WHYS, Label, new_label
from synthgen.commands.local_page import HEADERS, app_under, new_token
from synthgen.commands.report.examples import Example
from synthgen.commands.report.page import policy_of
from synthgen.commands.report.pictures import Picture

MOST_BYTES = 10_000  # of a label that is sent


@dataclass
class Desk:
    """What a person labels, and what was labelled.

    Attributes:
        examples: The sample, in the order in which it is shown.
        pictures: Image id → its picture, or why there is none.
        who: The name of the person.
        done: Pair id → label of this person.
        store: Stores a label.
        token: The secret part of the address.
    """

    examples: Sequence[Example]
    pictures: Mapping[str, Picture | str]
    who: str
    done: dict[str, str]
    store: Callable[[Label], None]
    token: str = field(default_factory=new_token)


def app_of(desk: Desk) -> Starlette:
    """Return the application of a desk."""

    def page(request: Request) -> Response:
        style, script = _text("style.css"), _text("script.js")
        policy = policy_of(style, script, {"connect-src": "'self'", "frame-ancestors": "'none'"})
        text = _text("audit.html").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
        return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": policy})

    def sample(request: Request) -> Response:
        labels = [desk.done.get(example.id) for example in desk.examples]
        return JSONResponse({"who": desk.who, "labels": labels, "whys": WHYS}, headers=HEADERS)

    def pair(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(desk.examples):
            return Response("there is no such pair", 404, HEADERS)
        return JSONResponse(_shown(desk, desk.examples[number]), headers=HEADERS)

    async def label(request: Request) -> Response:
        number, body = request.path_params["number"], await request.body()
        try:
            value = json.loads(body if len(body) <= MOST_BYTES else b"")
            example = desk.examples[number]
            found = new_label(example.id, value["label"], value.get("why"), desk.who)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return Response(f"a label is JSON with one of {', '.join(LABELS)}", 400, HEADERS)
        desk.store(found)
        desk.done[example.id] = found.label
        return JSONResponse({"label": found.label}, headers=HEADERS)

    routes = [
        Route("/", page),
        Route("/sample", sample),
        Route("/pairs/{number:int}", pair),
        Route("/pairs/{number:int}", label, methods=["POST"]),
    ]
    return app_under(desk.token, routes)


def _shown(desk: Desk, example: Example) -> dict[str, Any]:
    picture = desk.pictures.get(example.image_id, "no picture")
    return {
        "type": example.type,
        "form": example.form,
        "language": example.language,
        "before": example.before,
        "question": example.question,
        "options": [f"{letter}  {option}" for letter, option in example.options],
        "answer": example.answer,
        "place": example.place,
        "label": desk.done.get(example.id),
        "picture": picture.url if isinstance(picture, Picture) else None,
        "missing": None if isinstance(picture, Picture) else picture,
    }


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")
