"""A vLLM that computes nothing: it renders prompts as the real one does, and its replies are given to it.

What an engine sends depends on a family's tokenizer and chat template alone, so it is seen without starting one.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.renderers.registry import renderer_from_config

from synthgen.config.engine import EngineConfig
from synthgen.engines import ModelName, Reply, Request
from synthgen.engines.vllm import VllmEngine
from tests.zoo.checkpoints import checkpoint

UNLIKELY = -30.0


@cache
def _parts(family: str) -> tuple[Any, Any]:
    limits = {"image": 1, "video": 0}
    arguments = AsyncEngineArgs(
        str(checkpoint(family)), dtype="float32", max_model_len=8192, limit_mm_per_prompt=limits, enforce_eager=True
    )
    # vLLM looks at the class of a model in a process of its own, whose start takes longer than all the rest.
    with patch("vllm.model_executor.models.registry._run_in_subprocess", lambda look: look()):
        config = arguments.create_engine_config()
    return config, renderer_from_config(config)


@dataclass
class RenderedLlm:
    """An engine of vLLM with a family's own configuration, tokenizer and renderer.

    Attributes:
        text: The text of every reply.
        likely: Log-probabilities of single tokens at the start of every reply, as far as they are asked for.
        error: Raised by every call, if there is one.
        prompts: What it was sent.
        parameters: The sampling parameters that came along.
    """

    family: str
    text: str = "42"
    likely: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None
    prompts: list[Any] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        config, self.renderer = _parts(self.family)
        cache_config = SimpleNamespace(num_gpu_blocks=10, block_size=16, kv_cache_size_tokens=100_000)
        self.vllm_config = SimpleNamespace(
            model_config=config.model_config,
            cache_config=cache_config,
            scheduler_config=SimpleNamespace(max_num_seqs=4),
        )
        self.model_config = config.model_config

    def get_tokenizer(self) -> Any:
        return self.renderer.get_tokenizer()

    def shutdown(self) -> None:
        """Do nothing: there is no process."""

    async def generate(self, prompt: Any, parameters: Any, name: str, **more: Any) -> AsyncIterator[RequestOutput]:
        """Yield the one output of a call."""
        self.prompts.append(prompt)
        self.parameters.append(parameters)
        if self.error:
            raise self.error
        tokens = ids(self, prompt)
        scores = [None, *({token: Logprob(-1.0, 1, None)} for token in tokens[1:])]
        reply = self.get_tokenizer().encode(self.text, add_special_tokens=False)
        done = CompletionOutput(0, self.text, reply, None, [self._step(token) for token in reply], "stop")
        yield RequestOutput(name, str(prompt), tokens, scores, [done], True)

    def _step(self, token: int) -> dict[int, Logprob]:
        """Return the log-probabilities of one place of a reply: of its token and of those that are likely."""
        tokenizer = self.get_tokenizer()
        likely = {tokenizer.convert_tokens_to_ids(text): value for text, value in self.likely.items()}
        return {
            number: Logprob(likely.get(number, UNLIKELY), 1, tokenizer.decode([number])) for number in {token, *likely}
        }


def ids(llm: RenderedLlm, prompt: Any) -> list[int]:
    """Return the tokens of a prompt as the real one would read it, its image one placeholder."""
    if isinstance(prompt, dict) and "prompt_token_ids" in prompt:
        return list(prompt["prompt_token_ids"])
    return list(llm.get_tokenizer().encode(prompt["prompt"], add_special_tokens=False))


def sent(llm: RenderedLlm, request: Request, settings: EngineConfig | None = None) -> str:
    """Return the prompt that an engine sends for a request, as text, special tokens written out.

    Raises:
        AssertionError: The call failed.
    """
    reply = asked(llm, request, settings)
    assert reply.failure is None, reply.detail
    return str(llm.get_tokenizer().decode(ids(llm, llm.prompts[-1]), skip_special_tokens=False))


def asked(llm: RenderedLlm, request: Request, settings: EngineConfig | None = None) -> Reply:
    """Return the reply of an engine that has been started as `VllmEngine.start` does it."""

    async def talk() -> Reply:
        engine = VllmEngine(llm, ModelName(llm.family, "files:zoo"), settings or EngineConfig())
        await engine.prompts.prepare()
        return await engine.generate(request)

    return asyncio.run(talk())


def special_tokens(llm: RenderedLlm, prompt: Any, special: Sequence[str]) -> list[str]:
    """Return the special tokens of a prompt, in their order."""
    tokenizer = llm.get_tokenizer()
    numbers = {tokenizer.convert_tokens_to_ids(token): token for token in special}
    return [numbers[token] for token in ids(llm, prompt) if token in numbers]
