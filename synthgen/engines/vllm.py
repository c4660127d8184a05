"""vLLM in this process: the engine of a Ray actor.

Images go to vLLM as objects under a uuid that identifies their pixels, so that later calls on an image reuse its
encoded form and its KV prefix. The chat template is rendered once, around a marker, and every prompt is filled into
that frame: any model that vLLM can chat with works, and no call pays for templating.
"""

import asyncio
import itertools
import math
import os
import secrets
import time
from dataclasses import replace
from typing import Any

from PIL import Image
from pydantic import ValidationError

from synthgen.config.pipeline import EngineConfig
from synthgen.engines.protocol import (
    ALL_CAPABILITIES,
    EngineDied,
    EngineInfo,
    ModelName,
    Reply,
    Request,
    label_probabilities,
)
from synthgen.engines.vllm_logs import explain
from synthgen.engines.vllm_processes import end_with_this_process
from synthgen.errors import Failure, ModelUnavailable, one_line

MARKER = "\u241e7f3a the text \u241e"
TRIES = 3  # of a call that vLLM breaks off
BROKEN_OFF = ("error", "abort")  # finish reasons of a call that vLLM did not finish; it raises nothing then
LONGEST_DETAIL = 500  # characters of a failure
# Engine arguments that can change a reply.
REPLY_OPTIONS = (
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "max_model_len",
    "mm_processor_kwargs",
    "hf_overrides",
    "tokenizer",
)


class VllmEngine:
    """An AsyncLLM and the frames of its prompts."""

    def __init__(self, llm: Any, name: ModelName, settings: EngineConfig) -> None:
        import vllm

        self._llm = llm
        self._settings = settings
        self._frames: dict[tuple[str | None, bool], tuple[str, str]] = {}
        self._label_faults: dict[tuple[str, ...], str | None] = {}
        self._end = ""  # the token that ends a reply
        self._numbers = itertools.count()
        self._run = secrets.token_hex(4)
        cache = llm.vllm_config.cache_config
        # The product overstates the room for a model whose requests take blocks of several groups; older versions of
        # vLLM know no better number.
        blocks = (cache.num_gpu_blocks or 0) * cache.block_size
        kv_tokens = getattr(cache, "kv_cache_size_tokens", None) or blocks or None
        version, sequences = f"vllm {vllm.__version__}", llm.vllm_config.scheduler_config.max_num_seqs
        self.facts = EngineInfo(name.model, name.revision, ALL_CAPABILITIES, kv_tokens, version, sequences)

    @staticmethod
    async def start(name: ModelName, settings: EngineConfig) -> "VllmEngine":
        """Load the model, which takes from half a minute to several.

        Raises:
            ModelUnavailable: vLLM is not installed, or refuses the model or its options.
        """
        arguments = _arguments(name, settings)
        from vllm.v1.engine.async_llm import AsyncLLM

        end_with_this_process()
        try:
            llm = AsyncLLM.from_engine_args(arguments)
        except Exception as error:
            raise _refusal(name, error) from error
        engine = VllmEngine(llm, name, settings)
        await engine._frame(None, with_image=True)
        engine._end = await engine._end_token()
        return engine

    async def generate(self, request: Request) -> Reply:
        """Serve one call; one that takes longer than `call_seconds` is a failed reply."""
        from vllm.v1.engine.exceptions import EngineDeadError

        started = time.perf_counter()
        try:
            reply = await self._serve(request)
        except EngineDeadError as error:
            raise EngineDied(str(error)) from error
        except ModelUnavailable:  # every call would meet this
            raise
        except TimeoutError:
            return Reply.failed(Failure("call_timeout", f"no reply within {self._settings.call_seconds:.0f} s"))
        except Exception as error:
            # Any other error of vLLM concerns this request alone (a prompt too long, an image it cannot process).
            return Reply.failed(Failure("call_failed", one_line(error, LONGEST_DETAIL)))
        return replace(reply, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._llm.shutdown()

    async def _serve(self, request: Request) -> Reply:
        before, after = await self._frame(request.system, with_image=request.image is not None)
        if fault := self._label_fault(request.labels, after):
            raise ModelUnavailable(f"model {self.facts.model}: {fault}")
        text = before + request.text + after
        given = None if request.given is None else request.given + self._end
        prompt: dict[str, Any] = {"prompt": text + (given or "")}
        if request.image is not None:
            prompt["multi_modal_data"] = {"image": request.image}
            if request.image_key:
                prompt["multi_modal_uuids"] = {"image": request.image_key}
        async with asyncio.timeout(self._settings.call_seconds):
            output = await self._output(prompt, self._parameters(request))
        if (reason := output.outputs[0].finish_reason) in BROKEN_OFF:
            detail = f"vLLM broke the call off {TRIES} times, last with '{reason}'; its log may say why"
            return replace(self._reply(output, request), finish="error", failure="call_failed", detail=detail)
        if given is not None:
            return self._given_reply(output, text, given)
        return self._reply(output, request)

    async def _output(self, prompt: dict[str, Any], parameters: Any) -> Any:
        """Return the finished output of a call; one that vLLM breaks off is retried, as most causes are transient."""
        output = await self._once(prompt, parameters)
        for _ in range(TRIES - 1):
            if output.outputs[0].finish_reason not in BROKEN_OFF:
                break
            # Without its uuid the image is sent whole: the engine may have evicted what this process believes it holds.
            whole = {key: value for key, value in prompt.items() if key != "multi_modal_uuids"}
            output = await self._once(whole, parameters)
        return output

    async def _once(self, prompt: dict[str, Any], parameters: Any) -> Any:
        # The chat template has written the special tokens already.
        plain = {"add_special_tokens": False}
        stream = self._llm.generate(prompt, parameters, f"{self._run}-{next(self._numbers)}", tokenization_kwargs=plain)
        # To its end: a generator that is left before would stay suspended.
        return [output async for output in stream][-1]

    def _parameters(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        # Only whole replies: waking this process for every token costs throughput, and half a reply is of no use.
        whole: dict[str, Any] = {"output_kind": RequestOutputKind.FINAL_ONLY}
        if request.given is not None:
            return SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, **whole)
        if request.labels:
            return SamplingParams(max_tokens=1, temperature=0.0, logprobs=20, **whole)
        structured = None
        if request.schema:
            structured = StructuredOutputsParams(json=dict(request.schema))
        elif request.choices:
            structured = StructuredOutputsParams(choice=list(request.choices))
        return SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            logprobs=0,
            structured_outputs=structured,
            **whole,
        )

    def _reply(self, output: Any, request: Request) -> Reply:
        done = output.outputs[0]
        steps = done.logprobs or []
        chosen = tuple(step[token].logprob for step, token in zip(steps, done.token_ids, strict=False))
        first = ((entry.decoded_token or "", entry.logprob) for entry in (steps[0].values() if steps else ()))
        return Reply(
            text=done.text.strip(),
            finish=done.finish_reason or "stop",
            logprobs=chosen,
            labels=label_probabilities(first, request.labels) if request.labels else {},
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            output_tokens=len(done.token_ids),
        )

    def _given_reply(self, output: Any, text: str, given: str) -> Reply:
        tokens = output.prompt_token_ids  # an image's placeholder is expanded here, so count from the end
        start = len(tokens) - self._length(text, given)
        chosen = [
            step[token].logprob for step, token in zip(output.prompt_logprobs[start:], tokens[start:], strict=True)
        ]
        return Reply("", logprobs=tuple(chosen), prompt_tokens=len(tokens), cached_tokens=output.num_cached_tokens or 0)

    def _length(self, text: str, reply: str) -> int:
        """Return the number of tokens that a reply adds to a text; a token that both share counts."""
        tokenizer = self._llm.get_tokenizer()
        before, whole = (tokenizer.encode(part, add_special_tokens=False) for part in (text, text + reply))
        pairs = enumerate(zip(before, whole, strict=False))
        shared = next((place for place, (own, joined) in pairs if own != joined), len(before))
        return len(whole) - shared

    def _label_fault(self, labels: tuple[str, ...], after: str) -> str | None:
        """Return what is wrong with labels, of which only the first token is seen: that of "10" may be that of "1"."""
        if labels not in self._label_faults:
            # A model may spell a label with a space before it or without.
            tokens = {label: min(self._length(after, spelled) for spelled in (label, f" {label}")) for label in labels}
            long = [f"the label '{label}' is {count} of its tokens" for label, count in tokens.items() if count != 1]
            self._label_faults[labels] = (
                f"{', '.join(long)}; a judge prompt needs labels of one token each" if long else None
            )
        return self._label_faults[labels]

    async def _end_token(self) -> str:
        """Return the token that ends a reply: the template's if the model stops at it, else the tokenizer's own."""
        tokenizer = self._llm.get_tokenizer()
        configured = self._llm.vllm_config.model_config.try_get_generation_config().get("eos_token_id")
        stops = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} - {None}
        turns = [{"role": role, "content": [{"type": "text", "text": MARKER}]} for role in ("user", "assistant")]
        try:
            after = (await self._render(turns, prompt=False)).rpartition(MARKER)[2]
        except ModelUnavailable:  # some templates want an image or a question at the end
            after = ""
        first = tokenizer.encode(after, add_special_tokens=False)[:1]
        if first and first[0] in stops:
            return str(tokenizer.convert_ids_to_tokens(first[0]))
        return str(tokenizer.eos_token or "")

    async def _frame(self, system: str | None, with_image: bool) -> tuple[str, str]:
        """Return what the chat template puts before and after the user's text."""
        key = (system, with_image)
        if key not in self._frames:
            text = {"type": "text", "text": MARKER}
            picture = {"type": "image_pil", "image_pil": Image.new("RGB", (64, 64))}
            messages: list[dict[str, Any]] = [{"role": "user", "content": [picture, text] if with_image else [text]}]
            if system:
                messages.insert(0, {"role": "system", "content": system})
            before, marker, after = (await self._render(messages, prompt=True)).partition(MARKER)
            if not marker:
                raise ModelUnavailable(f"model {self.facts.model}: its chat template changes the text that it is given")
            self._frames[key] = (before, after)
        return self._frames[key]

    async def _render(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        """Return messages as the chat template writes them; with `prompt`, up to where the reply begins."""
        from vllm.renderers.params import ChatParams

        options = ChatParams(
            chat_template_kwargs={**self._settings.template, "add_generation_prompt": prompt, "tokenize": False}
        )
        try:
            _, rendered = await self._llm.renderer.render_messages_async(messages, options)
        except Exception as error:
            raise ModelUnavailable(
                f"model {self.facts.model}: its chat template does not take an image and a text: {one_line(error)}"
            ) from error
        return str(rendered["prompt"])


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


async def check_vllm(name: ModelName, settings: EngineConfig) -> None:
    """Raise ModelUnavailable if vLLM refuses the model or its options before it loads a single weight."""
    try:
        _arguments(name, settings).create_engine_config()
    except ModelUnavailable:
        raise
    except Exception as error:
        raise _refusal(name, error) from error


def _arguments(name: ModelName, settings: EngineConfig) -> Any:
    """Return vLLM's engine arguments; imports vLLM with the environment that the settings ask for."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.update(settings.environment)
    try:
        from vllm.config import StructuredOutputsConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
    except ImportError as error:
        raise ModelUnavailable(
            f"vLLM is not installed here ({error}); `synth doctor` says how to install it"
        ) from error
    arguments = {"limit_mm_per_prompt": {"image": 1, "video": 0}, "disable_log_stats": True, **settings.options}
    if not name.revision.startswith("files:"):
        arguments.setdefault("revision", name.revision)
    if _on_cpu():
        # A seeded request whose prefill is split in chunks kills vLLM's CPU engine: its generator has no offset.
        # Images of a step that exceed max_num_batched_tokens split it too; pipelines/demo.yaml sets that high enough.
        arguments.setdefault("enable_chunked_prefill", False)
    if settings.gpus > 1:
        arguments.setdefault("tensor_parallel_size", math.ceil(settings.gpus))
        arguments.setdefault("distributed_executor_backend", "mp")
    # Otherwise a small model may fill its whole reply with blanks between two fields. vLLM takes this per engine only.
    compact = {"backend": "xgrammar", "disable_any_whitespace": True}
    try:
        arguments["structured_outputs_config"] = StructuredOutputsConfig(
            **{**compact, **arguments.get("structured_outputs_config", {})}
        )
        return AsyncEngineArgs(model=name.model, **arguments)
    except Exception as error:
        raise _refusal(name, error) from error


def _refusal(name: ModelName, error: Exception) -> ModelUnavailable:
    """Return vLLM's error on loading a model as one line; its messages continue with advice that does not fit there."""
    message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    first = next((line for line in message.splitlines() if line.strip()), type(error).__name__)
    return ModelUnavailable(f"model {name.model}: vLLM does not load it: {explain(first)}")
