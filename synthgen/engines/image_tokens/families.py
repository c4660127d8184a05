"""The families whose rule is known, by the `model_type` of their configuration."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from synthgen.engines.image_tokens.grids import LongSideGrid, OneSquare, PatchGrid
from synthgen.engines.image_tokens.rule import ImageRule
from synthgen.engines.image_tokens.tiles import Canvases, FormTiles, LongSideTiles, Slices
from synthgen.engines.model_files import ModelFiles

LLAVA_SIDE, LLAVA_TILES = 384, range(1, 7)
Pixels = tuple[int, int]  # fewest and most


def _edge(value: Any, key: str) -> int:
    """Return a length that is written as a number or as a mapping of edges."""
    if isinstance(value, Mapping):
        return int(value.get(key) or value["height"])
    return int(value[0] if isinstance(value, list | tuple) else value)


def _patch_grid(patch: int, pixels: Pixels, files: ModelFiles, frames: int = 1) -> PatchGrid:
    image, size = files.image, files.image.get("size") or {}
    low = image.get("min_pixels") or size.get("shortest_edge") or pixels[0]
    high = image.get("max_pixels") or size.get("longest_edge") or pixels[1]
    unit = int(image.get("patch_size") or patch) * int(image.get("merge_size") or 2)
    return PatchGrid(unit, int(low), int(high), frames, enlarges=frames > 1)


def _internvl(files: ModelFiles) -> FormTiles:
    image, vision = files.image, files.vision
    side = _edge(image.get("size") or vision.get("image_size", 448), "height")
    patch, ratio = _edge(vision.get("patch_size", 14), "height"), files.config.get("downsample_ratio", 0.5)
    each = files.processor.get("image_seq_length") or int((side // patch * ratio) ** 2)
    most = int(image.get("max_patches") or 12) if image.get("crop_to_patches", True) else 1
    return FormTiles(side, int(each), min(int(image.get("min_patches") or 1), most), most)


def _internvl_chat(files: ModelFiles) -> FormTiles:
    """Return the rule of InternVL's own form of checkpoints, whose settings are in the configuration."""
    config, vision = {**files.config, **files.image}, files.vision
    side, patch = int(vision.get("image_size", 448)), int(vision.get("patch_size", 14))
    each = (side // patch) ** 2 * float(config.get("downsample_ratio", 0.5)) ** 2
    most = int(config.get("max_dynamic_patch", 12)) if config.get("dynamic_image_size", True) else 1
    return FormTiles(side, int(each), min(int(config.get("min_dynamic_patch", 1)), most), most, "max_dynamic_patch")


def _llava_onevision(files: ModelFiles) -> Canvases:
    vision = files.vision
    side = int(vision.get("image_size", LLAVA_SIDE))
    every = [[side * rows, side * columns] for rows in LLAVA_TILES for columns in LLAVA_TILES]
    pinpoints = files.image.get("image_grid_pinpoints") or files.config.get("image_grid_pinpoints") or every
    canvases = tuple((int(height), int(width)) for height, width in pinpoints)
    return Canvases(side, side // int(vision.get("patch_size", 14)), canvases)


def _long_side_tiles(side: int, files: ModelFiles) -> LongSideTiles:
    image, vision = files.image, files.vision
    tile = _edge(image.get("max_image_size") or side, "longest_edge")
    longest = _edge(image.get("size") or 4 * side, "longest_edge")
    pooled = tile // int(vision.get("patch_size", 14)) // int(files.config.get("scale_factor", 2))
    each = files.processor.get("image_seq_len") or pooled**2
    return LongSideTiles(tile, longest, int(each), bool(image.get("do_image_splitting", True)))


def _mistral3(files: ModelFiles) -> LongSideGrid:
    patch = _edge(files.image.get("patch_size") or files.vision.get("patch_size", 14), "height")
    unit = patch * int(files.config.get("spatial_merge_size", 2))
    return LongSideGrid(unit, _edge(files.image.get("size") or 1540, "longest_edge"))


def _gemma3(files: ModelFiles) -> OneSquare:
    each = files.processor.get("image_seq_length") or files.config.get("mm_tokens_per_image", 256)
    crops = int(files.image.get("pan_and_scan_max_num_crops") or 4) if files.image.get("do_pan_and_scan") else 0
    return OneSquare(int(each), crops)


def _minicpm(files: ModelFiles) -> Slices:
    image = files.image
    slices = int(image.get("max_slice_nums") or 9) if image.get("slice_mode", True) else 1
    dense = 4 if image.get("downsample_mode") == "4x" else 1
    return Slices(int(image.get("scale_resolution") or 448), int(image.get("patch_size") or 14) * 4, slices, dense)


_QWEN2 = partial(_patch_grid, 14, (3136, 12_845_056))
_QWEN3 = partial(_patch_grid, 16, (65_536, 16_777_216))
_GLM = partial(_patch_grid, 14, (12_544, 9_633_792), frames=2)

FAMILIES: Mapping[str, Callable[[ModelFiles], ImageRule]] = {
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": _QWEN3,
    "qwen3_5_moe": _QWEN3,
    "glm4v": _GLM,
    "glm4v_moe": _GLM,
    "internvl": _internvl,
    "internvl_chat": _internvl_chat,
    "llava_onevision": _llava_onevision,
    "idefics3": partial(_long_side_tiles, 364),
    "smolvlm": partial(_long_side_tiles, 512),
    "mistral3": _mistral3,
    "gemma3": _gemma3,
    "minicpmv4_6": _minicpm,
}
