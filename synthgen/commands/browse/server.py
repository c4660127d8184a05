"""The pages of `synth browse`: templates that are filled in with what the tables say.

A page has its whole state in its address, so that it can be bookmarked, sent to a colleague and gone back to.
"""

import shlex
from collections.abc import Callable, Mapping
from html import escape
from threading import Timer
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from synthgen.commands.browse import views
from synthgen.commands.browse.files import FilesOfRun
from synthgen.commands.browse.pictures import PictureDesk
from synthgen.commands.browse.snapshot import Snapshot, open_snapshot
from synthgen.commands.local_page import HEADERS, app_under, new_token
from synthgen.commands.report.page import environment, policy_of, style_of, text_of
from synthgen.errors import SynthError, UserMistake
from synthgen.store import Folder

SERVED = {
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
READ_AHEAD_SECONDS = 2.0
View = Callable[["Desk", Request], views.Page]
NOTHING = '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="180"><text x="50%" y="50%" fill="#77828e" font-family="sans-serif" font-size="15" text-anchor="middle">no picture: {}</text></svg>'  # noqa: E501


class Desk:
    """A run that is served: the snapshot that is shown now, its definition files and its pictures.

    Attributes:
        token: The secret part of the address.
    """

    def __init__(self, out: Folder) -> None:
        self.out, self.token = out, new_token()
        self.look_again()
        pipeline = self.snapshot.pipeline
        self.pictures = PictureDesk(self.snapshot.folder, pipeline.source, pipeline.images)
        templates = environment(__package__)
        for name in templates.list_templates(["html"]):
            templates.get_template(name)  # it is compiled now, and not while somebody waits for the first page
        # They are read before somebody opens a pair, and after the first page, which Python would slow down for it.
        self._read_ahead = Timer(READ_AHEAD_SECONDS, self.files.get)
        self._read_ahead.daemon = True
        self._read_ahead.start()

    def look_again(self) -> None:
        """Show the run as it is now."""
        before: Snapshot | None = getattr(self, "snapshot", None)
        self.snapshot = open_snapshot(self.out)
        self.files = FilesOfRun(self.snapshot.folder)
        if before is not None:
            before.tally.stop()
        self.snapshot.tally.start()

    def close(self) -> None:
        """End what works in the background."""
        self._read_ahead.cancel()
        self.snapshot.tally.stop()
        self.pictures.close()

    def href(self, place: str, params: Mapping[str, Any] | None = None) -> str:
        """Return the address of a page; parameters without a value are left out."""
        given = {name: value for name, value in (params or {}).items() if value not in (None, "")}
        path = "/".join(quote(part, safe="") for part in place.split("/"))
        return f"/{self.token}/{path}" + (f"?{urlencode(given)}" if given else "")


def app_of(desk: Desk) -> Starlette:
    """Return the application of a desk."""
    pages: dict[str, View] = {
        "/": views.overview,
        "/pairs": views.pairs,
        "/pairs/{partition}/{assignment}": views.pair,
        "/images": views.images,
        "/images/{partition}/{object}": views.image,
        "/tags": views.tags,
    }
    routes = [Route(path, _page_of(desk, view)) for path, view in pages.items()]
    others = {"/step": _step, "/picture/{partition}/{object}": _picture, "/again": _again, "/icon.svg": _icon}
    routes += [Route(path, _with_desk(desk, answer)) for path, answer in others.items()]
    return app_under(desk.token, routes)


def _with_desk(desk: Desk, answer: Callable[[Desk, Request], Response]) -> Callable[[Request], Response]:
    def answered(request: Request) -> Response:
        return answer(desk, request)

    return answered


def _page_of(desk: Desk, view: View) -> Callable[[Request], Response]:
    """Return the endpoint of a page; what the user can fix or what is damaged is told on a page of its own."""

    def answered(request: Request) -> Response:
        try:
            return _html(desk, request, view(desk, request))
        except SynthError as error:
            status = 400 if isinstance(error, UserMistake) else 500
            page = views.Page("trouble.html", "Trouble", {"trouble": str(error)}, status)
            return _html(desk, request, page)

    return answered


def _html(desk: Desk, request: Request, page: views.Page) -> Response:
    style, script = style_of(__package__), text_of(__package__, "script.js")
    policy = policy_of(style, script, SERVED)
    place = request.url.path.partition(f"/{desk.token}/")[2] + (f"?{request.url.query}" if request.url.query else "")
    common = {
        "run": desk.snapshot,
        "href": desk.href,
        "title": page.title,
        "style": Markup(style),
        "script": Markup(script),
        "place": place,
        "command": f"synth browse {shlex.quote(desk.out.url)} --at {shlex.quote(place or '/')}",
        "section": place.partition("?")[0].partition("/")[0],
    }
    text = environment(__package__).get_template(page.template).render({**common, **page.values})
    headers = {**HEADERS, "Content-Security-Policy": policy}
    return HTMLResponse(text.encode(errors="replace"), page.status, headers)


def _step(desk: Desk, request: Request) -> Response:
    """Go on to the next or the previous pair of a search, or to its list where there is none."""
    try:
        return RedirectResponse(views.step(desk, request), 303, HEADERS)
    except SynthError as error:
        page = views.Page("trouble.html", "Trouble", {"trouble": str(error)}, 400)
        return _html(desk, request, page)


def _picture(desk: Desk, request: Request) -> Response:
    """Return a picture of an image, or a drawing that says why there is none."""
    try:
        made = views.picture(desk, request)
    except (SynthError, TimeoutError) as error:
        made = str(error) or "it took too long"
    if isinstance(made, bytes):
        return Response(made, media_type="image/webp", headers=HEADERS)
    return Response(NOTHING.format(escape(made)), media_type="image/svg+xml", headers=HEADERS)


def _icon(desk: Desk, request: Request) -> Response:
    """Return the sign of the pages, for which a browser would ask outside of their address."""
    return Response(text_of(__package__, "icon.svg"), media_type="image/svg+xml", headers=HEADERS)


def _again(desk: Desk, request: Request) -> Response:
    """Look at the run again, and go back to the page."""
    desk.look_again()
    place, _, query = request.query_params.get("back", "").partition("?")
    known = desk.href(place) if not place.startswith(("/", ".")) else desk.href("")
    return RedirectResponse(known + (f"?{query}" if query else ""), 303, HEADERS)
