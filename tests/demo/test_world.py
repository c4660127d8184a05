"""The drawn world: scenes are functions of (seed, index), pictures show what the graph says, lessons see only what they may."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import draw as drawing
from demo.ground_truth import golds
from demo.patch_labels import COLUMN_OF, INDEX, labels
from demo.training_examples import KEYS, PREFIX, ROW, ROWS, Packer, lessons, row_mask
from demo.world import COLOURS, GROUPS, MOST_THINGS, OBJECTS, Scene, plural, sample

scenes = st.builds(sample, st.integers(0, 10**6), st.integers(0, 10**6))
pictures = pytest.mark.skipif(not drawing.EMOJI_FONT.exists(), reason="needs fonts-noto-color-emoji")


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
def test_scene_graph_is_sound(scene: Scene) -> None:
    cells = [thing.cell for thing in scene.things]
    assert cells == sorted(set(cells))
    assert len(cells) <= MOST_THINGS
    for thing in scene.things:
        assert thing.x // 48 == (thing.x + thing.size - 1) // 48 == thing.cell % 3
        assert thing.y // 48 == (thing.y + thing.size - 1) // 48 == thing.cell // 3
        assert (thing.colour is None) == (thing.name in OBJECTS)
    if scene.sign:
        assert all(cell // 3 != scene.sign.row for cell in cells)
    assert bool(scene.bars) == (scene.kind == "chart") == (scene.background is None)
    assert len({bar.colour for bar in scene.bars}) == len(scene.bars)


@pictures
def test_drawing_is_deterministic() -> None:
    def digest() -> str:
        drawing.emoji.cache_clear()
        drawing.shape.cache_clear()
        return hashlib.sha256(b"".join(drawing.draw(sample(5, i)).tobytes() for i in range(40))).hexdigest()

    assert digest() == digest()


def _pixels(scene: Scene) -> np.ndarray[Any, Any]:
    return np.asarray(drawing.draw(scene)).astype(int)


@pictures
@settings(max_examples=60, deadline=None)
@given(scenes)
def test_every_thing_is_visible_in_its_cell_and_nowhere_else(scene: Scene) -> None:
    for i, thing in enumerate(scene.things):
        without = replace(scene, things=(*scene.things[:i], *scene.things[i + 1 :]))
        changed = np.abs(_pixels(scene) - _pixels(without)).max(-1) > 30
        rows, columns = np.nonzero(changed)
        assert changed.sum() > 60, thing
        assert set(rows // 48) == {thing.cell // 3}
        assert set(columns // 48) == {thing.cell % 3}


@pictures
@settings(max_examples=40, deadline=None)
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


@given(scenes)
def test_dense_labels_name_every_thing(scene: Scene) -> None:
    grid = labels(scene).reshape(6, 6, -1)
    for thing in scene.things:
        row, column = divmod(thing.cell, 3)
        block = grid[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert (block[..., COLUMN_OF["name"]] == INDEX["name"][thing.name]).all()
    shown = {int(value) for value in grid[..., COLUMN_OF["text"]].ravel()} - {0}
    said = {INDEX["text"][scene.sign.text]} if scene.sign else {INDEX["text"][str(bar.value)] for bar in scene.bars}
    assert shown == said


def _packer() -> Packer:
    return Packer(lambda text: [10 + ord(character) % 50 for character in text.split(" ")[0]] or [10], 1, 2, 3)


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_a_lesson_sees_the_picture_and_itself_alone(scene: Scene) -> None:
    pack = _packer().pack(scene, random.Random(0), dict.fromkeys(KEYS, 1.0))
    mask = row_mask(torch.from_numpy(pack.lesson), torch.from_numpy(pack.blind)).numpy()
    assert mask.shape == (ROWS, ROW, PREFIX + ROW)
    for row in range(ROWS):
        for at in range(ROW):
            seen = np.flatnonzero(mask[row, at, PREFIX:])
            assert seen.max() == at
            assert set(pack.lesson[row, seen]) == {pack.lesson[row, at]}
            assert mask[row, at, :PREFIX].all() != pack.blind[row, at]
    for number in range(1, len(pack.keys) + 1):
        here = pack.position[pack.lesson == number]
        assert list(here) == list(range(here[0], here[0] + len(here)))
        assert here[0] in (0, PREFIX)


@settings(max_examples=25, deadline=None)
@given(scenes)
def test_lessons_ask_for_what_a_scene_supports_and_decline_the_rest(scene: Scene) -> None:
    supported = {gold.type for gold in golds(scene, random.Random(0))}
    for _, lesson in zip(range(60), lessons(scene, random.Random(1), dict.fromkeys(KEYS, 1.0)), strict=False):
        if lesson.role in ("ask", "decline"):
            assert (lesson.turns[0][1] == "none") == (lesson.role == "decline") == (lesson.type not in supported)
