"""Near duplicates among texts and among perceptual hashes of images.

Items count as earlier in the order in which they are given. An item is dropped if it is near to an earlier item that is
kept, and the earliest such item represents it. The result depends on nothing else, so not on how the work is divided.

Texts and images share one method (greedy.py). Every item gets a few keys, chosen so that near items share one
(images.py, minhash.py). Items that share a key are candidates, and each pair of candidates is compared exactly; images
also by their thumbnails (thumbnails.py). Keys are grouped by sorting rather than in an index, so memory stays near that
of the input, however large a cluster of duplicates. Only a key of very many images is split at some loss (crowds.py).
Whether one image is a part of another is told by fitting it (parts.py).
Large sets of texts stay on disk (text_set.py). Embeddings are compared within cells of k-means (semantic.py).
"""

from synthgen.dedup.images import near_images, near_known
from synthgen.dedup.known_parts import Crops, known_parts
from synthgen.dedup.semantic import near_embeddings
from synthgen.dedup.texts import near_texts, plain_texts
from synthgen.dedup.thumbnails import Thumbnails

__all__ = [
    "Crops",
    "Thumbnails",
    "known_parts",
    "near_embeddings",
    "near_images",
    "near_known",
    "near_texts",
    "plain_texts",
]
