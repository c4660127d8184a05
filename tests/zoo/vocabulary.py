"""Tokenizers trained on a page of English, with the special tokens of a family.

Digits are tokens of their own, as in every family here. They make up most of what the checkpoints say (weights.py), so
replies are read back as the tokens that they were made of.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.fixtures.workspace import ROOT
from tests.zoo.family import Vocabulary

MERGED = 1200  # tokens of a BPE before the special ones
# The pieces within which Qwen's BPE merges; the other byte-level families differ in contractions and digits only.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
NEWLINES = tuple("\n" * count for count in range(1, 5))


def save_tokenizer(vocabulary: Vocabulary, template: str, folder: Path) -> None:
    """Write the tokenizer of a family with its chat template into a folder, in the form of released checkpoints."""
    bpe = Tokenizer.from_str(_byte_level() if vocabulary.kind == "bytes" else _pieces(vocabulary.special))
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in vocabulary.special])
    bpe.add_tokens([AddedToken(token, special=False, normalized=False) for token in vocabulary.plain])
    if vocabulary.adds_first:
        first = vocabulary.named["bos_token"]
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, bpe.token_to_id(first))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        chat_template=template,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=32768,
        **vocabulary.named,
    )
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= vocabulary.model_tokens
    settings["tokenizer_class"] = vocabulary.tokenizer_class
    if vocabulary.model_tokens:
        settings["model_specific_special_tokens"] = dict(vocabulary.model_tokens)
    path.write_text(json.dumps(settings, indent=2))


@cache
def _byte_level() -> str:
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=MERGED, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(_corpus(), trainer)
    return str(bpe.to_str())


@cache
def _pieces(special: tuple[str, ...]) -> str:
    """Return a BPE as Gemma's: a space is a character of its own, and what is no token is written as bytes."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    trained_within = [
        pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
        pre_tokenizers.Split(Regex(r"\n+"), behavior="isolated"),
        pre_tokenizers.Split("▁", behavior="merged_with_next"),
        pre_tokenizers.Punctuation(behavior="isolated"),
    ]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(trained_within)
    # The first tokens have fixed places: padding, end, beginning, unknown.
    first = list(dict.fromkeys([*special, *BYTES, *NEWLINES]))
    trainer = trainers.BpeTrainer(vocab_size=MERGED + len(first), special_tokens=first, show_progress=False)
    bpe.train_from_iterator(_corpus(), trainer)
    bpe.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    written: dict[str, Any] = json.loads(bpe.to_str())
    written["added_tokens"] = [
        {**token, "special": token["content"] in special}
        for token in written["added_tokens"]
        if token["content"] not in BYTES
    ]
    return json.dumps(written)


def _corpus() -> Iterator[str]:
    """Yield English that stays as it is, so that the checkpoints do, and what prompts and labels are made of."""
    yield (ROOT / "LICENSE").read_text()
    for text in ("yes", "no", "Yes", "No", " yes", " no", *"ABCD", *"0123456789", *OPENINGS, *SENTENCES):
        yield f"{text}\n" * 20


OPENINGS = (" What", "What", " How", "How", " Where", "Where")  # one token each, as in released tokenizers
SENTENCES = (
    'Return only JSON: {"questions": ["What is it?", "Which is the first?"]}',
    "user assistant system model Question: Answer: How many are there in the image? Where is the one that you see?",
    "What does the sign say? Describe it shortly. Is the answer right? Rate it from 1 to 5. So it is the one.",
)
