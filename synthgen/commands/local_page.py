"""Pages that only this machine shows, as `synth audit` and `synth browse` serve them.

They listen on the loopback address alone, under an address that holds a secret. Requests that name another host are
refused, so that a page on the web cannot reach them under a name of its own. No reply is stored by the browser.
"""

import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from synthgen.errors import UserMistake, one_line

if TYPE_CHECKING:  # both are extras, and a command without them says so in one line
    from starlette.applications import Starlette
    from starlette.routing import Route

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def check_installed(command: str) -> None:
    """Raise UserMistake if what serves pages is not installed; `command` is that of `synth` that wants it."""
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        why = f"synth {command} needs starlette and uvicorn; from a clone: pip install '.[audit]'"
        raise UserMistake(why) from error
    assert starlette and uvicorn


def new_token() -> str:
    """Return the secret part of an address."""
    return secrets.token_urlsafe(16)


def app_under(token: str, routes: Sequence["Route"]) -> "Starlette":
    """Return an application whose routes are below a secret, for this machine alone."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    under = [Route(f"/{token}{route.path}", route.endpoint, methods=list(route.methods or ())) for route in routes]
    return Starlette(routes=under, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)])


def listen(port: int) -> socket.socket:
    """Return a socket on this machine that takes connections, for whoever opens the address before it is served.

    Args:
        port: 0 is any free one.

    Raises:
        UserMistake: The port cannot be used.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserMistake(f"--port {port}: cannot be used ({one_line(error)}); name another, or none") from error
    return listening


def address(listening: socket.socket, token: str, place: str = "") -> str:
    """Return the address of a page; `place` is what comes after the secret."""
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/{place}"


def serve(app: "Starlette", listening: socket.socket) -> None:
    """Serve an application until it is stopped by Ctrl-C."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
