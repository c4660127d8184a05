"""More tokens for a model, of which only the new rows learn at first: ReTok (arXiv 2410.04335).

A text of a language or a field that the tokenizer cuts into many pieces costs as many steps to write. A word that
becomes one token starts from the mean of the embeddings of its pieces, and `train.new_tokens` then trains their rows of
the embedding and of the head alone, so that the model learns the new tokens and unlearns nothing; after that, a plain
training learns with them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from synthgen.errors import UserMistake

WORD = re.compile(r" ?\w+")  # with the space before it, as tokenizers of bytes cut


def choose_tokens(texts: Iterable[str], tokenizer: Any, count: int) -> list[str]:
    """Return the words that save most tokens as one each, the first the most.

    Args:
        texts: Of the language or field.
        tokenizer: Of the model.
        count: How many words.
    """
    found = Counter(word for text in texts for word in WORD.findall(text))
    saved = {word: times * (_pieces(tokenizer, word) - 1) for word, times in found.items()}
    ranked = sorted((word for word in saved if saved[word] > 0), key=lambda word: (-saved[word], word))
    return ranked[:count]


def _pieces(tokenizer: Any, word: str) -> int:
    return len(tokenizer.encode(word, add_special_tokens=False))


def extend(model: Any, tokenizer: Any, tokens: Sequence[str]) -> int:
    """Add tokens to a tokenizer and its model, in place; return how many are new, for `train.new_tokens`.

    Args:
        model: It gets more rows where it has no spare ones.
        tokenizer: A fast one.
        tokens: Texts, such as words with the space before them.

    Raises:
        UserMistake: No token is new.
    """
    known = set(tokenizer.get_vocab())
    new = [token for token in dict.fromkeys(tokens) if token not in known and _pieces(tokenizer, token) > 1]
    if not new:
        raise UserMistake("every one of these tokens is one token already")
    pieces, first = [tokenizer.encode(token, add_special_tokens=False) for token in new], len(tokenizer)
    tokenizer.add_tokens(new)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for matrix in _matrices(model):
            for row, ids in enumerate(pieces, start=first):
                matrix[row] = matrix[ids].mean(0)  # (pieces, width) to (width,)
    return len(new)


def save(model: Any, processor: Any, folder: Path) -> None:
    """Write a model and its processor as a folder that `synth train` starts from."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def train_only_new_tokens(model: Any, tokenizer: Any, count: int) -> None:
    """Freeze a model but for the rows of the last tokens in its embedding and head; other rows get a gradient of 0.

    AdamW leaves a value that never had a gradient where it is, if its weights do not decay.
    """
    new = slice(len(tokenizer) - count, len(tokenizer))
    for parameter in model.parameters():
        parameter.requires_grad = False
    for matrix in _matrices(model):
        matrix.requires_grad = True
        matrix.register_hook(lambda gradient: _of_rows(gradient, new))


def _of_rows(gradient: torch.Tensor, rows: slice) -> torch.Tensor:
    """Return a gradient, `(rows, width)`, with zeros in all rows but some."""
    kept = torch.zeros_like(gradient)
    kept[rows] = gradient[rows]
    return kept


def _matrices(model: Any) -> list[torch.nn.Parameter]:
    """Return the weights of the embedding and of the head, which are one where they are tied."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return list({id(each.weight): each.weight for each in modules if each is not None}.values())
