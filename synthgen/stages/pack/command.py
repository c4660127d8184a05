"""The command that made a run, from its record, without the folders of the machine."""

import math
import shlex
from pathlib import PurePath
from typing import Any

import yaml

from synthgen.stages.pack import redact
from synthgen.store import Record
from synthgen.store.remote import display_uri

SOURCE = "source.uri="  # begins the setting that SOURCE stands for
END = "...\n"  # after a scalar, as YAML writes it


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
    key, _, text = setting.partition("=")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    shown = plain(value)
    if shown == value:
        return setting
    flow = yaml.safe_dump(shown, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"{key}={flow.removesuffix(END).strip()}"


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
