"""Files as a bucket may hold them: images in many formats and modes, damaged copies of them, and files of no image."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

SIZE = (96, 72)  # pixels of a made image
# mode → (format, options of Pillow)
KINDS: Sequence[tuple[str, str, dict[str, object]]] = (
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("L", "JPEG", {}),
    ("CMYK", "JPEG", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("P", "PNG", {}),
    ("I;16", "PNG", {}),
    ("1", "PNG", {}),
    ("P", "GIF", {}),
    ("RGB", "WEBP", {}),
    ("RGBA", "WEBP", {"lossless": True}),
    ("RGB", "BMP", {}),
    ("RGB", "TIFF", {}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("L", "TIFF", {"compression": "jpeg"}),
    ("RGB", "PPM", {}),
    ("RGB", "TGA", {}),
    ("RGBA", "ICO", {}),
)
NO_IMAGES = {
    "empty.jpg": b"",
    "notes.txt": b"no image at all",
    "page.html.png": b"<!doctype html><title>not found</title>",
    "letter.pdf": b"%PDF-1.4\n",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "zeros.gif": bytes(5000),
    "no suffix": b"BM",
    "line\nbreak #1 %41.png": b"\x89PNG\r\n\x1a\n",
    os.fsdecode(b"not \xff UTF-8.jpg"): b"\xff\xd8\xff",
    ".hidden.png": b"\x89PNG\r\n\x1a\n",
}
SUFFIXES = (".jpg", ".png", ".gif", ".webp", ".bmp", ".tif", ".txt", "")


def make_images(folder: Path) -> list[Path]:
    """Write an image of every kind, and files of no image; return the images."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise(SIZE, 60)
    paths = []
    for number, (mode, image_format, options) in enumerate(KINDS):
        image = noise.convert("RGB").convert("L") if mode == "I;16" else noise.convert("RGB")
        path = folder / f"{number:02}-{mode.replace(';', '-')}.{image_format.lower()}"
        image.convert(mode).save(path, image_format, **options)
        paths.append(path)
    for name, data in NO_IMAGES.items():
        (folder / name).write_bytes(data)
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "folder.jpg").mkdir(exist_ok=True)
    os.mkfifo(folder / "pipe.png")
    return paths


def write_damaged(paths: Sequence[Path], folder: Path, count: int, seed: int = 1) -> None:
    """Write damaged copies of files, in turn and in every way, the same for the same seed."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ways = list(WAYS.items())
    for number in range(count):
        path, (way, damage) = paths[number % len(paths)], ways[(number + number // len(paths)) % len(ways)]
        suffix = rng.choice(SUFFIXES) if way == "renamed" else path.suffix
        (folder / f"{number:06}-{way}-{path.stem[:60]}{suffix}").write_bytes(damage(path.read_bytes(), rng))


def find_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file())


def cut(data: bytes, rng: random.Random) -> bytes:
    """Keep the beginning."""
    return data[: rng.randrange(len(data) + 1)]


def cut_late(data: bytes, rng: random.Random) -> bytes:
    """Drop up to forty bytes of the end."""
    return data[: -rng.randrange(1, 41)]


def flip(data: bytes, rng: random.Random) -> bytes:
    """Change one to twenty bytes anywhere."""
    return _changed(data, rng, len(data))


def flip_header(data: bytes, rng: random.Random) -> bytes:
    """Change one to twenty of the first hundred bytes."""
    return _changed(data, rng, 100)


def append(data: bytes, rng: random.Random) -> bytes:
    """Add up to a kilobyte."""
    return data + rng.randbytes(rng.randrange(1, 1025))


def blank(data: bytes, rng: random.Random) -> bytes:
    """Put zeros in place of a stretch."""
    at = rng.randrange(len(data) + 1)
    end = rng.randrange(at, len(data) + 1)
    return data[:at] + bytes(end - at) + data[end:]


def remove(data: bytes, rng: random.Random) -> bytes:
    """Leave out a few bytes in the middle."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 65) :]


def same(data: bytes, _: random.Random) -> bytes:
    """Change nothing."""
    return data


def _changed(data: bytes, rng: random.Random, most: int) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 21) if data else 0):
        changed[rng.randrange(min(most, len(data)))] = rng.randrange(256)
    return bytes(changed)


WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": cut,
    "cut_late": cut_late,
    "flip": flip,
    "flip_header": flip_header,
    "append": append,
    "blank": blank,
    "remove": remove,
    "renamed": same,
}
