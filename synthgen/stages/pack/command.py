"""The command that made a run, from its record, without the folders of the machine."""

import shlex
from pathlib import PurePath
from typing import Any

from synthgen.stages.pack import redact
from synthgen.store import Record
from synthgen.store.remote import display_uri

SOURCE = "source.uri="  # begins the setting that SOURCE stands for
QUOTES = "\"'"


def command_of(record: Record) -> str:
    """Return the command that made a run, without its source and its folder."""
    started = record.get("started_with", {})
    words = ["synth run SOURCE --out FOLDER"]
    if name := started.get("pipeline"):
        words.append(f"--pipeline {shlex.quote(redact.shelf_name(name))}")
    words += [
        f"--set {shlex.quote(_without_path(each))}"
        for each in started.get("settings", ())
        if not each.startswith(SOURCE)
    ]
    words += [f"--limit {started['limit']}"] if started.get("limit") else []
    return " ".join(words)


def _without_path(setting: str) -> str:
    key, _, value = setting.partition("=")
    bare = value.strip(QUOTES)
    shown = plain(bare)
    return setting if shown == bare else f"{key}={shown}"


def plain(value: Any) -> Any:
    """Return a value of the settings in which paths of the machine are names alone."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        return display_uri(value)
    return f"…/{PurePath(value).name}" if value.startswith(("/", "~", "file:")) else value
