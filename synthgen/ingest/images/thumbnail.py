"""What tells images of one perceptual hash apart: a small grey thumbnail, and how much of the image has one grey.

The hash of a page of text is that of its margins; the words move the grey of a few cells of the thumbnail. Half of the
pixels of most documents, charts and screenshots have one grey, of photographs few do.
"""

import numpy as np
from PIL import Image

SIDE = 16  # cells of an edge
GREYS = 8  # neighbouring grey levels of 256 that count as one: lossy compression spreads a grey over them


def thumbnail(grey: Image.Image) -> bytes:
    """Return the mean grey of each cell of a grid over an image of mode L, row by row: SIDE * SIDE bytes."""
    return grey.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def flat_share(grey: Image.Image) -> float:
    """Return the share of the pixels of an image of mode L that have its commonest grey."""
    counts = np.array(grey.histogram(), dtype=np.float64)  # (256,)
    return float(np.convolve(counts, np.ones(GREYS), "valid").max() / counts.sum())
