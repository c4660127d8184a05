"""Near duplicates among texts and among perceptual hashes of images: who stands for whom.

Comes in: texts or 64-bit hashes, in the order in which they count as earlier. Goes out: for each the index of the one that
stands for it, itself if it is kept. The rule is first come: an item is dropped if it is near to an earlier item that is
kept, and the earliest such item stands for it. Nothing else enters, so the result does not depend on how the work is cut.

Both kinds are found alike (greedy.py): every item gets a few keys, made so that near items share one (images.py,
job/resolve.py); items that share a key are candidates; each candidate is then compared for good. Nothing is indexed: keys are
grouped by sorting, so memory stays near that of the input, however large a cluster of duplicates.
"""

from synthgen.dedup.images import near_images
from synthgen.dedup.texts import near_texts, plain_texts

__all__ = ["near_images", "near_texts", "plain_texts"]
