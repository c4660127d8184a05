"""Sequence packing: about twenty training examples behind one picture, which is encoded once for all of them.

Each picture has a prefix of PREFIX_TOKENS tokens and then ROWS rows of ROW_TOKENS tokens. An example stands whole in
one row and sees the prefix and itself, nothing else, so its logits equal those of the example alone
(tests/demo/test_training.py checks the mask).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo.nano_vlm import IMAGE_TOKENS
from demo.training_examples import KEYS, ROLES, Example, Mixture, sample_examples
from demo.world import Scene

ROWS, ROW_TOKENS = 9, 48
PREFIX_TOKENS = 1 + IMAGE_TOKENS  # <|user|> and the picture
MAX_MISSES = 4  # examples without a place, after which a pack is full
CACHE_SIZE = 200_000  # texts
Encode = Callable[[str], list[int]]


@dataclass
class Pack:
    """The examples of one picture; every array is (ROWS, ROW_TOKENS)."""

    token_ids: NDArray[np.int64]
    targets: NDArray[np.int64]  # the next token where it is to be learned, else -100
    example: NDArray[np.int64]  # number of the example, from 1; 0 is padding
    is_blind: NDArray[np.bool_]  # of an example without the picture
    position: NDArray[np.int64]
    keys: list[int]  # index into KEYS of each example

    @classmethod
    def empty(cls) -> Pack:
        """Return a pack of padding alone."""
        shape = (ROWS, ROW_TOKENS)
        return cls(
            token_ids=np.zeros(shape, np.int64),
            targets=np.full(shape, -100),
            example=np.zeros(shape, np.int64),
            is_blind=np.zeros(shape, bool),
            position=np.zeros(shape, np.int64),
            keys=[],
        )

    def write(self, row: int, start: int, example: Example, token_ids: list[int], is_reply: list[bool]) -> None:
        """Write an example into a row, from token `start` on."""
        place = slice(start, start + len(token_ids))
        is_blind = example.task == "blind"
        self.keys.append(KEYS.index(example.key))
        self.token_ids[row, place] = token_ids
        self.example[row, place] = len(self.keys)
        self.is_blind[row, place] = is_blind
        self.position[row, place] = np.arange(len(token_ids)) + (0 if is_blind else PREFIX_TOKENS)
        for i in range(len(token_ids) - 1):
            if is_reply[i + 1]:
                self.targets[row, start + i] = token_ids[i + 1]


class Packer:
    """Packs the examples of scenes, with a tokenizer's ids."""

    def __init__(self, encode: Encode, user: int, assistant: int, end: int) -> None:
        self.encode, self.user, self.assistant, self.end = encode, user, assistant, end
        self._cache: dict[str, list[int]] = {}

    def _encode_cached(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > CACHE_SIZE:
                self._cache.clear()
            self._cache[text] = self.encode(text)
        return self._cache[text]

    def tokenize(self, example: Example) -> tuple[list[int], list[bool]]:
        """Return the token ids that follow the prefix, and which of them are the model's reply."""
        token_ids: list[int] = [self.user] if example.task == "blind" else []
        is_reply = [False] * len(token_ids)
        for i, (prompt, reply) in enumerate(example.turns):
            opening = [self.user] if i else []  # of the first turn it stands in the prefix
            prompt_ids = [*opening, *self._encode_cached(prompt), self.end, self.assistant]
            reply_ids = [*self._encode_cached(reply), self.end]
            token_ids += prompt_ids + reply_ids
            is_reply += [False] * len(prompt_ids) + [True] * len(reply_ids)
        return token_ids, is_reply

    def pack(
        self, scene: Scene, rng: random.Random, weights: Mapping[str, float], mixture: Mixture = ROLES["asker"][1]
    ) -> Pack:
        """Fill the rows first-fit with examples, until a few find no place.

        Args:
            scene: The scene they are about.
            rng: Source of all draws.
            weights: By key, how often an example is drawn (see `sample_examples`).
            mixture: How often each task is drawn.
        """
        pack, used, misses = Pack.empty(), [0] * ROWS, 0
        for example in sample_examples(scene, rng, weights, mixture):
            token_ids, is_reply = self.tokenize(example)
            if len(token_ids) > ROW_TOKENS:
                continue  # two captions in one conversation
            row = next((number for number in range(ROWS) if used[number] + len(token_ids) <= ROW_TOKENS), None)
            if row is not None:
                pack.write(row, used[row], example, token_ids, is_reply)
                used[row] += len(token_ids)
            elif (misses := misses + 1) > MAX_MISSES:
                break
        return pack


def row_mask(example: Tensor, is_blind: Tensor) -> Tensor:
    """Return the attention mask of the rows: True where a token may look.

    Args:
        example: (..., ROW_TOKENS) int64, the number of each token's example; 0 is padding.
        is_blind: (..., ROW_TOKENS) bool.

    Returns:
        (..., ROW_TOKENS, PREFIX_TOKENS + ROW_TOKENS) bool. Padding looks at the prefix, so that no row of the softmax
        is empty.
    """
    is_same = example[..., :, None] == example[..., None, :]  # (..., L, 1) == (..., 1, L) -> (..., L, L)
    is_past = torch.ones(ROW_TOKENS, ROW_TOKENS, dtype=torch.bool, device=example.device).tril()  # (L, L)
    sees_prefix = ~is_blind[..., :, None].expand(*is_blind.shape, PREFIX_TOKENS)  # (..., L, PREFIX_TOKENS)
    return torch.cat([sees_prefix, is_same & is_past], -1)  # (..., L, PREFIX_TOKENS + L)
