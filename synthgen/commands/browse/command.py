"""`synth browse`: serve the pages of a run until they are stopped."""

from contextlib import closing
from dataclasses import dataclass

from synthgen.commands import local_page
from synthgen.console import note
from synthgen.store import RunFolder


@dataclass(frozen=True)
class BrowseRequest:
    """Where the pages are, and which is opened first.

    Attributes:
        port: 0 is any free one.
        at: A page with its conditions, as its last line names it.
    """

    port: int = 0
    at: str = ""


def browse(folder: RunFolder, request: BrowseRequest) -> None:
    """Serve the pages of a run until they are stopped by Ctrl-C.

    Raises:
        UserMistake: The folder holds no run, or the port is taken.
    """
    local_page.check_installed("browse")
    from synthgen.commands.browse.server import Desk, app_of

    with closing(Desk(folder.out)) as desk:
        listening = local_page.listen(request.port)
        note("open this page, and stop with Ctrl-C:")
        note(local_page.address(listening, desk.token, request.at.lstrip("/")))
        local_page.serve(app_of(desk), listening)
