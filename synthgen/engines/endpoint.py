"""OpenAI-compatible endpoints: vLLM behind `vllm serve`, or any other server of the chat completions protocol.

Calls rotate over the endpoints that answer. One that is down is set aside and probed by a single call now and then.
Where no endpoint answers, calls wait for a while; then the engine counts as dead, because failing every row of the plan
would help no one. Images travel inside the request as lossless PNG, never as a URL, so that an endpoint sees the pixels
that vLLM in this process would see.
"""

import asyncio
import base64
import io
import itertools
import os
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from PIL.Image import Image

from synthgen.config.engine import EngineConfig
from synthgen.console import note
from synthgen.engines.completion import model_ids, read_completion
from synthgen.engines.endpoint_client import key_hint, open_client
from synthgen.engines.protocol import Capability, EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.engines.special_tokens import SpecialTokens
from synthgen.errors import Failure, ModelUnavailable, listed, one_line

SPECIAL = SpecialTokens()
CAPABILITIES: frozenset[Capability] = frozenset({"labels", "schema", "more"})
CACHED_IMAGES = 64  # data URLs
REQUESTS_AT_ONCE = 64  # each with its own copy of a data URL, about
# A data URL takes some four bytes a pixel, so it counts as one decoded image.
IMAGES_IN_MEMORY = CACHED_IMAGES + REQUESTS_AT_ONCE

# Retry policies of the package, each for another kind of trouble:
#   here              a refused or broken call: `engine.retries` times, on the next endpoint, with jitter up to 30 s;
#                     429 for as long as a call may take in all
#   vllm.py           a call that vLLM breaks off: TRIES times at once, within the time of one call
#   store/remote.py   a request to an object store: ATTEMPTS times, with pauses that triple
#   store/writing.py  a conditional write that the store left undecided: TRIES times, within one such attempt
#   workers/pool.py   a dead worker: replaced, until DEATHS_IN_A_ROW of them finish nothing
RETRIED = (404, 408, 409, 425, 429, 500, 502, 503, 504)  # 404: another endpoint may have the model
DOWN = (404, 502, 503, 504)
LONGEST_PAUSE = 30.0  # seconds, before the jitter
REACH_SECONDS = 30.0  # for an endpoint to list its models
ASIDE_SECONDS = 30.0  # that an endpoint which is down gets no calls
SILENT_SECONDS = 120.0  # without an answer from any endpoint, after which the engine is dead
LONGEST_DETAIL = 500  # characters of a failure
NAMED_MODELS = 20  # of those that endpoints serve, in a message
SERVER_OPTIONS = (  # of vLLM's engine, of those that pipelines name; no server takes them in a call
    *("block_size", "dtype", "enforce_eager", "gpu_memory_utilization", "hf_overrides", "kv_cache_dtype"),
    *("limit_mm_per_prompt", "max_model_len", "max_num_batched_tokens", "max_num_seqs", "pipeline_parallel_size"),
    *("quantization", "tensor_parallel_size", "tokenizer", "trust_remote_code"),
)
LONGEST_ERROR = 10_000  # characters in which a key is looked for; a cut through a key would show half of it


@dataclass
class _Endpoint:
    """One base URL.

    Attributes:
        aside_until: Reading of the monotonic clock until which it gets no calls; 0 if its last call was answered.
        last_call: Number of the last call that it got.
    """

    url: str
    client: Any
    aside_until: float = 0.0
    last_call: int = 0


@dataclass(frozen=True)
class _FailedCall:
    """Why one attempt failed, and whether to try again.

    Attributes:
        is_down: The endpoint itself seems to be down.
        is_final: Another attempt would fail too.
        is_busy: The endpoint limits the rate of calls (429).
        pause: Seconds that it wants callers to wait; 0 if it does not say.
    """

    failure: Failure
    is_down: bool = False
    is_final: bool = False
    is_busy: bool = False
    pause: float = 0.0


class EndpointEngine:
    """An engine that sends its calls to endpoints, through one client for each URL."""

    def __init__(self, endpoints: list[_Endpoint], name: ModelName, settings: EngineConfig, version: str) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._data_urls: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._answered_at = 0.0  # when any endpoint last did
        self._limit_field = "max_tokens"  # some models call it max_completion_tokens
        self.facts = EngineInfo(name.model, name.revision, CAPABILITIES, None, version)

    @staticmethod
    async def reach(name: ModelName, settings: EngineConfig) -> "EndpointEngine":
        """Ask each endpoint for its models, and keep those that have this one or do not answer yet.

        Raises:
            ModelUnavailable: No endpoint answers, or none has the model.
            UserMistake: The environment names a proxy that cannot be used.
        """
        import openai

        endpoints = _open_endpoints(settings)
        answers = await asyncio.gather(*(_list_models(endpoint, settings) for endpoint in endpoints))
        failures = [answer for answer in answers if isinstance(answer, Failure)]
        if len(failures) == len(answers):
            raise ModelUnavailable(f"no endpoint can be used: {'; '.join(failure.detail for failure in failures)}")
        served = {model for answer in answers if not isinstance(answer, Failure) for model in answer}
        if name.model not in served:
            known = one_line(listed(sorted(served), NAMED_MODELS)) or "nothing"
            raise ModelUnavailable(f"model {name.model}: is not served there; served: {known}")
        usable = [
            endpoint
            for endpoint, answer in zip(endpoints, answers, strict=True)
            if isinstance(answer, Failure) or name.model in answer
        ]
        for failure in failures:
            note(f"an endpoint cannot be used, and the others take its calls until it can: {failure.detail}")
        return EndpointEngine(usable, name, settings, f"openai {openai.__version__}")

    async def generate(self, request: Request) -> Reply:
        """Serve one call, retried `retries` times where that can help, and longer while no endpoint answers."""
        if request.given is not None:
            return Reply.failed(Failure("call_failed", "an endpoint gives no log-probabilities of a given reply"))
        started, attempt, waited = time.monotonic(), 0, 0.0
        while True:
            result = await self._try(self._next(), request, started)
            if isinstance(result, Reply):
                return result
            attempt += 1
            is_last = attempt > self._settings.retries
            # A limit on the rate of calls is no failure of this one.
            is_patient = result.is_busy and waited < self._settings.call_seconds
            if result.is_final or (is_last and self._answered_at > started and not is_patient):
                return Reply.failed(result.failure)
            silent = time.monotonic() - max(self._answered_at, started)
            if is_last and silent >= SILENT_SECONDS:
                raise EngineDied(f"no endpoint has answered for {silent:.0f} s: {result.failure.detail}")
            # Full jitter, so that many workers do not come back at the same moment.
            pause = result.pause + random.uniform(0, min(LONGEST_PAUSE, 2.0 ** min(attempt, 5)))
            waited += pause
            await asyncio.sleep(pause)

    def _next(self) -> _Endpoint:
        """Return the endpoint that has waited longest for a call, of those not set aside if there are any."""
        now = time.monotonic()
        ready = [endpoint for endpoint in self._endpoints if endpoint.aside_until <= now]
        chosen = min(ready or self._endpoints, key=lambda endpoint: endpoint.last_call)
        chosen.last_call = next(self._numbers)
        if chosen.aside_until:
            # One call probes whether it is back; the others meanwhile go elsewhere.
            chosen.aside_until = now + ASIDE_SECONDS
        return chosen

    async def _try(self, endpoint: _Endpoint, request: Request, started: float) -> "Reply | _FailedCall":
        body = self._body(request)  # outside: an error of ours must not pass for one of the call
        try:
            # The client's own limit is on each read, so an endpoint that sends a little now and then never meets it.
            async with asyncio.timeout(self._settings.call_seconds):
                # Raw, as openai's own parsing of a strange answer ends anywhere.
                answer = await endpoint.client.chat.completions.with_raw_response.create(**body)
            reply = read_completion(answer.content, request, time.monotonic() - started)
            reply = replace(reply, text=SPECIAL.restore(reply.text), reasoning=SPECIAL.restore(reply.reasoning))
        except Exception as error:  # openai's own, and what is wrong with the answer
            failed = _failed_call(error, self._settings)
            if self._limit_field == "max_tokens" and "max_completion_tokens" in failed.failure.detail:
                self._limit_field, failed = "max_completion_tokens", replace(failed, is_final=False)
            if failed.is_down:
                endpoint.aside_until = time.monotonic() + ASIDE_SECONDS
            else:
                self._answered_at = time.monotonic()
            return failed
        endpoint.aside_until, self._answered_at = 0.0, time.monotonic()
        return reply

    async def close(self) -> None:
        """Do nothing: connections are closed with the process."""

    def _image_url(self, image: Image, key: str | None) -> str:
        """Return the image as a data URL; the calls on one image come close together, so the last few are cached."""
        if key is None:
            return _data_url(image)
        if key not in self._data_urls:
            if len(self._data_urls) >= CACHED_IMAGES:
                del self._data_urls[next(iter(self._data_urls))]
            self._data_urls[key] = _data_url(image)
        return self._data_urls[key]

    def _body(self, request: Request) -> dict[str, Any]:
        """Return the arguments of a call; an option whose value is null removes the field of that name."""
        options = self._settings.options
        body: dict[str, Any] = {"model": self.facts.model, "messages": self._messages(request), "logprobs": True}
        body |= {self._limit_field: request.max_tokens, "temperature": request.temperature, "top_p": request.top_p}
        if request.seed is not None:
            body["seed"] = request.seed
        if request.labels:
            body |= {self._limit_field: 1, "temperature": 0.0, "top_logprobs": 20}
        if request.schema:
            schema = {"name": "reply", "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        # Not of OpenAI's protocol, so sent only where it is configured.
        template = {"chat_template_kwargs": dict(self._settings.template)} if self._settings.template else {}
        body["extra_body"] = {**template, **{name: value for name, value in options.items() if value is not None}}
        return {name: value for name, value in body.items() if options.get(name, value) is not None}

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        keys = request.image_keys or (None,) * len(request.images)
        urls = [self._image_url(image, key) for image, key in zip(request.images, keys, strict=True)]
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        content.append({"type": "text", "text": SPECIAL.break_up(request.text)})
        system = [{"role": "system", "content": request.system}] if request.system else []
        return [*system, {"role": "user", "content": content}]


async def served_models(settings: EngineConfig, seconds: float) -> dict[str, set[str] | Failure]:
    """Return by URL the models that each endpoint serves, or why it does not list them within some seconds."""
    quick = settings.model_copy(update={"call_seconds": min(seconds, settings.call_seconds)})
    endpoints = _open_endpoints(quick)
    answers = await asyncio.gather(*(_list_models(endpoint, quick) for endpoint in endpoints))
    await asyncio.gather(*(endpoint.client.close() for endpoint in endpoints))
    return dict(zip(settings.urls, answers, strict=True))


def _open_endpoints(settings: EngineConfig) -> list[_Endpoint]:
    key = _key(settings) or "none"
    return [_Endpoint(url, open_client(url, key, settings.call_seconds)) for url in settings.urls]


def settings_fault(settings: EngineConfig) -> str | None:
    """Return what is wrong if the settings name no endpoint, or are for a vLLM in this process."""
    if not settings.urls:
        return "an endpoint needs urls, a list of base URLs such as http://127.0.0.1:8000/v1"
    of_server = [f"options.{name}" for name in settings.options if name in SERVER_OPTIONS]
    if settings.image_tokens not in (None, EngineConfig().image_tokens):
        of_server.append("image_tokens")
    if of_server:
        return f"{', '.join(of_server)} would not reach an endpoint; start its server with that, and leave it out here"
    return None


async def _list_models(endpoint: _Endpoint, settings: EngineConfig) -> set[str] | Failure:
    """Return the models that an endpoint serves; one that does not answer, or with an error, is set aside."""
    import openai

    try:
        client = endpoint.client.with_options(timeout=min(settings.call_seconds, REACH_SECONDS))
        listing = await client.models.with_raw_response.list()
        return model_ids(listing.content)
    except openai.OpenAIError as error:
        how = "answers with an error" if isinstance(error, openai.APIStatusError) else "does not answer"
        detail = f"{how}: {_without_key(error, settings)}"
    except Exception:  # a page that is no list
        detail = "answers, but is not a chat completions endpoint"
    endpoint.aside_until = time.monotonic() + ASIDE_SECONDS
    return Failure("call_failed", f"{endpoint.url}: {detail}")


def _failed_call(error: Exception, settings: EngineConfig) -> _FailedCall:
    """Return what an error of openai's client says of the call and of the endpoint."""
    import openai

    detail = _without_key(error, settings)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        failure = Failure("call_timeout", f"no reply within {settings.call_seconds:g} s")
        return _FailedCall(failure, is_down=True)
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        return _FailedCall(
            Failure("call_failed", f"HTTP {status}: {detail}"),
            is_down=status in DOWN,
            is_final=status not in RETRIED,
            is_busy=status == 429,
            pause=_retry_after(error, settings),
        )
    return _FailedCall(Failure("call_failed", detail), is_down=isinstance(error, openai.APIConnectionError))


def _retry_after(error: Any, settings: EngineConfig) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or a date, at most those of a call.

    It is 0 where the header is missing or is neither.
    """
    value = error.response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value) if value.replace(".", "", 1).isdecimal() else _seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), settings.call_seconds)


def _seconds_until(date: str) -> float:
    """Return the seconds until a date of HTTP; a ValueError if it is none."""
    then = parsedate_to_datetime(date)
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - time.time()


def _key(settings: EngineConfig) -> str:
    return os.environ.get(settings.key_env, "").strip()


def _without_key(error: Exception, settings: EngineConfig) -> str:
    """Return an error and its cause as one line, without the key, which an endpoint may repeat."""
    text = one_line(error, LONGEST_ERROR)
    if error.__cause__:
        text += f" ({one_line(error.__cause__, LONGEST_ERROR)})"
    key = _key(settings)
    return one_line(text.replace(key, "***") if key else text, LONGEST_DETAIL) + key_hint(error, settings)


def _data_url(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
