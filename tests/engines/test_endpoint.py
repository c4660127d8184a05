"""The endpoint engine against servers on loopback that speak the chat protocol and misbehave in every usual way."""

import asyncio
import base64
import contextlib
import io
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from synthgen.config.engine import EngineConfig as Settings
from synthgen.engines import EngineDied, ModelName, Reply, Request, endpoint, open_engine
from synthgen.engines.endpoint import EndpointEngine
from synthgen.errors import ModelUnavailable
from tests.fixtures.noise import grey_noise

NAME = ModelName("the-model", "unverified")
KEY = "sk-never-to-be-seen-1234"
Answer = tuple[int, Any] | str | None  # status and JSON, or text of another kind, or the connection reset
Deciding = Callable[["Server", dict[str, Any]], Answer]


def completion(text: str, **more: Any) -> dict[str, Any]:
    """Return a chat completion."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": more.pop("finish", "stop"),
        "logprobs": more.pop("logprobs", None),
    }
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": 3,
        "total_tokens": 43,
        "prompt_tokens_details": {"cached_tokens": 32},
    }
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "the-model",
        "choices": [choice],
        "usage": usage,
        **more,
    }


class Server:
    """An endpoint that answers each call by `decide`."""

    def __init__(self, decide: Deciding, models: tuple[str, ...] = ("the-model",)) -> None:
        self.decide = decide
        listed = [{"id": model, "object": "model", "created": 1, "owned_by": "x"} for model in models]
        self.models: Answer = (200, {"object": "list", "data": listed})
        self.calls: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.extra_headers: dict[str, str] = {}
        self.listener = self._listen(0)
        self.url = f"http://127.0.0.1:{self.listener.server_port}/v1"

    def _listen(self, port: int) -> ThreadingHTTPServer:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                self._send(server.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.calls.append(body)
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                self._send(server.decide(server, body))

            def _send(self, answer: Answer) -> None:
                self.close_connection = True
                if answer is None:
                    self.connection.close()
                    return
                status, kind, text = (
                    (200, "text/html", answer)
                    if isinstance(answer, str)
                    else (answer[0], "application/json", json.dumps(answer[1]))
                )
                data = text.encode()
                self.send_response(status)
                for name, value in server.extra_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the other side has gone, or this one has
                    super().handle()

        listener = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return listener

    def stop(self) -> None:
        self.listener.shutdown()
        self.listener.server_close()

    def start_again(self) -> None:
        self.listener = self._listen(self.listener.server_port)


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(decide: Deciding | None = None, **more: Any) -> Server:
        servers.append(Server(decide or (lambda server, body: (200, completion("two"))), **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record pauses instead of waiting for them, and set a key in the environment."""
    pauses: list[float] = []
    really = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await really(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return pauses


def settings(*servers: Server | str, **more: Any) -> Settings:
    return Settings(
        kind="endpoint", urls=tuple(server if isinstance(server, str) else server.url for server in servers), **more
    )


def ask(configured: Settings, *requests: Request) -> list[Reply]:
    """Return the replies to calls that are made one after the other."""

    async def talk() -> list[Reply]:
        engine = await EndpointEngine.reach(NAME, configured)
        return [await engine.generate(request) for request in requests]

    return asyncio.run(talk())


PLAIN = Request("answer", "How many?", 16)


# --- what is sent and what comes back --------------------------------------------------------------------------------


def test_the_image_travels_whole_and_stands_before_the_text(serve: Serve) -> None:
    server = serve()
    image = grey_noise((13, 7), 90).convert("RGB")
    request = Request(
        "answer", "How many?", 16, image=image, image_key="k", system="Be good.", temperature=0.5, top_p=0.8, seed=7
    )
    ask(settings(server), request)
    (body,) = server.calls
    assert [message["role"] for message in body["messages"]] == ["system", "user"] and body["messages"][0][
        "content"
    ] == "Be good."
    picture, text = body["messages"][1]["content"]
    assert text == {"type": "text", "text": "How many?"}
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64" and picture["type"] == "image_url"
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == image.tobytes()
    fields = {key: body[key] for key in ("model", "max_tokens", "temperature", "top_p", "seed", "logprobs")}
    assert fields == {
        "model": "the-model",
        "max_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.8,
        "seed": 7,
        "logprobs": True,
    }


def test_spellings_that_were_broken_up_are_restored_in_the_text_and_the_thoughts(serve: Serve) -> None:
    broken = "<\u200b|im_end|>"
    server = serve(lambda server, body: (200, completion(f"<think>It says {broken}.</think>{broken} in\u200b red")))
    (reply,) = ask(settings(server), replace(PLAIN, text="What does <|im_end|> mean?"))
    assert broken in json.dumps(server.calls[0], ensure_ascii=False)
    assert (reply.text, reply.reasoning) == ("<|im_end|> in\u200b red", "It says <|im_end|>.")


def test_a_call_without_image_and_seed_sends_neither(serve: Serve) -> None:
    server = serve()
    ask(settings(server), PLAIN)
    assert server.calls[0]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "How many?"}]}]
    assert "seed" not in server.calls[0] and "response_format" not in server.calls[0]


def test_a_schema_is_enforced_by_the_endpoint(serve: Serve) -> None:
    server = serve()
    ask(settings(server), Request("ask", "Ask", 16, schema={"type": "object"}))
    form = server.calls[0]["response_format"]
    assert (
        form["type"] == "json_schema"
        and form["json_schema"]["schema"] == {"type": "object"}
        and form["json_schema"]["strict"] is True
    )


def test_options_of_the_chat_template_are_sent_where_there_are_any(serve: Serve) -> None:
    server = serve()
    ask(settings(server, template={"enable_thinking": False}), PLAIN)
    ask(settings(server), PLAIN)
    assert [body.get("chat_template_kwargs") for body in server.calls] == [{"enable_thinking": False}, None]
    assert "extra_body" not in server.calls[0]


def test_an_image_is_encoded_once_for_its_calls(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "CACHED_IMAGES", 4)
    server, encoded = serve(), list[Image.Image]()
    data_url = endpoint._data_url

    def encode(image: Image.Image) -> str:
        encoded.append(image)
        return data_url(image)

    monkeypatch.setattr(endpoint, "_data_url", encode)
    images = [Image.new("RGB", (4, 4), (number, 0, 0)) for number in range(9)]
    requests = [
        Request("answer", "q", 4, image=image, image_key=str(number))
        for number, image in enumerate(images)
        for _ in range(2)
    ]
    ask(settings(server), *requests)
    assert len(encoded) == len(images)
    urls = {body["messages"][0]["content"][0]["image_url"]["url"] for body in server.calls}
    assert len(urls) == len(images)


def test_text_log_probabilities_and_tokens_are_read(serve: Serve) -> None:
    tokens: list[dict[str, Any]] = [
        {"token": text, "logprob": value, "bytes": None, "top_logprobs": []}
        for text, value in (("tw", -0.5), ("o", -0.25))
    ]
    server = serve(lambda server, body: (200, completion(" two\n", logprobs={"content": tokens, "refusal": None})))
    (reply,) = ask(settings(server), PLAIN)
    assert (reply.text, reply.finish, reply.failure) == ("two", "stop", None) and reply.logprobs == (-0.5, -0.25)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.output_tokens) == (40, 32, 3) and reply.seconds > 0


def test_the_probability_of_a_label_is_that_of_all_its_spellings(serve: Serve) -> None:
    top = [
        {"token": token, "logprob": math.log(p), "bytes": None}
        for token, p in (("5", 0.5), (" 5", 0.25), ("4", 0.125), ("x", 0.1))
    ]
    tokens = [{"token": "5", "logprob": math.log(0.5), "bytes": None, "top_logprobs": top}]
    server = serve(lambda server, body: (200, completion("5", logprobs={"content": tokens, "refusal": None})))
    (reply,) = ask(settings(server), Request("judge", "Rate", 9, temperature=1.0, labels=("3", "4", "5")))
    assert reply.labels == {"3": 0.0, "4": pytest.approx(0.125), "5": pytest.approx(0.75)}
    assert [server.calls[0][key] for key in ("max_tokens", "temperature", "top_logprobs")] == [1, 0, 20]


@pytest.mark.parametrize(
    ("answer", "text", "finish", "failure"),
    [
        (completion("half a", finish="length"), "half a", "length", None),
        (completion("", message={"content": None, "refusal": "I will not"}), "", "content_filter", None),
        (completion("", finish="content_filter"), "", "content_filter", None),
        (completion("x", choices=[]), "", "error", "call_failed"),
        (completion("half \ud83d a character"), "half ? a character", "stop", None),
        (completion("no counts", usage=None), "no counts", "stop", None),
        (
            completion("", message={"content": [{"type": "text", "text": "in "}, {"text": "parts"}]}),
            "in parts",
            "stop",
            None,
        ),
        (completion("", message={"content": None, "reasoning_content": "Hm."}), "", "stop", None),
        (completion("", message={"content": None, "tool_calls": [{"id": "1"}]}), "", "error", "call_failed"),
        (completion("", message={"content": 7}), "", "error", "call_failed"),
        (completion("by its end token", finish="eos_token"), "by its end token", "stop", None),
        (completion("half a", finish="MAX_TOKENS"), "half a", "length", None),
        (completion("who knows", finish="load"), "", "error", "call_failed"),
        (completion("no reason", finish=None), "no reason", "stop", None),
        (completion("x", choices=[None]), "", "error", "call_failed"),
        (completion("x", choices=[{"text": "no message"}]), "", "error", "call_failed"),
        ({"error": {"message": "overloaded", "code": 529}}, "", "error", "call_failed"),
        ([1, 2], "", "error", "call_failed"),
    ],
)
def test_unusual_answers_become_replies_or_failures(
    serve: Serve, answer: dict[str, Any], text: str, finish: str, failure: str | None
) -> None:
    (reply,) = ask(settings(serve(lambda server, body: (200, answer))), PLAIN)
    assert (reply.text, reply.finish, reply.failure) == (text, finish, failure)


def test_the_likelihood_of_a_given_reply_is_refused_without_a_call(serve: Serve) -> None:
    server = serve()
    (reply,) = ask(settings(server), Request("given", "q", 1, given="two"))
    assert reply.failure == "call_failed" and not server.calls


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        (429, {"error": "busy"}),
        (500, {"error": "oops"}),
        (503, {"error": "loading"}),
        (408, {}),
        None,
        "<html>a proxy</html>",
    ],
)
def test_a_transient_failure_is_retried_after_a_growing_pause(serve: Serve, clock: list[float], first: Answer) -> None:
    server = serve(lambda server, body: first if len(server.calls) <= 3 else (200, completion("two")))
    (reply,) = ask(settings(server, retries=3), PLAIN)
    assert reply.text == "two" and len(server.calls) == 4
    assert len(clock) == 3 and all(0 <= pause <= 2.0**attempt for attempt, pause in enumerate(clock, 1))


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ((409, {"error": "busy"}), "HTTP 409"),
        ((500, {}), "HTTP 500"),
        ("<html>", "ValueError: not a chat completion: <html>"),
        ((200, completion("half a", finish="abort")), "ValueError: the answer was broken off: finish_reason 'abort'"),
    ],
)
def test_a_failure_that_persists_costs_the_call_after_its_retries(serve: Serve, answer: Answer, detail: str) -> None:
    server = serve(lambda server, body: answer)
    (reply,) = ask(settings(server, retries=2), PLAIN)
    assert reply.failure == "call_failed" and detail in (reply.detail or "") and len(server.calls) == 3


def test_a_limit_on_the_rate_of_calls_is_waited_for_as_long_as_a_call_may_take(
    serve: Serve, clock: list[float]
) -> None:
    server = serve(
        lambda server, body: (429, {"error": "busy"}) if len(server.calls) <= 8 else (200, completion("two"))
    )
    server.extra_headers = {"Retry-After": "20"}
    (reply,) = ask(settings(server, retries=2, call_seconds=600.0), PLAIN)
    assert reply.text == "two" and len(clock) == 8 and all(pause >= 20 for pause in clock)
    clock.clear()
    server.calls.clear()
    (reply,) = ask(settings(server, retries=2, call_seconds=50.0), PLAIN)
    assert reply.failure == "call_failed" and "HTTP 429" in (reply.detail or "") and 50 <= sum(clock) <= 80


@pytest.mark.parametrize(
    "value", ["soon", "-5", "nan", "1e999", "²", "9" * 400, "Fri, 31 Dec 1999 23:59:59 GMT", "0,5"]
)
def test_a_garbled_time_to_wait_is_no_time_and_never_longer_than_a_call(
    serve: Serve, clock: list[float], value: str
) -> None:
    server = serve(
        lambda server, body: (429, {"error": "busy"}) if len(server.calls) == 1 else (200, completion("two"))
    )
    server.extra_headers = {"Retry-After": value}
    (reply,) = ask(settings(server, call_seconds=40.0), PLAIN)
    assert reply.text == "two" and len(clock) == 1 and 0 <= clock[0] <= 42


def test_a_time_to_wait_can_be_a_date(serve: Serve, clock: list[float]) -> None:
    server = serve(lambda server, body: (429, {}) if len(server.calls) == 1 else (200, completion("two")))
    server.extra_headers = {"Retry-After": formatdate(time.time() + 30, usegmt=True)}
    ask(settings(server, call_seconds=600.0), PLAIN)
    assert 28 <= clock[0] <= 33


def test_a_model_that_limits_replies_by_another_field_gets_that_field(serve: Serve) -> None:
    def decide(server: Server, body: dict[str, Any]) -> Answer:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return (400, {"error": {"message": message}}) if "max_tokens" in body else (200, completion("two"))

    server = serve(decide)
    replies = ask(settings(server), PLAIN, Request("judge", "q", 1, labels=("no", "yes")))
    assert [reply.failure for reply in replies] == [None, None]
    assert sum("max_tokens" in call for call in server.calls) <= 2 and server.calls[-1]["max_completion_tokens"] in (
        1,
        PLAIN.max_tokens,
    )


def test_options_are_fields_of_each_call_and_null_leaves_one_out(serve: Serve) -> None:
    server = serve()
    ask(settings(server, options={"top_k": 20, "logprobs": None}), PLAIN)
    assert server.calls[0]["top_k"] == 20 and "logprobs" not in server.calls[0] and "max_tokens" in server.calls[0]


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
def test_a_refusal_is_not_retried(serve: Serve, clock: list[float], status: int) -> None:
    server = serve(lambda server, body: (status, {"error": {"message": f"the key {KEY} is\nwrong"}}))
    (reply,) = ask(settings(server), PLAIN)
    assert (
        reply.failure == "call_failed"
        and f"HTTP {status}" in (reply.detail or "")
        and len(server.calls) == 1
        and not clock
    )
    assert KEY not in (reply.detail or "") and "\n" not in (reply.detail or "")


def test_a_call_without_an_answer_is_a_time_out_of_its_own(serve: Serve) -> None:
    gate = threading.Event()

    def decide(server: Server, body: dict[str, Any]) -> Answer:
        if body["messages"][0]["content"][0]["text"] == "hang":
            gate.wait(20)
        return (200, completion("two"))

    async def talk(configured: Settings) -> tuple[Reply, Reply]:
        engine = await EndpointEngine.reach(NAME, configured)
        slow = asyncio.create_task(engine.generate(Request("answer", "hang", 16)))
        while not server.calls:
            await asyncio.sleep(0)
        return await engine.generate(PLAIN), await slow

    server = serve(decide)
    quick, slow = asyncio.run(talk(settings(server, call_seconds=0.5, retries=0)))
    gate.set()
    assert quick.text == "two"
    assert slow.failure == "call_timeout" and slow.detail == "no reply within 0.5 s"


def test_a_call_that_goes_on_and_on_is_a_time_out_too() -> None:
    """The limit of the client is on each read, so an answer that trickles in would never meet it."""

    class Trickling:
        def __init__(self) -> None:
            self.chat = self.completions = self.with_raw_response = self

        async def create(self, **body: Any) -> None:
            await asyncio.Event().wait()

    slow = settings("http://127.0.0.1:9/v1", call_seconds=0.05, retries=0)
    engine = EndpointEngine([endpoint._Endpoint("a", Trickling())], NAME, slow, "v")
    engine._answered_at = math.inf  # as if other calls were answered
    reply = asyncio.run(engine.generate(PLAIN))
    assert reply.failure == "call_timeout" and reply.detail == "no reply within 0.05 s"


def test_an_error_of_our_own_is_no_failure_of_the_call(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(image: Image.Image) -> str:
        raise AssertionError("ours")

    monkeypatch.setattr(endpoint, "_data_url", broken)
    with pytest.raises(AssertionError, match="ours"):
        ask(settings(serve()), Request("answer", "q", 4, image=Image.new("RGB", (4, 4))))


def test_a_dead_endpoint_among_two_costs_no_row_and_is_put_aside(serve: Serve, clock: list[float]) -> None:
    alive, dead = serve(), serve()

    async def talk() -> list[Reply]:
        engine = await EndpointEngine.reach(NAME, settings(dead, alive, retries=1))
        await engine.generate(PLAIN)
        dead.stop()
        return [await engine.generate(PLAIN) for _ in range(10)]

    replies = asyncio.run(talk())
    dead.start_again()
    assert [reply.text for reply in replies] == ["two"] * 10
    assert len(dead.calls) == 1 and len(alive.calls) == 10 and len(clock) == 1


def test_an_endpoint_that_comes_back_is_given_calls_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "ASIDE_SECONDS", 0.0)
    steady, shaky = serve(), serve()

    async def talk() -> int:
        engine = await EndpointEngine.reach(NAME, settings(steady, shaky))
        shaky.stop()
        for _ in range(4):
            assert (await engine.generate(PLAIN)).text == "two"
        before = len(shaky.calls)
        shaky.start_again()
        for _ in range(4):
            assert (await engine.generate(PLAIN)).text == "two"
        return len(shaky.calls) - before

    assert asyncio.run(talk()) >= 2


def test_a_single_call_probes_whether_an_endpoint_is_back() -> None:
    engine = EndpointEngine(
        [endpoint._Endpoint("a", None), endpoint._Endpoint("b", None, aside_until=0.001)], NAME, Settings(), "v"
    )
    assert [engine._next().url for _ in range(4)].count("b") == 1


def test_an_endpoint_that_was_down_at_the_start_joins_later(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "ASIDE_SECONDS", 0.0)
    alive, late = serve(), serve()
    late.stop()

    async def talk() -> None:
        engine = await EndpointEngine.reach(NAME, settings(late, alive))
        late.start_again()
        for _ in range(4):
            assert (await engine.generate(PLAIN)).text == "two"

    asyncio.run(talk())
    assert late.calls and alive.calls


def test_calls_are_shared_between_endpoints(serve: Serve) -> None:
    first, second = serve(), serve()
    ask(settings(first, second), *[PLAIN] * 10)
    assert len(first.calls) == len(second.calls) == 5


def test_when_no_endpoint_answers_any_more_the_engine_is_dead(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SILENT_SECONDS", 0.3)
    server = serve()

    async def talk() -> None:
        engine = await EndpointEngine.reach(NAME, settings(server, retries=1))
        await engine.generate(PLAIN)
        server.stop()
        with pytest.raises(EngineDied, match="no endpoint has answered for 0 s: APIConnectionError"):
            await engine.generate(PLAIN)

    asyncio.run(talk())
    server.start_again()


def test_an_outage_shorter_than_that_costs_no_row(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    failures = iter([None] * 6)
    server.decide = lambda server, body: next(failures, (200, completion("two")))
    (reply,) = ask(settings(server, retries=2), PLAIN)
    assert reply.text == "two" and len(server.calls) == 7


# --- reaching --------------------------------------------------------------------------------------------------------


def refusal(configured: Settings, name: ModelName = NAME) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        asyncio.run(open_engine(name, configured))
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    return str(caught.value)


def test_a_key_is_sent_and_none_is_needed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    ask(settings(server), PLAIN)
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    for value in (None, ""):
        server.headers.clear()
        monkeypatch.setenv("OPENAI_API_KEY", "") if value == "" else monkeypatch.delenv("OPENAI_API_KEY")
        assert ask(settings(server), PLAIN)[0].text == "two"
        assert KEY not in str(server.headers)
    monkeypatch.setenv("MY_KEY", "another")
    server.headers.clear()
    ask(settings(server, key_env="MY_KEY"), PLAIN)
    assert {headers["authorization"] for headers in server.headers} == {"Bearer another"}


def test_a_model_that_is_not_served_is_one_line_with_those_that_are(serve: Serve) -> None:
    server = serve(models=("big", "small"))
    assert refusal(settings(server)) == "model the-model: is not served there; served: big, small"


def test_endpoints_that_serve_other_models_get_no_calls(serve: Serve) -> None:
    right, wrong = serve(), serve(models=("other",))
    ask(settings(wrong, right), *[PLAIN] * 4)
    assert len(right.calls) == 4 and not wrong.calls


def test_no_endpoint_at_all_is_one_line_that_names_each(serve: Serve) -> None:
    server = serve()
    server.models = (401, {"error": {"message": f"bad key {KEY}"}})
    message = refusal(settings(server, "http://127.0.0.1:9/v1"))
    assert message.startswith(
        f"no endpoint can be used: {server.url}: answers with an error: AuthenticationError: Error code: 401"
    )
    assert "http://127.0.0.1:9/v1: does not answer: APIConnectionError" in message and KEY not in message


def test_an_address_with_a_password_is_refused() -> None:
    with pytest.raises(ValidationError, match="contains a user name or password"):
        settings("http://me:secret@127.0.0.1:9/v1")


def test_a_page_that_is_no_endpoint_is_one_line(serve: Serve) -> None:
    server = serve()
    server.models = "<html>hello</html>"
    message = "answers, but is not a chat completions endpoint"
    assert refusal(settings(server)) == f"no endpoint can be used: {server.url}: {message}"
    server.models = (200, {"hello": "world"})
    message = refusal(settings(server))
    assert "is not a chat completions endpoint" in message or "served: nothing" in message


@pytest.mark.parametrize("data", [None, [None, 7, {"id": None}, {"id": 8}, {}, {"id": "other \ud83d"}]])
def test_a_list_of_models_with_odd_entries_names_those_that_are_models(serve: Serve, data: Any) -> None:
    server = serve()
    server.models = (200, {"object": "list", "data": data})
    served = "other ?" if data else "nothing"
    assert refusal(settings(server)).replace("\\ud83d", "?").endswith(f"is not served there; served: {served}")


def test_an_endpoint_that_hangs_does_not_hold_up_the_start(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(endpoint, "REACH_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        assert "APITimeoutError" in refusal(settings(url))
