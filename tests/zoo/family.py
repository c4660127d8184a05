"""The record of a family: everything that its tiny checkpoint takes from the real one, and what must hold of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Ids = Callable[[str], int]  # a token to its id

# The language model of every checkpoint. Heads of 32 are the smallest that vLLM's CPU attention knows.
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32768,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a family beside those of its BPE.

    Attributes:
        special: Special tokens; text that spells one is read as that token.
        plain: Added tokens that are not special, such as `<think>`: decoding keeps them.
        named: Names of single tokens, such as `eos_token`.
        model_tokens: Names that only this family's tokenizer has, such as `boi_token`.
        kind: "bytes" for a byte-level BPE, "pieces" for one on characters with bytes for the unknown ones.
        tokenizer_class: The class that the family's tokenizer_config.json names.
    """

    special: tuple[str, ...]
    named: Mapping[str, str]
    plain: tuple[str, ...] = ()
    model_tokens: Mapping[str, str] = field(default_factory=dict)
    kind: str = "bytes"
    tokenizer_class: str = "TokenizersBackend"
    adds_first: bool = False  # the tokenizer puts the first token before every text


@dataclass(frozen=True)
class Family:
    """A family of vision-language models.

    Attributes:
        config: The configuration, given a token's id by its name.
        model: The class that saves the weights.
        processor: The processor, given a tokenizer whose chat template is set.
        template: A file in templates/, without suffix.
        marks: The tokens that the chat template writes around an image.
        end: The token that ends a reply.
        stops: The tokens at which generation_config.json ends a reply; the model says only `end`.
        says: Tokens that the weights favour, so that replies end, and read the same when they are given.
        renamed: Weights that transformers saves under other names than released checkpoints have.
        options: Engine options beside the usual ones.
        tied: The output layer has the weights of the embedding.
    """

    name: str
    config: Callable[[Ids], Any]
    model: str
    processor: Callable[[Any], Any]
    vocabulary: Vocabulary
    template: str
    marks: int
    end: str
    stops: tuple[str, ...]
    says: tuple[str, ...] = tuple("0123456789")
    renamed: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False
