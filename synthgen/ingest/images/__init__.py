"""Untrusted image files turned into small RGB images, with their true size and perceptual hash, or a reason why not.

A header is checked before any pixel is decoded (headers.py). The pixels become one upright RGB image no larger than
the models see (decode.py). Both happen in child processes that may be killed (pool.py, child.py), because the
decoders are C code and anybody may have written the bytes. At import this package loads Pillow, numpy and the
standard library only: the child processes import it too.
"""

from synthgen.ingest.images.decode import DECODING, Decoded, decode, decode_pixels, fit
from synthgen.ingest.images.headers import Header
from synthgen.ingest.images.phash import perceptual_hash
from synthgen.ingest.images.pool import DecoderPool
from synthgen.ingest.images.unfit import Unfit

__all__ = ["DECODING", "Decoded", "DecoderPool", "Header", "Unfit", "decode", "decode_pixels", "fit", "perceptual_hash"]
