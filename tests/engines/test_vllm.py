"""The vLLM engine where a healthy vLLM would not take it: calls that are broken off, odd caches and labels.

vLLM is a stand-in with the nano model's tokenizer and chat template; tests/engines/test_engine.py runs the real one.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.workspace import ROOT

pytest.importorskip("vllm")
from transformers import AutoTokenizer
from vllm.outputs import CompletionOutput, RequestOutput

from synthgen.config.engine import EngineConfig as Settings
from synthgen.engines import ModelName, Reply, Request
from synthgen.engines.vllm import TRIES, VllmEngine
from synthgen.errors import ModelUnavailable

MODEL = ROOT / "demo" / "models" / "nano-vlm"
pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="no nano model is here")
ASK = Request("answer", "What is it?", 12, image=Image.new("RGB", (8, 8)), image_key="pixels")


class Renderer:
    """A renderer that applies the model's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    async def render_messages_async(self, messages: list[dict[str, Any]], options: Any) -> tuple[None, dict[str, str]]:
        plain = [
            {**message, "content": [{**part, "type": part["type"].removesuffix("_pil")} for part in message["content"]]}
            for message in messages
        ]
        return None, {"prompt": self._tokenizer.apply_chat_template(plain, **options.chat_template_kwargs)}


class Llm:
    """A vLLM whose calls end with `endings` in turn, and then always with the last."""

    def __init__(self, *endings: str, **cache: Any) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self._endings, self.prompts, self.aborted = endings, list[dict[str, Any]](), 0
        self.image_tokens = 0
        self.renderer = Renderer(self._tokenizer)
        self.vllm_config = SimpleNamespace(
            cache_config=SimpleNamespace(**{"num_gpu_blocks": 10, "block_size": 16, **cache}),
            scheduler_config=SimpleNamespace(max_num_seqs=4),
            model_config=SimpleNamespace(try_get_generation_config=lambda: {}),
        )

    def get_tokenizer(self) -> Any:
        return self._tokenizer

    async def generate(
        self, prompt: dict[str, Any], parameters: Any, name: str, **more: Any
    ) -> AsyncIterator[RequestOutput]:
        self.prompts.append(prompt)
        ending = self._endings[min(len(self.prompts), len(self._endings)) - 1]
        if ending == "too long":
            raise ValueError("The decoder prompt (length 2000) is longer than the maximum model length of 1024. Make …")
        if ending == "never":
            try:
                await asyncio.Event().wait()
            finally:
                self.aborted += 1
        if ending == "late error":  # after 20 seconds, by the clock of the loop
            loop = asyncio.get_running_loop()
            now = loop.time() + 20
            monotonic = time.monotonic
            start = monotonic()
            loop.time = lambda: now + monotonic() - start  # type: ignore[method-assign]
            await asyncio.sleep(0.01)
        ending = ending.removeprefix("late ")
        whole = ending not in ("error", "abort")
        done = CompletionOutput(
            0, "a chart" if whole else "", [5, 6] if whole else [], None, None, finish_reason=ending
        )
        yield RequestOutput(name, prompt["prompt"], [1, 2, 3] * (1 + self.image_tokens // 3), None, [done], True)


def engine(llm: Llm, seconds: float = 30.0) -> VllmEngine:
    return VllmEngine(llm, ModelName("nano", "r"), Settings(call_seconds=seconds))


def replies(llm: Llm, *requests: Request, seconds: float = 30.0) -> list[Reply]:
    async def talk() -> list[Reply]:
        running = engine(llm, seconds)
        return [await running.generate(request) for request in requests]

    return asyncio.run(talk())


# --- calls that vLLM breaks off --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["error", "abort"])
def test_a_call_that_is_broken_off_is_made_again_with_its_image_sent_whole(ending: str) -> None:
    llm = Llm(ending, "stop")
    (reply,) = replies(llm, ASK)
    assert (reply.text, reply.finish, reply.failure) == ("a chart", "stop", None)
    assert [prompt.get("multi_modal_uuids") for prompt in llm.prompts] == [{"image": "pixels"}, None]
    assert all(prompt["multi_modal_data"] == {"image": ASK.image} for prompt in llm.prompts)


@pytest.mark.parametrize("ending", ["error", "abort"])
@pytest.mark.parametrize("more", [{}, {"given": "a chart"}, {"labels": ("no", "yes")}, {"schema": {"type": "object"}}])
def test_a_call_that_is_broken_off_each_time_is_a_failed_call_and_no_reply_of_the_model(
    ending: str, more: dict[str, Any]
) -> None:
    llm = Llm(ending)
    (reply,) = replies(llm, Request("answer", "What is it?", 12, **more))
    assert len(llm.prompts) == TRIES
    assert (reply.finish, reply.failure) == ("error", "call_failed")
    assert reply.detail == f"vLLM broke the call off 3 times, last with '{ending}'; its log may say why"


def test_a_reply_that_was_cut_off_is_not_asked_for_again() -> None:
    llm = Llm("length")
    assert replies(llm, ASK)[0].finish == "length" and len(llm.prompts) == 1


def test_an_image_that_does_not_fit_the_context_is_a_failed_call_that_says_so() -> None:
    (reply,) = replies(Llm("too long"), ASK)
    assert (reply.failure, reply.detail) == (
        "call_failed",
        "the prompt with its image of 8 x 8 is 2,000 tokens, the context holds 1,024; lower "
        "engine.image_tokens, or raise engine.options.max_model_len",
    )


def test_the_images_of_a_model_whose_files_are_not_there_are_measured(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "synthgen")
    llm = Llm("stop")
    llm.image_tokens = 3000
    replies(llm, ASK, ASK)
    (line,) = [message for message in caplog.messages if "takes" in message]
    assert line.startswith("model nano: an image of 8 x 8 takes 2,9") and "(1,280)" in line


def test_all_tries_together_have_the_time_of_one_call() -> None:
    llm = Llm("late error")
    (reply,) = replies(llm, ASK, seconds=30)
    assert reply.failure == "call_timeout" and len(llm.prompts) == 2


def test_a_call_of_a_cancelled_conversation_is_cancelled_even_while_it_is_tried_again() -> None:
    llm = Llm("error", "never")

    async def cancel() -> None:
        call = asyncio.ensure_future(engine(llm).generate(ASK))
        async with asyncio.timeout(10):
            while len(llm.prompts) < 2:
                await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())
    assert llm.aborted == 1 and len(llm.prompts) == 2


# --- what is known of the engine -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cache", "tokens"),
    [
        ({"kv_cache_size_tokens": 100}, 100),  # several groups: a request takes blocks of each
        ({"kv_cache_size_tokens": None}, 160),
        ({}, 160),
        ({"num_gpu_blocks": None}, None),
    ],
)
def test_the_capacity_of_the_cache_is_the_number_of_vllm_if_it_gives_one_else_that_of_its_blocks(
    cache: dict[str, Any], tokens: int | None
) -> None:
    assert engine(Llm("stop", **cache)).facts.kv_tokens == tokens


IMAGE_AFTER_TEXT = "{% for m in messages %}{{ m['content'][0]['text'] }}<image>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "stops", "end"),
    [
        (None, ["<|end|>"], "<|end|>"),  # the model's own
        (IMAGE_AFTER_TEXT, ["<|end|>", "<image>"], "<image>"),
        (IMAGE_AFTER_TEXT, ["<image>"], "<image>"),
        (IMAGE_AFTER_TEXT, [], "<|end|>"),  # the model does not stop at what the template has there
        (IMAGE_AFTER_TEXT.replace("<image>", ""), ["<|end|>", "<image>"], "<|end|>"),
        ("{{ raise_exception('no user has asked') }}", ["<|end|>", "<image>"], "<|end|>"),
    ],
)
def test_the_token_that_ends_a_reply_is_that_of_the_template_if_the_model_stops_at_it(
    template: str | None, stops: list[str], end: str
) -> None:
    llm = Llm("stop")
    tokenizer = llm.get_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(stops)
    llm.vllm_config.model_config.try_get_generation_config = lambda: {"eos_token_id": ids[0] if len(ids) == 1 else ids}
    tokenizer.chat_template = template or tokenizer.chat_template
    assert asyncio.run(engine(llm).prompts._end_token()) == end


# --- options of the chat template ------------------------------------------------------------------------------------

THINKING = (
    "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] if part['type'] == 'text' else '<image>' }}"
    "{% endfor %}{% endfor %}"
    "{% if enable_thinking is not defined %}<think>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "prompt"), [({}, "<image>What is it?<think>"), ({"enable_thinking": False}, "<image>What is it?")]
)
def test_options_of_the_chat_template_shape_the_prompt(template: dict[str, Any], prompt: str) -> None:
    llm = Llm("stop")
    llm.get_tokenizer().chat_template = THINKING
    running = VllmEngine(llm, ModelName("nano", "r"), Settings(template=template))
    assert asyncio.run(running.generate(ASK)).failure is None
    assert [sent["prompt"] for sent in llm.prompts] == [prompt]


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_of_one_token_are_asked_for() -> None:
    llm = Llm("length")
    assert [reply.failure for reply in replies(llm, *[Request("judge", "Is it?", 1, labels=("no", "yes"))] * 2)] == [
        None,
        None,
    ]
    assert len(llm.prompts) == 2


def test_a_label_of_several_tokens_ends_the_run_with_one_line_before_anything_is_judged() -> None:
    llm = Llm("length")
    message = r"^model nano: the label 'xylophone' is \d of its tokens; a judge prompt needs labels of one token each$"
    with pytest.raises(ModelUnavailable, match=message):
        replies(llm, Request("judge", "Is it?", 1, labels=("no", "yes", "xylophone")))
    assert not llm.prompts
