"""The only door to a vision-language model: a Request goes in, a Reply comes out.

Three engines stand behind it: vLLM in this process (vllm.py), OpenAI-compatible endpoints (endpoint.py) and
a scripted one for tests and dry runs (scripted.py). A call that fails is a Reply that says so, so that it costs
one row. Only an engine that can serve no further call raises (EngineDied): then the actor that holds it ends, and
workers/pool.py makes another. Engines live inside Ray actors and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL.Image import Image

from synthgen.config.pipeline import EngineConfig
from synthgen.errors import ModelUnavailable, SynthError

Purpose = Literal["ask", "answer", "sample", "paraphrase", "judge", "given", "tag"]
Capability = Literal["labels", "given", "schema"]


@dataclass(frozen=True)
class Request:
    """One call. The image, if there is one, stands before the text."""

    purpose: Purpose
    text: str
    max_tokens: int
    image: Image | None = None
    image_key: str | None = None  # names the pixels (content, decoding and size), for the engine's caches
    system: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    schema: Mapping[str, Any] | None = None  # the reply is JSON of this schema
    labels: tuple[str, ...] = ()  # the reply is one of these; their probabilities are wanted
    given: str | None = (
        None  # nothing is generated: the log-probabilities of this reply and of the token that ends it are wanted
    )


@dataclass(frozen=True)
class Reply:
    """What came back. With `failure` set, the text is whatever came before it."""

    text: str
    finish: str = "stop"  # "length" when max_tokens cut it off
    failure: Literal["call_failed", "call_timeout"] | None = None
    detail: str | None = None
    # Natural logarithm: one a token of the text, and of the token that ends it where the engine tells that; of a given reply always.
    logprobs: tuple[float, ...] = ()
    labels: Mapping[str, float] = field(
        default_factory=dict
    )  # probability of each label; what they leave to 1 is other text
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class EngineInfo:
    """What an engine says of itself once it runs."""

    model: str
    revision: str
    capabilities: frozenset[Capability]
    kv_tokens: int | None  # room in the KV cache, in tokens; None where nobody says
    version: str
    sequences: int | None = None  # of one batch; None where nobody says


class EngineDied(Exception):
    """The engine can serve no further call."""


class Engine(Protocol):
    """What stands behind the door."""

    facts: EngineInfo

    async def generate(self, request: Request) -> Reply:
        """Serves one call; raises nothing but EngineDied."""

    async def close(self) -> None:
        """Gives back what the engine holds."""


@dataclass(frozen=True)
class ModelName:
    """A model and the exact state of it: a hub commit, the digest of local files, or a note that nobody can tell."""

    model: str
    revision: str


async def open_engine(name: ModelName, settings: EngineConfig) -> Engine:
    """Starts or reaches the engine that the settings name; ModelUnavailable, in one line, if that fails."""
    if settings.kind == "vllm":
        from synthgen.engines.vllm import VllmEngine

        return await VllmEngine.start(name, settings)
    if settings.kind == "endpoint":
        from synthgen.engines.endpoint import EndpointEngine

        return await EndpointEngine.reach(name, settings)
    if settings.script:
        from synthgen.config.library import import_attribute

        try:
            engine: Engine = import_attribute(settings.script)(name, settings)
        except SynthError:
            raise
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            raise ModelUnavailable(f"engine {settings.script}: {type(error).__name__}: {reason}") from error
        return engine
    from synthgen.engines.scripted import ScriptedEngine

    return ScriptedEngine(name, settings)


async def check_engine(asked: tuple[ModelName, EngineConfig]) -> None:
    """Raises what opening the engine would, as far as it can be known in seconds: vLLM is not made to load the weights."""
    name, settings = asked
    if settings.kind == "vllm":
        from synthgen.engines.vllm import check

        check(name, settings)
    else:
        engine = await open_engine(name, settings)
        await engine.close()
