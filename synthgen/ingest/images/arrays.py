"""JPEG XL and camera raw: formats whose packages give arrays of pixels, upright and in 8 bits.

The orientation of a JPEG XL is that of its codestream, as its standard says, and not that of an EXIF block beside it. A
raw file is developed as its camera would: with the camera's white balance, in sRGB. Where the models see no more than a
quarter of its pixels, it is developed at half the size, in a fraction of the time.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from synthgen.ingest.images.plugins import missing_package
from synthgen.ingest.images.unfit import Unfit

CheckSize = Callable[[int, int], None]  # raises Unfit if a width and height in pixels are outside the limits
SWAPPED = (5, 6)  # values of LibRaw's `flip` that exchange width and height


def open_jxl(data: bytes, check_size: CheckSize) -> Image.Image:
    """Return a JPEG XL, decoded; of an animation, the first frame."""
    try:
        import pylibjxl
    except ImportError:
        raise missing_package("JXL") from None
    try:
        header = pylibjxl.probe(data)
        check_size(header["width"], header["height"])
        pixels, beside = pylibjxl.decode(data, metadata=True)
    except (RuntimeError, ValueError) as error:
        raise Unfit("corrupt", f"a JPEG XL that cannot be decoded: {error}") from error
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.info.update({key: beside[key] for key in ("icc_profile", "xmp") if beside.get(key)})
    return image


def open_raw(data: bytes, check_size: CheckSize, model_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the picture of a camera's raw file, and the size that it has whole."""
    try:
        import rawpy
    except ImportError:
        raise missing_package("RAW") from None
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes = raw.sizes
            width, height = (sizes.height, sizes.width) if sizes.flip in SWAPPED else (sizes.width, sizes.height)
            check_size(width, height)
            is_large = width * height >= 4 * model_pixels
            pixels: Any = raw.postprocess(use_camera_wb=True, output_bps=8, half_size=is_large)
    except rawpy.LibRawFileUnsupportedError as error:
        raise Unfit("unsupported", f"a raw file that LibRaw does not know: {error}") from error
    except rawpy.LibRawError as error:
        raise Unfit("corrupt", f"a raw file that cannot be developed: {error}") from error
    return Image.fromarray(pixels), (width, height)
