"""The HTTP client of an endpoint, past every proxy where that is on this machine, and what a refused key means."""

import ipaddress
import os
import ssl
from typing import Any
from urllib.parse import urlsplit

from synthgen.config.engine import EngineConfig
from synthgen.errors import UserMistake

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")  # and in small letters
NO_ACCESS = (401, 403)  # HTTP statuses
KEY_SOURCE = "its key is read from the variable"


def open_client(url: str, key: str, seconds: float) -> Any:
    """Return a client of openai for a base URL.

    Args:
        url: The base URL.
        key: What it is sent as the key.
        seconds: That a call may take.

    Raises:
        UserMistake: The environment names a proxy that cannot be used.
    """
    import openai

    http = None
    if is_here(url):  # a proxy cannot reach what only this machine can
        http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=ssl.create_default_context())
    try:
        return openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=seconds, http_client=http)
    except (ImportError, ValueError) as error:  # a SOCKS proxy without the package for it, or an unknown kind of proxy
        if not (named := _named_proxies()):
            raise
        raise UserMistake(_proxy_fault(named, error)) from error


def is_here(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def key_hint(error: Exception, settings: EngineConfig) -> str:
    """Return where the key is read from if an endpoint refused it, as the end of a message; else nothing."""
    if getattr(error, "status_code", None) not in NO_ACCESS:
        return ""
    state = "is set" if os.environ.get(settings.key_env, "").strip() else "is not set"
    return f"; {KEY_SOURCE} {settings.key_env} (key_env of the engine), which {state} here"


def _named_proxies() -> list[str]:
    names = [spelling for name in PROXIES for spelling in (name, name.lower())]
    return [name for name in names if os.environ.get(name)]


def _proxy_fault(named: list[str], error: Exception) -> str:
    """Return the message for a proxy that cannot be used; its address is not shown, as it may hold a password."""
    socks = [name for name in named if os.environ[name].lower().startswith("socks")]
    if isinstance(error, ImportError) and socks:
        return f"{socks[0]} names a SOCKS proxy, which needs the package socksio: pip install socksio, or unset it"
    kinds = ", ".join(f"{name}={urlsplit(os.environ[name]).scheme}://…" for name in named)
    return f"{kinds}: this proxy cannot be used; name one as http://host:port, or unset the variable"
