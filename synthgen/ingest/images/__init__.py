"""Strangers' images, made safe: bytes in; a small RGB image, its true size and its perceptual hash out, or one reason why not.

Every check that a header allows comes before any pixel is decoded (headers.py), the pixels become one upright RGB image no
larger than the models see (decode.py), and all of that happens in child processes that may be killed (pool.py,
child.py), because the decoders are C code and the bytes are anybody's. What is wrong with an image is a value, `Unfit`.
This package imports no more than Pillow, numpy and the standard library at its top: the child processes import it too.
"""

from synthgen.ingest.images.decode import Decoded, decode, fit
from synthgen.ingest.images.headers import Header, Unfit, inspect
from synthgen.ingest.images.phash import perceptual_hash
from synthgen.ingest.images.pool import DecoderPool

__all__ = ["Decoded", "DecoderPool", "Header", "Unfit", "decode", "fit", "inspect", "perceptual_hash"]
