"""Jinja templates of prompts: strict and sandboxed, so a missing variable is an error and no file can reach Python."""

from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from synthgen.errors import nearest


class _Undefined(StrictUndefined):
    """What a template names and is not there; the message has no name of a class in it."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_obj is missing or self._undefined_hint:
            return super()._undefined_message
        parts = [name for name in dir(self._undefined_obj) if name.islower() and not name.startswith(("_", "model_"))]
        return f"nothing is called '{self._undefined_name}' there: {nearest(str(self._undefined_name), parts)}"


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=_Undefined, keep_trailing_newline=True, autoescape=False)


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
