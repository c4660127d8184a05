"""vLLM in this process: the engine of a Ray actor.

Images go to vLLM as objects under a uuid that identifies their pixels, so that later calls on an image reuse its
encoded form and its KV prefix.
"""

import asyncio
import itertools
import math
import os
import secrets
import time
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from synthgen.config.engine import EngineConfig
from synthgen.console import note
from synthgen.engines.image_tokens import images_of, with_bound
from synthgen.engines.image_tokens.measure import ImageMeter, too_long
from synthgen.engines.kernel_notes import silence_kernel_notes
from synthgen.engines.protocol import (
    ALL_CAPABILITIES,
    EngineDied,
    EngineInfo,
    ModelName,
    Reply,
    Request,
    label_probabilities,
)
from synthgen.engines.thoughts import without_thoughts
from synthgen.engines.vllm_logs import cause_of, explain
from synthgen.engines.vllm_metrics import are_wanted, stat_loggers
from synthgen.engines.vllm_processes import end_with_this_process
from synthgen.engines.vllm_prompts import Prompts
from synthgen.errors import Failure, ModelUnavailable, one_line

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
        self.prompts = Prompts(llm, name.model, settings.template)
        self._images = images_of(name, settings)
        self._meter = ImageMeter(name.model, self._images)
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
        silence_kernel_notes()
        arguments = _arguments(name, settings)
        from vllm.v1.engine.async_llm import AsyncLLM

        end_with_this_process()
        try:
            llm = AsyncLLM.from_engine_args(arguments, stat_loggers=stat_loggers())
        except Exception as error:
            raise _refusal(name, error) from error
        engine = VllmEngine(llm, name, settings)
        await engine.prompts.prepare()
        if engine._images.note:
            note(f"model {name.model}: {engine._images.note}")
        return engine

    async def generate(self, request: Request) -> Reply:
        """Serve one call; one that takes longer than `call_seconds` is a failed reply."""
        from vllm.v1.engine.exceptions import EngineDeadError

        started, allowed = time.perf_counter(), self._settings.images_of_a_call
        if len(request.images) > allowed:
            several = f"a set of {len(request.images)} images; engine.images allows {allowed} in a call"
            return Reply.failed(Failure("call_failed", several))
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
            cause = cause_of(error)
            return Reply.failed(Failure("call_failed", too_long(cause, request) or one_line(cause, LONGEST_DETAIL)))
        return replace(reply, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._llm.shutdown()

    async def _serve(self, request: Request) -> Reply:
        text = await self.prompts.fill(request)
        given = None if request.given is None else self.prompts.given(request.given)
        prompt: dict[str, Any] = {"prompt": text + (given or "")}
        if request.image is not None:
            prompt["multi_modal_data"] = {"image": list(request.images) if request.more else request.image}
            if keys := request.image_keys:
                prompt["multi_modal_uuids"] = {"image": list(keys) if request.more else keys[0]}
        async with asyncio.timeout(self._settings.call_seconds):
            output = await self._output(prompt, self._parameters(request))
        if self._meter.is_measuring:
            self._meter.see(request, len(output.prompt_token_ids) - self.prompts.length("", prompt["prompt"]))
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
            return SamplingParams(max_tokens=1, temperature=0.0, **self._label_logprobs(request.labels), **whole)
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
        reply = Reply(
            text=self.prompts.special.restore(done.text).strip(),
            finish=done.finish_reason or "stop",
            logprobs=chosen,
            labels=label_probabilities(first, request.labels) if request.labels else {},
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            output_tokens=len(done.token_ids),
        )
        return without_thoughts(reply, request)

    def _given_reply(self, output: Any, text: str, given: str) -> Reply:
        tokens = output.prompt_token_ids  # an image's placeholder is expanded here, so count from the end
        start = len(tokens) - self.prompts.length(text, given)
        chosen = [
            step[token].logprob for step, token in zip(output.prompt_logprobs[start:], tokens[start:], strict=True)
        ]
        return Reply("", logprobs=tuple(chosen), prompt_tokens=len(tokens), cached_tokens=output.num_cached_tokens or 0)

    def _label_logprobs(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Return the sampling parameters that ask for the probabilities of labels, however unlikely they are."""
        from vllm import SamplingParams

        tokens = self.prompts.label_tokens(labels)
        if tokens and "logprob_token_ids" in SamplingParams.__struct_fields__:
            return {"logprob_token_ids": tokens}
        return {"logprobs": 20}  # of an older vLLM, the most that it gives


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
    options = with_bound(settings.options, images_of(name, settings))
    limits = {"image": settings.images, "video": 0}
    arguments = {"limit_mm_per_prompt": limits, "disable_log_stats": not are_wanted(), **options}
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
    message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else cause_of(error)
    first = next((line for line in message.splitlines() if line.strip()), type(error).__name__)
    return ModelUnavailable(f"model {name.model}: vLLM does not load it: {explain(first)}")
