"""Jinja templates of prompts: strict and sandboxed, so a missing variable is an error and no file can reach Python."""

from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


def render(text: str, **values: Any) -> str:
    """Fill in a template; surrounding white space is dropped, so that it cannot change a prompt."""
    return _compile(text).render(**values).strip()


@cache
def variables_of(text: str) -> frozenset[str]:
    """Return the variables that a template uses."""
    return frozenset(find_undeclared_variables(_ENVIRONMENT.parse(text)))


@cache
def _compile(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)
