"""The caption of a scene, which names everything in it, and near-miss wrong captions that differ in one detail."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from demo.question_templates import with_article
from demo.world import BACKGROUNDS, COLOURS, GROUPS, NUMBERS, WORDS, Scene, plural


def caption(scene: Scene) -> str:
    """Return one sentence that names everything in the picture."""
    if scene.bars:
        values = _enumerate([f"{bar.colour} {bar.value}" for bar in scene.bars])
        return f"A chart with {len(scene.bars)} bars: {values}."
    counts = Counter(thing.phrase for thing in scene.things)
    things = _enumerate([with_article(noun) if n == 1 else f"{n} {plural(noun)}" for noun, n in counts.items()])
    place = f"The {scene.background}"
    if scene.sign:
        place += f" with the sign {scene.sign.text}"
        return f"{place} and {things}." if things else f"{place}."
    return f"{place} with {things}." if things else f"{place} without things."


def wrong_captions(scene: Scene) -> tuple[str, ...]:
    """Return captions that are wrong in one detail."""
    captions = dict.fromkeys(caption(variant) for variant in _variants(scene))
    return tuple(text for text in captions if text != caption(scene))


def _enumerate(parts: list[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1] if parts else "")))


def _variants(scene: Scene) -> Iterator[Scene]:
    """Yield scenes that differ from this one in a detail."""
    rng = scene.rng("neighbours")  # part of the seed: another word gives other captions
    if scene.bars:
        at = rng.randrange(len(scene.bars))
        bar = scene.bars[at]
        changed = replace(bar, value=bar.value + 1 if bar.value < 9 else 8)
        yield replace(scene, bars=(*scene.bars[:at], changed, *scene.bars[at + 1 :]))
        return
    if scene.things:
        at = rng.randrange(len(scene.things))
        thing = scene.things[at]
        pool = tuple(COLOURS) if thing.colour else tuple(GROUPS[thing.group])
        new = _another(pool, thing.colour or thing.name, rng)
        changed_thing = replace(thing, colour=new) if thing.colour else replace(thing, name=new)
        yield replace(scene, things=(*scene.things[:at], changed_thing, *scene.things[at + 1 :]))
        yield replace(scene, things=(*scene.things, replace(thing, cell=-1)))  # one too many
    if scene.sign:
        pool = WORDS if scene.sign.text in WORDS else NUMBERS
        yield replace(scene, sign=replace(scene.sign, text=_another(pool, scene.sign.text, rng)))
    yield replace(scene, background=_another(BACKGROUNDS, str(scene.background), rng))


def _another(pool: tuple[str, ...], right: str, rng: random.Random) -> str:
    rest = [word for word in pool if word != right]
    return rng.sample(rest, min(3, len(rest)))[0]  # the first of three: to draw one would change all that follows
