"""vLLM in this process: the engine of a Ray actor.

Comes in: Requests with decoded images. Goes out: Replies with token counts, cached tokens and log-probabilities. Images go
to the engine as objects under a uuid that names their pixels, so that later calls on an image reuse its encoded form and
its KV prefix. The model's chat template is applied once, around a marker, and every prompt is cut from that mould: any
model that vLLM can chat with works, and no call pays for templating.
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
from synthgen.engines import Capability, EngineDied, EngineInfo, ModelName, Reply, Request
from synthgen.engines.vllm_logs import in_short
from synthgen.errors import ModelUnavailable

MARKER = "\u241e7f3a the text \u241e"
TRIES = 3  # of a call that vLLM breaks off
BROKEN_OFF = ("error", "abort")  # how vLLM says that it did not finish a call: it raises nothing then


class VllmEngine:
    """An AsyncLLM and the moulds of its prompts."""

    def __init__(self, llm: Any, name: ModelName, settings: EngineConfig) -> None:
        import vllm

        self._llm = llm
        self._settings = settings
        self._moulds: dict[tuple[str | None, bool], tuple[str, str]] = {}
        self._label_faults: dict[tuple[str, ...], str | None] = {}
        self._end = ""  # the token that ends a reply
        self._numbers = itertools.count()
        self._run = secrets.token_hex(4)
        cache = llm.vllm_config.cache_config
        # The product is too much for a model whose requests take blocks of several groups; not every vLLM tells better.
        kv_tokens = (
            getattr(cache, "kv_cache_size_tokens", None) or (cache.num_gpu_blocks or 0) * cache.block_size or None
        )
        sequences = llm.vllm_config.scheduler_config.max_num_seqs
        able: frozenset[Capability] = frozenset({"labels", "given", "schema"})
        self.facts = EngineInfo(name.model, name.revision, able, kv_tokens, f"vllm {vllm.__version__}", sequences)

    @staticmethod
    async def start(name: ModelName, settings: EngineConfig) -> "VllmEngine":
        """Loads the model; takes from half a minute to several."""
        arguments = _arguments(name, settings)
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            llm = AsyncLLM.from_engine_args(arguments)
        except Exception as error:
            raise _refused(name, error) from error
        engine = VllmEngine(llm, name, settings)
        await engine._mould(None, with_image=True)
        engine._end = await engine._ending()
        return engine

    async def generate(self, request: Request) -> Reply:
        """Serves one call; a call that takes longer than `call_seconds` is a reply that says so."""
        from vllm.v1.engine.exceptions import EngineDeadError

        started = time.perf_counter()
        try:
            reply = await self._serve(request)
        except EngineDeadError as error:
            raise EngineDied(str(error)) from error
        except ModelUnavailable:  # whatever is asked of it: every call would meet this
            raise
        except TimeoutError:
            return Reply("", "error", "call_timeout", f"no reply within {self._settings.call_seconds:.0f} s")
        except Exception as error:
            # Whatever else vLLM raises concerns this request alone (a prompt too long, an image it cannot process).
            return Reply("", "error", "call_failed", f"{type(error).__name__}: {error}"[:500])
        return replace(reply, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Stops the engine's processes."""
        self._llm.shutdown()

    async def _serve(self, request: Request) -> Reply:
        before, after = await self._mould(request.system, with_image=request.image is not None)
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
        if (ended := output.outputs[0].finish_reason) in BROKEN_OFF:
            why = f"vLLM broke the call off {TRIES} times, last with '{ended}'; its log may say why"
            return replace(self._reply(output, request), finish="error", failure="call_failed", detail=why)
        if given is not None:
            return self._given_reply(output, text, given)
        return self._reply(output, request)

    async def _output(self, prompt: dict[str, Any], parameters: Any) -> Any:
        """The finished output of a call; one that is broken off is tried again, for most of what ends a call so passes by itself."""
        output = await self._once(prompt, parameters)
        for _ in range(TRIES - 1):
            if output.outputs[0].finish_reason not in BROKEN_OFF:
                break
            # Without its name the image is sent whole: the engine may have forgotten what this process believes it to hold.
            output = await self._once(
                {key: value for key, value in prompt.items() if key != "multi_modal_uuids"}, parameters
            )
        return output

    async def _once(self, prompt: dict[str, Any], parameters: Any) -> Any:
        # The chat template has written the special tokens already.
        plain = {"add_special_tokens": False}
        stream = self._llm.generate(prompt, parameters, f"{self._run}-{next(self._numbers)}", tokenization_kwargs=plain)
        async for output in stream:
            return output

    def _parameters(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        # Only whole replies: waking this process for every token costs throughput, and nobody reads half a reply.
        whole: dict[str, Any] = {"output_kind": RequestOutputKind.FINAL_ONLY}
        if request.given is not None:
            return SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, **whole)
        if request.labels:
            return SamplingParams(max_tokens=1, temperature=0.0, logprobs=20, **whole)
        return SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            logprobs=0,
            structured_outputs=StructuredOutputsParams(json=dict(request.schema)) if request.schema else None,
            **whole,
        )

    def _reply(self, output: Any, request: Request) -> Reply:
        done = output.outputs[0]
        steps = done.logprobs or []
        chosen = tuple(step[token].logprob for step, token in zip(steps, done.token_ids, strict=False))
        return Reply(
            text=done.text.strip(),
            finish=done.finish_reason or "stop",
            logprobs=chosen,
            labels=_label_probabilities(steps, request.labels) if request.labels else {},
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            output_tokens=len(done.token_ids),
        )

    def _given_reply(self, output: Any, text: str, given: str) -> Reply:
        tokens = output.prompt_token_ids  # an image's placeholder has grown in here, so count from the end
        start = len(tokens) - self._length(text, given)
        chosen = [
            step[token].logprob for step, token in zip(output.prompt_logprobs[start:], tokens[start:], strict=True)
        ]
        return Reply("", logprobs=tuple(chosen), prompt_tokens=len(tokens), cached_tokens=output.num_cached_tokens or 0)

    def _length(self, text: str, reply: str) -> int:
        """How many tokens a reply is behind a text; where it shares a token with the text, that one counts."""
        tokenizer = self._llm.get_tokenizer()
        before, whole = (tokenizer.encode(part, add_special_tokens=False) for part in (text, text + reply))
        shared = next(
            (place for place, (one, other) in enumerate(zip(before, whole, strict=False)) if one != other), len(before)
        )
        return len(whole) - shared

    def _label_fault(self, labels: tuple[str, ...], after: str) -> str | None:
        """What is wrong with labels, of which only the first token is seen: that of "10" may be that of "1"."""
        if labels not in self._label_faults:
            # With a space before it or without: how a model spells a label is its own choice.
            tokens = {label: min(self._length(after, spelled) for spelled in (label, f" {label}")) for label in labels}
            long = [f"the label '{label}' is {count} of its tokens" for label, count in tokens.items() if count != 1]
            self._label_faults[labels] = (
                f"{', '.join(long)}; a judge prompt needs labels of one token each" if long else None
            )
        return self._label_faults[labels]

    async def _ending(self) -> str:
        """The token that ends a reply: what the chat template puts there if the model stops at it, else the tokenizer's own."""
        tokenizer, named = (
            self._llm.get_tokenizer(),
            self._llm.vllm_config.model_config.try_get_generation_config().get("eos_token_id"),
        )
        stops = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}
        talk = [{"role": role, "content": [{"type": "text", "text": MARKER}]} for role in ("user", "assistant")]
        try:
            behind = (await self._rendered(talk, prompt=False)).rpartition(MARKER)[2]
        except ModelUnavailable:  # some templates want an image or a question at the end
            behind = ""
        first = tokenizer.encode(behind, add_special_tokens=False)[:1]
        return str(
            tokenizer.convert_ids_to_tokens(first[0]) if first and first[0] in stops else tokenizer.eos_token or ""
        )

    async def _mould(self, system: str | None, with_image: bool) -> tuple[str, str]:
        """What the chat template puts before and after the user's text."""
        key = (system, with_image)
        if key not in self._moulds:
            text = {"type": "text", "text": MARKER}
            picture = {"type": "image_pil", "image_pil": Image.new("RGB", (64, 64))}
            messages: list[dict[str, Any]] = [{"role": "user", "content": [picture, text] if with_image else [text]}]
            if system:
                messages.insert(0, {"role": "system", "content": system})
            before, found, after = (await self._rendered(messages, prompt=True)).partition(MARKER)
            if not found:
                raise ModelUnavailable(f"model {self.facts.model}: its chat template changes the text that it is given")
            self._moulds[key] = (before, after)
        return self._moulds[key]

    async def _rendered(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        from vllm.renderers.params import ChatParams

        options = ChatParams(
            chat_template_kwargs={**self._settings.template, "add_generation_prompt": prompt, "tokenize": False}
        )
        try:
            _, rendered = await self._llm.renderer.render_messages_async(messages, options)
        except Exception as error:
            raise ModelUnavailable(
                f"model {self.facts.model}: its chat template does not take an image and a text: {error}"
            ) from error
        return str(rendered["prompt"])


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def check(name: ModelName, settings: EngineConfig) -> None:
    """Raises ModelUnavailable if vLLM refuses the model or its options before it loads a single weight."""
    try:
        _arguments(name, settings).create_engine_config()
    except ModelUnavailable:
        raise
    except Exception as error:
        raise _refused(name, error) from error


def _arguments(name: ModelName, settings: EngineConfig) -> Any:
    """vLLM's engine arguments; imports vLLM with the environment that the settings ask for."""
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
        # A seeded request whose prefill is cut in chunks ends vLLM's CPU engine: torch's CPU generator has no offset. It is also
        # cut where the images of a step exceed max_num_batched_tokens; pipelines/demo.yaml sets that so that they cannot.
        arguments.setdefault("enable_chunked_prefill", False)
    if settings.gpus > 1:
        arguments.setdefault("tensor_parallel_size", math.ceil(settings.gpus))
        arguments.setdefault("distributed_executor_backend", "mp")
    # Left free to, a small model fills its whole reply with blanks between two fields; vLLM heeds this for an engine only.
    compact = {"backend": "xgrammar", "disable_any_whitespace": True}
    try:
        arguments["structured_outputs_config"] = StructuredOutputsConfig(
            **{**compact, **arguments.get("structured_outputs_config", {})}
        )
        return AsyncEngineArgs(model=name.model, **arguments)
    except Exception as error:
        raise _refused(name, error) from error


def _refused(name: ModelName, error: Exception) -> ModelUnavailable:
    """What vLLM says of a model that it does not load, in one line of bearable length."""
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    reason = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
    return ModelUnavailable(f"model {name.model}: vLLM does not load it: {in_short(reason)}")


def _label_probabilities(steps: Any, labels: tuple[str, ...]) -> dict[str, float]:
    """The probability of each label as the first token; several spellings of a label ("5", " 5") add up."""
    found = dict.fromkeys(labels, 0.0)
    for entry in steps[0].values() if steps else ():
        label = (entry.decoded_token or "").strip()
        if label in found:
            found[label] += math.exp(entry.logprob)
    return found
