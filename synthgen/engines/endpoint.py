"""OpenAI-compatible endpoints: vLLM behind `vllm serve`, or anything else that speaks the chat protocol.

Comes in: Requests with decoded images. Goes out: Replies. Calls go in turn to the endpoints that answer; 429, 5xx, time-outs
and reset connections are tried again with backoff, on another endpoint where there is one; one that asks for patience (429) gets
it, as long as it says and for as long as a call may take in all. An endpoint that is down is put
aside and tried by one call now and then. Where none answers any more, the calls wait a while; then the engine counts as
dead, because failing every row of the plan would help nobody. Images travel as lossless PNG in the request, never as a URL,
so that an endpoint sees the pixels that vLLM in this process would see.
"""

import asyncio
import base64
import io
import itertools
import math
import os
import random
import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from PIL.Image import Image

from synthgen.config.pipeline import EngineConfig
from synthgen.engines import EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.errors import ModelUnavailable

KEPT_IMAGES = 64
RETRIED = (404, 408, 409, 425, 429, 500, 502, 503, 504)  # 404: this endpoint does not have the model, another may
DOWN = (404, 502, 503, 504)
REACH_SECONDS = 30.0  # for an endpoint to say what it serves
ASIDE_SECONDS = 30.0  # that an endpoint which is down is left alone
BROKEN_OFF = (
    "abort",
    "error",
    "cancelled",
    "insufficient_system_resource",
)  # how servers say that they did not finish an answer
SILENT_SECONDS = 120.0  # without an answer from any endpoint, after which the engine is dead


@dataclass
class _Endpoint:
    url: str
    client: Any
    aside_until: float = 0.0  # 0: it answered when it was last asked
    used: int = 0  # the number of the last call that it got


@dataclass(frozen=True)
class _Trouble:
    """A call that came to nothing."""

    reply: Reply
    is_down: bool = False  # the endpoint, as far as one can see
    again: bool = True  # trying again can help
    is_busy: bool = False  # it asks for patience
    pause: float = 0.0  # seconds, if it says how much of it


class EndpointEngine:
    """One client for each URL."""

    def __init__(self, endpoints: list[_Endpoint], name: ModelName, settings: EngineConfig, version: str) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._data_urls: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._answered_at = 0.0  # when any endpoint last did
        self._most = "max_tokens"  # what the length of a reply is limited by; some models know it by another name only
        self.facts = EngineInfo(name.model, name.revision, frozenset({"labels", "schema"}), None, version)

    @staticmethod
    async def reach(name: ModelName, settings: EngineConfig) -> "EndpointEngine":
        """Asks each endpoint for its models; ModelUnavailable if none answers or none has the model."""
        import openai

        key = _key(settings) or "none"
        endpoints = [
            _Endpoint(url, openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=settings.call_seconds))
            for url in settings.urls
        ]
        found = await asyncio.gather(*(_served(one, settings) for one in endpoints))
        served = {model for models in found if isinstance(models, set) for model in models}
        faults = [models for models in found if isinstance(models, str)]
        if len(faults) == len(found):
            raise ModelUnavailable(f"no endpoint answers: {'; '.join(faults)}")
        if name.model not in served:
            raise ModelUnavailable(
                f"model {name.model}: is not served there; served: {', '.join(sorted(served)) or 'nothing'}"
            )
        usable = [
            one for one, models in zip(endpoints, found, strict=True) if isinstance(models, str) or name.model in models
        ]
        return EndpointEngine(usable, name, settings, f"openai {openai.__version__}")

    async def generate(self, request: Request) -> Reply:
        """Serves one call, tried again `retries` times where trying again can help, and longer while no endpoint answers."""
        if request.given is not None:
            return Reply("", "error", "call_failed", "an endpoint gives no log-probabilities of a given reply")
        started, attempt, waited = time.monotonic(), 0, 0.0
        while True:
            found = await self._try(self._next(), request, started)
            if isinstance(found, Reply):
                return found
            attempt += 1
            is_patient = (
                found.is_busy and waited < self._settings.call_seconds
            )  # a limit on the rate of calls is no failure of this one
            if not found.again or (attempt > self._settings.retries and self._answered_at > started and not is_patient):
                return found.reply
            silent = time.monotonic() - max(self._answered_at, started)
            if attempt > self._settings.retries and silent >= SILENT_SECONDS:
                raise EngineDied(f"no endpoint has answered for {silent:.0f} s: {found.reply.detail}")
            # Full jitter, so that many workers do not come back at the same moment.
            pause = found.pause + random.uniform(0, min(30.0, 2.0 ** min(attempt, 5)))
            waited += pause
            await asyncio.sleep(pause)

    def _next(self) -> _Endpoint:
        """The endpoint that has waited longest for a call, of those that are not put aside, if there are any."""
        now = time.monotonic()
        chosen = min(
            [one for one in self._endpoints if one.aside_until <= now] or self._endpoints, key=lambda one: one.used
        )
        chosen.used = next(self._numbers)
        if chosen.aside_until:
            # One call finds out whether it is back; the others meanwhile go elsewhere.
            chosen.aside_until = now + ASIDE_SECONDS
        return chosen

    async def _try(self, endpoint: _Endpoint, request: Request, started: float) -> "Reply | _Trouble":
        try:
            answer = await endpoint.client.chat.completions.create(**self._body(request))
            reply = _reply(answer, request, time.monotonic() - started)
            if reply.finish in BROKEN_OFF:
                raise ValueError(f"the answer was broken off: finish_reason '{reply.finish}'")
        except Exception as error:  # besides openai's own: whatever its parsing of a strange answer ends in
            trouble = _trouble(error, self._settings)
            if self._most == "max_tokens" and "max_completion_tokens" in (trouble.reply.detail or ""):
                self._most, trouble = "max_completion_tokens", replace(trouble, again=True)
            if trouble.is_down:
                endpoint.aside_until = time.monotonic() + ASIDE_SECONDS
            else:
                self._answered_at = time.monotonic()
            return trouble
        endpoint.aside_until, self._answered_at = 0.0, time.monotonic()
        return reply

    async def close(self) -> None:
        """Connections are closed with the process."""

    def _image_part(self, image: Image, key: str | None) -> str:
        """The image as a data URL; the calls on one image come close together, so the last few are kept."""
        if key is None:
            return _data_url(image)
        if key not in self._data_urls:
            if len(self._data_urls) >= KEPT_IMAGES:
                del self._data_urls[next(iter(self._data_urls))]
            self._data_urls[key] = _data_url(image)
        return self._data_urls[key]

    def _body(self, request: Request) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": request.text}]
        if request.image is not None:
            content.insert(
                0, {"type": "image_url", "image_url": {"url": self._image_part(request.image, request.image_key)}}
            )
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {"model": self.facts.model, "messages": messages, "logprobs": True}
        body |= {self._most: request.max_tokens, "temperature": request.temperature, "top_p": request.top_p}
        if request.seed is not None:
            body["seed"] = request.seed
        if request.labels:
            body |= {self._most: 1, "temperature": 0.0, "top_logprobs": 20}
        if request.schema:
            schema = {"name": "reply", "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        # Not of OpenAI's protocol, so only where it is asked for.
        more = {"chat_template_kwargs": dict(self._settings.template)} if self._settings.template else {}
        body["extra_body"] = {
            **more,
            **{name: value for name, value in self._settings.options.items() if value is not None},
        }
        return {name: value for name, value in body.items() if self._settings.options.get(name, value) is not None}


def _reply(answer: Any, request: Request, seconds: float) -> Reply:
    if not hasattr(answer, "choices"):  # a page of a proxy, with status 200
        raise ValueError(f"not a chat completion: {str(answer)[:200]}")
    if not answer.choices:
        return Reply("", "error", "call_failed", "an answer without choices", seconds=seconds)
    choice = answer.choices[0]
    text = (choice.message.content or "").encode("utf-8", "replace").decode()  # JSON can spell half a character
    tokens = choice.logprobs.content or [] if choice.logprobs else []
    usage = answer.usage
    details = getattr(usage, "prompt_tokens_details", None)
    return Reply(
        text=text.strip(),
        finish="content_filter" if getattr(choice.message, "refusal", None) else choice.finish_reason or "stop",
        logprobs=tuple(token.logprob for token in tokens),
        labels=_label_probabilities(tokens, request.labels) if request.labels else {},
        prompt_tokens=usage.prompt_tokens if usage else 0,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        output_tokens=usage.completion_tokens if usage else 0,
        seconds=seconds,
    )


async def _served(endpoint: _Endpoint, settings: EngineConfig) -> "set[str] | str":
    """The models that an endpoint serves, or why it does not say."""
    import openai

    try:
        listing = await endpoint.client.with_options(timeout=min(settings.call_seconds, REACH_SECONDS)).models.list()
        return {model.id for model in listing.data}
    except openai.OpenAIError as error:
        why = _clean(error, settings)
    except Exception:  # openai's parsing of a page that is no list
        why = "answers, but not as a chat endpoint does"
    endpoint.aside_until = time.monotonic() + ASIDE_SECONDS
    parts = urlsplit(endpoint.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: {why}"


def _trouble(error: Exception, settings: EngineConfig) -> _Trouble:
    import openai

    said = _clean(error, settings)
    if isinstance(error, openai.APITimeoutError):
        return _Trouble(
            Reply("", "error", "call_timeout", f"no reply within {settings.call_seconds:g} s"), is_down=True
        )
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        reply = Reply("", "error", "call_failed", f"HTTP {status}: {said}")
        return _Trouble(reply, status in DOWN, status in RETRIED, status == 429, _wanted_pause(error, settings))
    return _Trouble(Reply("", "error", "call_failed", said), is_down=isinstance(error, openai.APIConnectionError))


def _wanted_pause(error: Any, settings: EngineConfig) -> float:
    """The seconds after which an endpoint wants to be asked again, if it gives a number of them; no more than a call may take."""
    said = error.response.headers.get("retry-after", "")
    return min(float(said), settings.call_seconds) if said.replace(".", "", 1).isdecimal() else 0.0


def _key(settings: EngineConfig) -> str:
    return os.environ.get(settings.key_env, "").strip()


def _clean(error: Exception, settings: EngineConfig) -> str:
    """An error in one line, without the key, which an endpoint may repeat."""
    said = " ".join(str(error).split()) or type(error).__name__
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    text = f"{type(error).__name__}: {said}{cause}"
    key = _key(settings)
    return (text.replace(key, "***") if key else text)[:500]


def _label_probabilities(tokens: list[Any], labels: tuple[str, ...]) -> dict[str, float]:
    found = dict.fromkeys(labels, 0.0)
    for entry in tokens[0].top_logprobs if tokens else ():
        if (label := entry.token.strip()) in found:
            found[label] += math.exp(entry.logprob)
    return found


def _data_url(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
