"""The pixels that the models see, beside ImageMagick.

Every file is decoded by both at full size: upright, by its colour profile in sRGB, on white. A file agrees if the mean
difference is at most one of 255 levels. Files are made on the spot in every mode and variant that Pillow writes; give a
folder to compare its files instead. `agree` is the share of the files that both decode, `agree_or_known` the same with
those whose difference has a known reason; every file that differs is listed with its kind, difference and reason.

    python benchmarks/colours.py [FOLDER] [--quick]

ImageMagick must be installed (Debian: apt-get install imagemagick).
"""

import argparse
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Unfit, decode

LIMITS = ImagesConfig(model_pixels=100_000_000, max_frames=10_000, min_side=1, max_aspect=1e9)
AGREES = 1.0  # mean difference in levels
LIGHT = 245.0  # mean level of what is nearly white
NAMES = ("convert", "magick")
TURNED = ("JPEG", "TIFF")  # formats whose orientation ImageMagick 6 knows
DEEP = "values of 8, 10 or 12 bits in 16 are scaled by those bits"
KNOWN = {  # why both may be right: the end of a file's kind → the difference in reading it
    " I": "integers of 32 bits or with a sign are scaled by their own range",
    " F": "floats are scaled by 0…1, 0…255 or their own range",
    " I;16": DEEP,
    " I;16B": DEEP,
    " CMYK": "without a profile, inks have no colour of their own",
    "GIF P": "ImageMagick shows the first frame alone, without the canvas around it",
    "BMP RGB": "the fourth byte of a BMP is not taken for transparency",
    " LAB": "without a profile the white of Lab is not known",
}
JPEGS_IN_TIFF = (6, 7)  # values of Compression: JPEG as it was first written there, and as it is now
YCBCR = 6  # a value of PhotometricInterpretation


@dataclass(frozen=True)
class Comparison:
    """How a file looks to both.

    Attributes:
        kind: Format and mode, as Pillow calls them.
        difference: The mean of |ours - theirs| in levels; None if one of them refuses the file.
        refused: Why we refuse it; empty if we do not.
        is_shown: Whether ImageMagick shows it.
    """

    name: str
    kind: str
    difference: float | None
    refused: str
    is_shown: bool
    reason: str = "unknown"


def main() -> None:
    """Compare; print a table, the files that differ, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="compare the files below this folder")
    parser.add_argument("--quick", action="store_true", help="a few of the files")
    options = parser.parse_args()
    program = imagemagick()
    if program is None:
        print("nothing compared: ImageMagick is not installed; on Debian: apt-get install imagemagick", file=sys.stderr)
        return
    files = folder_files(options.folder) if options.folder else made_files()
    chosen = itertools.islice(files, 40) if options.quick else files
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "srgb.icc"
        profile.write_bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        report([compare(name, data, program, profile) for name, data in chosen])


def imagemagick() -> str | None:
    """Return the program that is ImageMagick, of those of its names on PATH."""
    folders = os.get_exec_path()
    found = (shutil.which(name, path=folder) for folder in folders for name in NAMES)
    return next((path for path in found if path and b"ImageMagick" in _version(path)), None)


def _version(path: str) -> bytes:
    done = subprocess.run([path, "-version"], capture_output=True, check=False)
    return done.stdout if not done.returncode else b""


def folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each file below a folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield str(path.relative_to(folder)), path.read_bytes()


def made_files() -> Iterator[tuple[str, bytes]]:
    """Yield files of every format, mode and variant, with and without profile, orientation and transparency."""
    rng = np.random.default_rng(1)
    base = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    layered = base.copy()
    layered.putalpha(Image.linear_gradient("L").resize(base.size))
    grey = np.asarray(base.convert("L")).astype(np.uint16)
    images = {mode: base.convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB")}
    images |= {"LA": layered.convert("LA"), "RGBA": layered, "I;16": Image.fromarray(grey * 257)}
    formats = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "BMP": {}, "GIF": {}}
    for (mode, image), (name, options) in itertools.product(images.items(), formats.items()):
        turns = (1, 3, 6) if name in TURNED else (1,)
        for turn, profile in itertools.product(turns, (None, *(profiles(mode) if name != "WEBP" else ()))):
            data = saved(image, name, turn, profile, **options)
            if data:
                yield f"{name} {mode} turn {turn} profile {len(profile or b'')}", data


def profiles(mode: str) -> list[bytes]:
    """Return profiles that fit a mode and are not sRGB."""
    from tests.fixtures.profiles import ADOBE_RGB, DISPLAY_P3, SRGB, grey_profile, rgb_profile

    if mode in ("L", "LA"):
        return [grey_profile(1.0), grey_profile(1.8)]
    spaces = ((ADOBE_RGB, 2.2), (DISPLAY_P3, 2.2), (SRGB, 1.0))
    return [rgb_profile(*space) for space in spaces] if mode in ("RGB", "RGBA", "P") else []


def saved(image: Image.Image, name: str, turn: int, profile: bytes | None, **options: object) -> bytes | None:
    """Return the file of an image; None if the format lacks the mode."""
    sink, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    options |= {"exif": exif} if name in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    options |= {"icc_profile": profile} if profile else {}
    try:
        image.save(sink, name, **options)
    except (OSError, ValueError, KeyError):
        return None
    return sink.getvalue()


def compare(name: str, data: bytes, program: str, profile: Path) -> Comparison:
    """Decode a file with both."""
    kind, reason, refused, ours = "?", "unknown", "", None
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = f"{image.format} {image.mode}"
            reason = reason_of(image, kind)
    except Exception as error:  # only its kind is wanted; what we make of the file is said below
        kind = type(error).__name__
    try:
        ours = np.asarray(decode(data, LIMITS).image, np.int16)
    except Unfit as unfit:
        refused = str(unfit)
    theirs = shown(data, program, profile)
    if ours is None or theirs is None:
        return Comparison(name, kind, None, refused, theirs is not None)
    difference = float(np.abs(ours - theirs).mean()) if ours.shape == theirs.shape else 255.0
    return Comparison(name, kind, difference, refused, True, reason)


def reason_of(image: Image.Image, kind: str) -> str:
    """Return why a file of this kind may look otherwise to ImageMagick and yet right; "unknown" if nothing is known."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(259) in JPEGS_IN_TIFF or tags.get(262) == YCBCR:
        return "ImageMagick takes YCbCr in a TIFF for RGB, and shows lossless JPEG as black"
    if image.format == "TIFF" and tags.get(262) == 0 and image.mode in ("1", "L"):
        return "ImageMagick loses that white is zero where it converts by a profile"
    if image.mode in ("RGBA", "LA") and is_light(image):
        return "what is light on transparent is shown on black, since on white it would vanish"
    if "Orientation" in str(image.info.get("XML:com.adobe.xmp")) or "Orientation" in str(image.info.get("xmp")):
        return "an orientation that XMP alone states is applied, as Pillow does"
    if image.mode == "RGB" and (profile := image.info.get("icc_profile")) and space_of(profile) != "RGB":
        return "a profile that is broken, or of greys or inks, is ignored on an RGB image"
    return next((why for end, why in KNOWN.items() if kind.endswith(end)), "unknown")


def is_light(image: Image.Image) -> bool:
    """Return whether what can be seen of an image is nearly white."""
    layered = np.asarray(image.convert("RGBA"))
    seen = layered[layered[..., 3] > 0][:, :3]
    return bool(seen.size and seen.mean() > LIGHT)


def space_of(profile: bytes) -> str:
    """Return the colour space of an ICC profile; "" if it cannot be read."""
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except (OSError, AttributeError):
        return ""


def shown(data: bytes, program: str, profile: Path) -> np.ndarray | None:
    """Return what ImageMagick makes of a file, (height, width, 3) in levels; None if it cannot."""
    on_white = ["-background", "white", "-alpha", "remove", "-alpha", "off", "-type", "TrueColor", "-depth", "8"]
    command = [program, "-[0]", "-auto-orient", "-profile", str(profile), "-colorspace", "sRGB", *on_white, "ppm:-"]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    try:
        with Image.open(io.BytesIO(done.stdout), formats=("PPM",)) as image:
            return np.asarray(image.convert("RGB"), np.int16)
    except OSError:
        return None


def report(results: list[Comparison]) -> None:
    """Print the counts by mode, each file that differs, and one line of JSON."""
    both = [result for result in results if result.difference is not None]
    print(f"{'kind':<22} {'files':>6} {'agree':>6} {'largest difference':>19}")
    for kind in sorted({result.kind for result in both}):
        differences = [result.difference or 0.0 for result in both if result.kind == kind]
        agree = sum(difference <= AGREES for difference in differences)
        print(f"{kind:<22} {len(differences):>6,} {agree:>6,} {max(differences):>19.2f}")
    differing = [result for result in both if (result.difference or 0.0) > AGREES]
    for result in differing:
        print(f"differs by {result.difference:.2f}: {result.name} ({result.kind}): {result.reason}")
    refused = [result for result in results if result.refused and result.is_shown]
    for result in refused:
        print(f"refused: {result.name}: {result.refused}")
    unexplained = sum(result.reason == "unknown" for result in differing)
    record = {"benchmark": "colours", "files": len(results), "compared": len(both), "refused": len(refused)}
    agreeing = 1 - len(differing) / len(both) if both else 0.0
    known = 1 - unexplained / len(both) if both else 0.0
    shares = {"agree": round(agreeing, 4), "agree_or_known": round(known, 4)}
    print(json.dumps({**record, **shares, "unexplained": unexplained}))


if __name__ == "__main__":
    main()
