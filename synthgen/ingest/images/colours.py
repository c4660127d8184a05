"""Colours as a viewer shows them: every image becomes 8-bit RGB in sRGB.

An ICC profile is applied unless it changes no colour by more than a level, as the many profiles that describe sRGB. A
PNG without one is read by its `gAMA` and `cHRM` chunks. Values of 16 and 32 bits and floats are scaled to 8 bits, not
clipped. Transparent pixels become white, or black where the picture would vanish on white.
"""

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageStat

from synthgen.ingest.images.unfit import Unfit

Convert = Callable[[Image.Image], Image.Image]  # to RGB in sRGB
Matrix = NDArray[np.float64]
Scale = Callable[[Image.Image], Image.Image]

SRGB = ImageCms.createProfile("sRGB")
SRGB_GAMMA = 1 / 2.2
SRGB_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green and blue
TOLERANCE = 0.01  # of gamma and chromaticities that count as those of sRGB
WHITE_IS_ZERO = 0  # of the TIFF tag PhotometricInterpretation
PHOTOMETRIC, SAMPLE_FORMAT = 262, 339  # TIFF tags
UNSIGNED = 1  # of the TIFF tag SampleFormat
SCALABLE = ("RGB", "L", "CMYK")  # modes
ROWS_AT_ONCE = 256
VISIBLE = 16  # levels from white


def conversion(image: Image.Image) -> Convert | None:
    """Return how an open image becomes sRGB, or None if its values are sRGB as they are."""
    if profile := image.info.get("icc_profile"):
        return _profile_conversion(bytes(profile), image.mode)
    if image.format == "PNG" and "srgb" not in image.info:
        return _gamma_conversion(image.info.get("gamma"), image.info.get("chromaticity"))
    return None


def is_transparent(image: Image.Image) -> bool:
    """Return whether a pixel of the image can be transparent."""
    return image.mode in ("La", "RGBa") or image.has_transparency_data


def to_rgb(image: Image.Image, scale: Scale) -> Image.Image:
    """Return a loaded image in mode RGB, as a viewer shows it on white.

    Args:
        image: The image.
        scale: Makes an image smaller; its mode is one that can be scaled.

    Raises:
        Unfit: Every pixel is transparent.
    """
    convert = conversion(image) or _as_it_is
    if image.mode in SCALABLE and not is_transparent(image):
        return convert(scale(image))  # the smaller image has fewer colours to convert
    return scale(_whole_to_rgb(image, convert))


def _whole_to_rgb(image: Image.Image, convert: Convert) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if is_transparent(image):
        return _flatten(image, convert)
    return convert(image)


def _as_it_is(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return _apply(ImageCms.buildTransform(ImageCms.createProfile("LAB"), SRGB, "LAB", "RGB"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


# --- profiles ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _profile_conversion(profile: bytes, mode: str) -> Convert | None:
    """Return how a profile is applied; None if it changes nothing, cannot be read, or is for another kind of image."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "GRAY" and mode in ("1", "L", "LA", "La"):
            used = "L"
        elif space == "RGB" and mode not in ("CMYK", "LAB"):
            used = "RGB"
        elif (space, mode) in (("CMYK", "CMYK"), ("Lab", "LAB")):
            used = mode
        else:
            return None
        transform = ImageCms.buildTransform(source, SRGB, used, "RGB", flags=ImageCms.Flags.BLACKPOINTCOMPENSATION)
        if used in ("L", "RGB") and _is_identity(transform, used):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None

    def convert(image: Image.Image) -> Image.Image:
        return _apply(transform, image if image.mode == used else image.convert(used))

    return convert


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    result = ImageCms.applyTransform(image, transform)
    assert result is not None, "only a transform in place returns nothing"
    return result


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform changes no colour of a grid by more than a level."""
    steps = np.linspace(0, 255, 9 if mode == "RGB" else 256).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3) if mode == "RGB" else steps[None]
    before = Image.fromarray(colours)
    after = np.asarray(_apply(transform, before), np.int16)
    return bool(np.abs(after - np.asarray(before.convert("RGB"), np.int16)).max() <= 1)


# --- gamma and chromaticities of a PNG --------------------------------------------------------------------------------


def _gamma_conversion(gamma: float | None, points: tuple[float, ...] | None) -> Convert | None:
    """Return how values of this gamma (as in `gAMA`, .45455 for 2.2) and these chromaticities become sRGB."""
    has_gamma = gamma is not None and gamma > 0 and abs(gamma - SRGB_GAMMA) > TOLERANCE
    has_points = points is not None and any(
        abs(one - other) > TOLERANCE for one, other in zip(points, SRGB_POINTS, strict=True)
    )
    matrix = _matrix(points) if points is not None and has_points else None
    if not has_gamma and matrix is None:
        return None
    values = np.arange(256) / 255
    linear = values ** (1 / gamma) if gamma is not None and has_gamma else _to_linear(values)

    levels = _to_levels(linear)

    def convert(image: Image.Image) -> Image.Image:
        result = Image.new("RGB", image.size)
        for top in range(0, image.height, ROWS_AT_ONCE):  # a large image takes much memory
            strip = image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height)))
            pixels = np.asarray(strip.convert("RGB"))
            converted = levels[pixels] if matrix is None else _to_levels(linear[pixels] @ matrix.T)
            result.paste(Image.fromarray(converted), (0, top))
        return result

    return convert


def _matrix(points: tuple[float, ...]) -> Matrix | None:
    """Return the matrix (3, 3) from linear RGB of these chromaticities to linear sRGB; None if they are impossible."""
    try:
        return np.asarray(np.linalg.solve(_to_xyz(SRGB_POINTS), _to_xyz(points)), np.float64)
    except np.linalg.LinAlgError:
        return None


def _to_xyz(points: tuple[float, ...]) -> Matrix:
    """Return the matrix (3, 3) from linear RGB to XYZ relative to the white point, after the PNG specification."""
    x, y = np.array(points, np.float64).reshape(4, 2).T
    xyz = np.stack([x, y, 1 - x - y]) / np.where(y == 0, np.inf, y)
    white, primaries = xyz[:, 0], xyz[:, 1:]
    # The white of one is the white of the other (von Kries in XYZ).
    matrix: Matrix = primaries * np.linalg.solve(primaries, white) / white[:, None]
    return matrix


def _to_linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_levels(linear: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return linear values in [0, 1] as sRGB levels."""
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    levels: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    return levels


# --- grey of many bits ------------------------------------------------------------------------------------------------


def _grey(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 or 32 bits or of floats in 8 bits.

    0…65535 and 0…1 are scaled as they are; an image with values outside is scaled by its own range. Values of 8,
    10 or 12 bits, as sensors give them, fill only the lowest of 16 bits and would be nearly black: they are scaled by
    those bits.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if tags and values.dtype == np.int32 and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED:
        values = values.view(np.uint32)  # Pillow takes them for signed
    low, high = _range(values)
    top = _top(image.mode, low, high)
    if low >= 0 and high <= top:
        low, high = 0.0, top
    clear, is_inverted = image.info.get("transparency"), tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS_AT_ONCE):  # a large image takes much memory
        rows = _finite(values[start : start + ROWS_AT_ONCE])
        levels = np.rint((rows - low) * (255.0 / max(high - low, 1e-30))).astype(np.uint8)
        if is_inverted:
            levels = 255 - levels
        if isinstance(clear, int):
            levels[rows == clear] = 255
        scaled[start : start + ROWS_AT_ONCE] = levels
    return Image.fromarray(scaled)


def _finite(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as floats, with 0 in place of those that are no number."""
    return np.nan_to_num(values.astype(np.float32), copy=False, posinf=0.0, neginf=0.0)


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the largest of finite values."""
    rows = (_finite(values[start : start + ROWS_AT_ONCE]) for start in range(0, len(values), ROWS_AT_ONCE))
    ends = [(float(some.min()), float(some.max())) for some in rows]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _top(mode: str, low: float, high: float) -> float:
    """Return the value that is white, for values that begin at 0."""
    if mode == "F":
        return 255.0 if low >= 0 and 1 < high <= 255 else 1.0  # floats that hold ordinary grey levels
    return next((top for top in (255.0, 1023.0, 4095.0) if high <= top), 65535.0)


# --- transparency -----------------------------------------------------------------------------------------------------


def _flatten(image: Image.Image, convert: Convert) -> Image.Image:
    """Return an image with transparency on white; on black if hardly anything of it differs from white."""
    layered = _layered(image)
    alpha = layered.getchannel("A")
    colours = convert(layered.convert("RGB"))
    del layered  # a large image takes much memory
    if not alpha.getextrema()[1]:
        if image.format != "BMP":
            raise Unfit("transparent", "every pixel is transparent")
        return colours  # the fourth byte of a BMP is no alpha in most
    return _on(colours, alpha, "white" if _differs_from_white(colours, alpha) else "black")


def _layered(image: Image.Image) -> Image.Image:
    """Return the image in mode RGBA."""
    if image.mode == "La":
        image = image.convert("LA")
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and image.format == "PNG" and _has_deep_samples(image):
        image.info["transparency"] = tuple(value >> 8 for value in clear)  # Pillow keeps the high bytes of the pixels
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _has_deep_samples(image: Image.Image) -> bool:
    """Return whether the transparent colour of a PNG has values of 16 bits."""
    return any(value > 255 for value in image.info["transparency"])


def _on(colours: Image.Image, alpha: Image.Image, background: str) -> Image.Image:
    canvas = Image.new("RGB", colours.size, background)
    canvas.paste(colours, mask=alpha)
    return canvas


def _differs_from_white(colours: Image.Image, alpha: Image.Image) -> bool:
    """Return whether a visible pixel is darker than white, channel by channel to spare memory."""
    is_visible = alpha.point(lambda level: 255 if level >= VISIBLE else 0)
    darkest = (ImageStat.Stat(colours.getchannel(name), is_visible).extrema[0][0] for name in "RGB")
    return any(level <= 255 - VISIBLE for level in darkest)
