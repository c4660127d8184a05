"""The drawn world: scenes are functions of (seed, index), and pictures show what the scene graph says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from demo import draw as drawing
from demo import truth
from demo.world import COLOURS, GROUPS, MAX_THINGS, OBJECTS, Scene, plural, sample
from tests.fixtures.workspace import ROOT

scenes = st.builds(sample, st.integers(0, 10**6), st.integers(0, 10**6))


def test_world_is_as_large_as_promised() -> None:
    assert len(OBJECTS) >= 60
    assert len(GROUPS) >= 8
    assert len({plural(name) for name in OBJECTS}) == len(OBJECTS)


@given(scenes)
def test_json_round_trip(scene: Scene) -> None:
    assert Scene.from_json(scene.to_json()) == scene


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_scene_is_a_function_of_seed_and_index(seed: int, index: int) -> None:
    assert sample(seed, index) == sample(seed, index)


@given(scenes)
def test_a_scene_graph_is_consistent(scene: Scene) -> None:
    cells = [thing.cell for thing in scene.things]
    assert cells == sorted(set(cells))
    assert len(cells) <= MAX_THINGS
    for thing in scene.things:
        assert thing.x // 48 == (thing.x + thing.size - 1) // 48 == thing.cell % 3
        assert thing.y // 48 == (thing.y + thing.size - 1) // 48 == thing.cell // 3
        assert (thing.colour is None) == (thing.name in OBJECTS)
    if scene.sign:
        assert all(cell // 3 != scene.sign.row for cell in cells)
    assert bool(scene.bars) == (scene.kind == "chart") == (scene.background is None)
    assert len({bar.colour for bar in scene.bars}) == len(scene.bars)


@pytest.mark.parametrize("name", ["0005.png", "0016.png", "0039.png"])
def test_the_committed_pictures_are_redrawn_to_the_pixel(name: str) -> None:
    committed = Image.open(ROOT / "demo" / "images" / name)
    assert drawing.draw(truth.load_scenes()[name]).tobytes() == committed.convert("RGB").tobytes()


def test_drawing_is_deterministic() -> None:
    def digest() -> str:
        drawing.emoji.cache_clear()
        drawing.shape.cache_clear()
        return hashlib.sha256(b"".join(drawing.draw(sample(5, i)).tobytes() for i in range(40))).hexdigest()

    assert digest() == digest()


def _pixels(scene: Scene) -> np.ndarray[Any, Any]:
    return np.asarray(drawing.draw(scene)).astype(int)


@given(scenes)
def test_every_thing_is_visible_in_its_cell_and_nowhere_else(scene: Scene) -> None:
    for i, thing in enumerate(scene.things):
        without = replace(scene, things=(*scene.things[:i], *scene.things[i + 1 :]))
        changed = np.abs(_pixels(scene) - _pixels(without)).max(-1) > 30
        rows, columns = np.nonzero(changed)
        assert changed.sum() > 60, thing
        assert set(rows // 48) == {thing.cell // 3}
        assert set(columns // 48) == {thing.cell % 3}


@given(scenes)
def test_signs_bars_and_backgrounds_are_drawn(scene: Scene) -> None:
    picture = _pixels(scene)
    for bar in scene.bars:
        middle = picture[drawing.FLOOR - bar.value * drawing.UNIT + 4, (bar.left + bar.right) // 2]
        assert tuple(middle) == COLOURS[bar.colour]
        above = picture[max(0, drawing.FLOOR - bar.value * drawing.UNIT - 6), (bar.left + bar.right) // 2]
        assert tuple(above) != COLOURS[bar.colour]
    if scene.sign:
        blank = replace(scene, sign=replace(scene.sign, text=" "))
        assert (np.abs(picture - _pixels(blank)).max(-1) > 100).sum() > 60
        assert scene.sign.x >= 0
    if scene.background and not scene.sign and not scene.things:
        assert (picture != _pixels(replace(scene, background="grid"))).any()
