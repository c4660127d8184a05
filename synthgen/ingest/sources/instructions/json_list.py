"""The records of a JSON list as a stream, however large the list is and however its lines are cut.

Memory holds one record and what was read beyond it. A record that is no JSON, or too long, costs itself alone: its end
is found by its brackets.
"""

import json
import re
from collections.abc import Iterator
from typing import TextIO

from synthgen.errors import UserMistake, one_line
from synthgen.ingest.sources.manifest_rows import LINE, NO_RECORD, Row

CHUNK = 2**20  # characters that are read at once
TOO_LONG = f"has more than {LINE:,} characters"
SPACE = re.compile(r"[ \t\n\r]*")
OUTSIDE, INSIDE = re.compile(r'["{}\[\],]'), re.compile(r'["\\]')  # of a text in quotation marks


class _Window:
    """The part of a text that is looked at; `at` is the place in it up to which it is done."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.buffer, self.at, self.is_over = "", 0, False

    def more(self) -> bool:
        """Read on, and return whether there was anything."""
        piece = self._text.read(CHUNK)
        self.buffer, self.at = self.buffer[self.at :] + piece, 0
        self.is_over = not piece
        return bool(piece)

    def next_sign(self) -> str:
        """Return the next character that is no space, which stays; empty at the end."""
        while True:
            self.at = SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr] # it matches nothing too
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""


def read_list(text: TextIO, where: str) -> Iterator[Row]:
    """Yield the records of a JSON list, numbered from 1.

    Args:
        text: The file.
        where: Its name, for messages.

    Raises:
        UserMistake: It is no list, or ends before its end.
    """
    window, number = _Window(text), 0
    if window.next_sign() != "[":
        raise UserMistake(f"{where}: is no JSON list of rows (one row a line? then name it .jsonl)")
    window.at += 1
    while (sign := window.next_sign()) != "]":
        if sign == "," and number:
            window.at += 1
            sign = window.next_sign()
        if not sign:
            raise _cut_short(where, number)
        number += 1
        yield _record(window, number, where)


def _record(window: _Window, number: int, where: str) -> Row:
    while True:
        try:
            value, end = json.JSONDecoder().raw_decode(window.buffer, window.at)
        except (ValueError, RecursionError):
            if len(window.buffer) - window.at <= LINE and window.more():
                continue
            length = _skip(window)
            if length is None:
                raise _cut_short(where, number) from None
            return Row(number, None, TOO_LONG if length > LINE else NO_RECORD)
        if end == len(window.buffer) and not isinstance(value, dict | list) and window.more():
            continue  # a number may go on
        length, window.at = end - window.at, end
        if length > LINE:
            return Row(number, None, TOO_LONG)
        return Row(number, value) if isinstance(value, dict) else Row(number, None, "is no JSON object")


def _skip(window: _Window) -> int | None:
    """Pass over a record by its brackets and return how long it was; None if the file ends inside of it."""
    length, depth, is_inside = 0, 0, False
    while True:
        match = (INSIDE if is_inside else OUTSIDE).search(window.buffer, window.at)
        if match is None:
            length += len(window.buffer) - window.at
            window.at = len(window.buffer)
            if not window.more():
                return None
            continue
        sign = match[0]
        if not depth and not is_inside and sign in ",]}":
            length += match.start() - window.at
            window.at = match.start() + (sign == "}")
            return length
        length += match.end() - window.at
        window.at = match.end()
        if sign == "\\":
            if window.at == len(window.buffer) and not window.more():
                return None
            window.at += 1
        elif sign == '"':
            is_inside = not is_inside
        elif sign != ",":
            depth += 1 if sign in "[{" else -1
        if not depth and not is_inside and sign in '}]"':
            return length


def _cut_short(where: str, number: int) -> UserMistake:
    return UserMistake(one_line(f"{where}: ends inside of its list, after row {number:,}; it was cut short", 500))
