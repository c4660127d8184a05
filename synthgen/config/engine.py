"""Settings of engines: what serves a model, what it costs, and how replies are drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from synthgen.config.fields import AnswerForm, BaseUrls, TemplateOptions, Variables
from synthgen.config.library import Section
from synthgen.tables import ANSWER_FORMS


class EngineConfig(Section):
    """What serves the model. `options` go to vLLM's engine arguments, or into the calls of an endpoint, as they are."""

    kind: str = "vllm"  # the kinds, and which settings each needs: engines/kinds.py
    urls: BaseUrls = ()  # of endpoints
    key_env: str = "OPENAI_API_KEY"  # endpoint: the environment variable that holds the key, if there is one
    script: str | None = None  # the earlier spelling of kind: module:Class, with kind: scripted
    replicas: int = Field(default=1, gt=0)
    gpus: float = Field(default=1, ge=0)  # per replica; above 1 means tensor parallel
    cpus: float = Field(default=1, ge=0)
    in_flight: int | None = Field(default=None, gt=0)  # conversations at once; by default from the KV cache
    image_tokens: int | None = Field(default=1280, ge=200)  # vllm: of an image at most; None: the model's own settings
    images: int = Field(default=1, ge=1, le=32)  # vllm: of one call at most; a set of images needs its number
    host_megabytes: int = Field(default=2048, gt=0)  # decoded images of the conversations in flight, per replica
    call_seconds: float = Field(default=600.0, gt=0)  # then the call has failed
    stall_seconds: float = Field(default=300.0, gt=0)  # without a reply to any call; then the engine is replaced
    retries: int = Field(default=3, ge=0)
    template: TemplateOptions = Field(default_factory=dict)  # options of the chat template
    environment: Variables = Field(default_factory=dict)  # vllm: environment variables of the engine
    options: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def images_of_a_call(self) -> int:
        """How many images a call to vLLM in the process can have; what stands in `options` comes first."""
        own = self.options.get("limit_mm_per_prompt")
        images = own.get("image") if isinstance(own, Mapping) else None
        return images if isinstance(images, int) else self.images


class PriceConfig(Section):
    """The price of the engine for `synth plan`, in any currency: by the GPU-hour, by the token, or both."""

    currency: str = Field(default="USD", pattern="^[A-Za-z]{1,8}$")
    gpu_hour: float = Field(default=0.0, ge=0)  # per replica-hour where a replica has no GPU
    prompt_million: float = Field(default=0.0, ge=0)  # prompt tokens that are not in the prefix cache
    cached_million: float = Field(default=0.0, ge=0)  # prompt tokens that are
    output_million: float = Field(default=0.0, ge=0)  # tokens written


class SamplingConfig(Section):
    """The sampling of replies. A temperature of 0 is greedy."""

    ask_temperature: float = Field(default=0.7, ge=0)
    answer_temperature: float = Field(default=0.0, ge=0)
    agree_temperature: float = Field(default=0.8, ge=0)
    agree_samples: int = Field(default=4, gt=0, le=1000)
    agree_forms: tuple[AnswerForm, ...] = ANSWER_FORMS  # whose answers are sampled again
    top_p: float = Field(default=1.0, gt=0, le=1)


def check_one_currency(prices: Sequence[PriceConfig]) -> None:
    currencies = list(dict.fromkeys(price.currency for price in prices))
    if len(currencies) > 1:
        raise ValueError(f"the prices are in {' and '.join(currencies)}, which cannot be added; use one currency")
