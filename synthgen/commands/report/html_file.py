"""The file that a page goes to: a new one, or an older page by the same command, which is replaced."""

from pathlib import Path

from synthgen.errors import UserMistake, one_line
from synthgen.store.patterns import expand_home


def html_target(target: str, command: str) -> Path:
    """Return the file to write.

    Args:
        target: As typed.
        command: The command of `synth`, which its pages name in their first lines.

    Raises:
        UserMistake: It is no HTML file on this machine, or one of somebody else.
    """
    if "://" in target:
        raise UserMistake(f"{target}: is no file on this machine; write the {command} to one, and copy it")
    path = expand_home(target)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserMistake(f"{target}: the {command} is HTML; give it a name that ends in .html")
    if path.exists() and not _is_by(path, command):
        raise UserMistake(f"{target}: is there already, and is no {command} of synth; name another file")
    return path


def write_html(path: Path, page: bytes) -> str:
    """Write a page, and return where it is. Raises UserMistake if it cannot be written."""
    try:
        path.write_bytes(page)
    except OSError as error:
        raise UserMistake(f"{path}: cannot be written ({one_line(error)}); name another file") from error
    return str(path)


def _is_by(path: Path, command: str) -> bool:
    mark = f'<!doctype html>\n<html lang="en" data-made-by="synth {command}">'.encode()
    try:
        return path.read_bytes()[: len(mark)] == mark
    except OSError:
        return False
