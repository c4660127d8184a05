"""What a distilled judge sees of a call: embeddings of the image and the text, how they go together, and the words."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from synthgen.engines.distilled.embedder import Floats

HASHED = 2048  # places for words and pairs of neighbouring words
WORD_WEIGHT = 0.5  # of the hashed words beside the embeddings, which have unit length


def features_of(images: Floats, texts: Floats, words: Sequence[str]) -> Floats:
    """Return the features of calls.

    Args:
        images: Embeddings, (calls, width) float32.
        texts: Embeddings of the prompts, (calls, width) float32.
        words: The prompts.

    Returns:
        (calls, 3 * width + HASHED) float32: both embeddings, their product place by place, and the hashed words.
    """
    together = images * texts * np.sqrt(images.shape[1], dtype=np.float32)
    features: Floats = np.concatenate([images, texts, together, hashed_words(words)], axis=1)
    return features


def hashed_words(texts: Sequence[str]) -> Floats:
    """Return the words and pairs of words of each text, hashed (arXiv 0902.2206): (texts, HASHED) float32."""
    counts = np.zeros((len(texts), HASHED), np.float32)
    for row, text in enumerate(texts):
        words = text.lower().split()
        for term in {*words, *(f"{one} {two}" for one, two in pairwise(words))}:
            digest = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big")
            counts[row, digest % HASHED] += 1.0 if digest >> 63 else -1.0
    lengths = np.linalg.norm(counts, axis=1, keepdims=True)
    counts *= np.float32(WORD_WEIGHT) / np.maximum(lengths, 1.0)
    return counts
