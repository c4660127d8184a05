"""The drawn world: scene graphs, and how one is sampled.

A scene is a function of (seed, index) alone, so training and evaluation store no pictures. The graph holds everything
that is drawn, so every question about a picture has one true answer. The order of the random draws is part of the
format: in another order the same seed gives other scenes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

SIZE = 144  # pixels a side
CELL = 48  # a scene is a grid of 3x3 cells; a ViT patch of 24 px puts 2x2 patches on a cell
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "centre", "right")
POSITIONS = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)

# group -> name -> emoji; plurals are regular unless PLURALS lists them
GROUPS: dict[str, dict[str, str]] = {
    "animal": {
        "cat": "🐱",
        "dog": "🐶",
        "pig": "🐷",
        "frog": "🐸",
        "panda": "🐼",
        "turtle": "🐢",
        "elephant": "🐘",
        "bee": "🐝",
        "penguin": "🐧",
        "crab": "🦀",
        "octopus": "🐙",
        "whale": "🐳",
    },
    "fruit": {
        "apple": "🍎",
        "banana": "🍌",
        "grape": "🍇",
        "lemon": "🍋",
        "pear": "🍐",
        "strawberry": "🍓",
        "pineapple": "🍍",
        "melon": "🍉",
    },
    "snack": {"pizza": "🍕", "burger": "🍔", "donut": "🍩", "cake": "🎂", "egg": "🍳", "cheese": "🧀", "taco": "🌮"},
    "vehicle": {
        "car": "🚗",
        "bus": "🚌",
        "bicycle": "🚲",
        "plane": "✈",
        "rocket": "🚀",
        "train": "🚂",
        "boat": "⛵",
        "helicopter": "🚁",
    },
    "tool": {"hammer": "🔨", "wrench": "🔧", "key": "🔑", "saw": "🪚", "axe": "🪓", "broom": "🧹", "magnet": "🧲"},
    "garment": {"shirt": "👕", "dress": "👗", "hat": "🎩", "shoe": "👟", "sock": "🧦", "glove": "🧤", "crown": "👑"},
    "instrument": {"guitar": "🎸", "drum": "🥁", "trumpet": "🎺", "violin": "🎻", "piano": "🎹", "bell": "🔔"},
    "plant": {"cactus": "🌵", "sunflower": "🌻", "rose": "🌹", "mushroom": "🍄", "clover": "🍀"},
    "furnishing": {"chair": "🪑", "bed": "🛏", "door": "🚪", "couch": "🛋", "bathtub": "🛁"},
    "device": {"phone": "📱", "camera": "📷", "laptop": "💻", "radio": "📻", "clock": "⏰"},
}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}
OBJECTS = tuple(GROUP_OF)
USES = {
    "fruit": "eating", "snack": "eating", "vehicle": "travelling", "tool": "working", "garment": "wearing",
    "instrument": "making music",
}  # groups without an entry have no single use  # fmt: skip
PLURALS = {
    "bus": "buses", "octopus": "octopuses", "strawberry": "strawberries", "cactus": "cactuses", "dress": "dresses",
    "couch": "couches", "box": "boxes", "cross": "crosses", "torch": "torches", "wrench": "wrenches",
}  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 36), "orange": (255, 146, 20), "yellow": (255, 232, 40), "green": (36, 170, 60),
    "blue": (34, 84, 224), "purple": (140, 48, 180), "black": (24, 24, 24), "white": (252, 252, 252),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
BACKGROUNDS = ("beach", "forest", "city", "desert", "snow", "space", "sea", "meadow")
UNSEEN_BACKGROUNDS = ("sunset", "grid")  # never in training: for the distribution-shift test of evaluate.py
WORDS = (
    "STOP", "OPEN", "EXIT", "SALE", "TAXI", "HOTEL", "CAFE", "BANK", "SHOP", "PARK", "ZOO", "BUS", "FIRE", "FOOD",
    "FREE", "GATE", "HELP", "HOME", "ICE", "JUMP", "KING", "LAKE", "LIFT", "LOVE", "MILK", "MOON", "NEWS", "NORTH",
    "SOUTH", "EAST", "WEST", "PLAY", "PIZZA", "PUSH", "PULL", "QUIET", "RAIN", "ROAD", "ROOM", "SCHOOL", "SLOW", "FAST",
    "SOUP", "STAR", "TEA", "TOILET", "TOWN", "TRAIN", "WATER", "WAIT", "WET", "WOOD", "YES", "NO", "YARD", "ZERO",
    "DANGER", "BREAD", "CITY", "GOLF", "MUSIC", "MUSEUM", "BIKE", "HAPPY",
)  # fmt: skip
NUMBERS = tuple(str(n) for n in range(100))
MAX_THINGS = 6
KINDS = ("scene", "sign", "chart", "empty")
DEMO_SEED, HELD_OUT_SEED, TRAIN_SEED = 7, 11, 1000  # every training run uses TRAIN_SEED or above


@dataclass(frozen=True)
class Thing:
    """An object or a coloured shape in one cell of the grid."""

    name: str
    colour: str | None  # None for an object, whose emoji has its own colours
    cell: int  # 0 to 8, in reading order
    x: int  # left edge of its square box, pixels
    y: int  # top edge, pixels
    size: int  # side of the box, pixels

    @property
    def group(self) -> str:
        """The group of an object; `shape` for a shape."""
        return GROUP_OF.get(self.name, "shape")

    @property
    def phrase(self) -> str:
        """The fullest name: `red star`, `cat`."""
        return f"{self.colour} {self.name}" if self.colour else self.name


@dataclass(frozen=True)
class Sign:
    """A board across one row of the grid, with a printed word or number."""

    text: str
    row: int
    x: int  # left edge of the text, pixels
    y: int  # top of the capital letters, pixels
    size: int  # type size, pixels
    ink: str  # "dark" on a light board or "light" on a dark one


@dataclass(frozen=True)
class Bar:
    """One bar of a chart."""

    colour: str
    value: int  # 1 to 9
    left: int  # pixels
    right: int  # pixels


@dataclass(frozen=True)
class Scene:
    """The scene graph of one picture: everything that is drawn."""

    seed: int
    index: int
    kind: str
    background: str | None  # None for a chart
    things: tuple[Thing, ...] = ()  # in reading order
    sign: Sign | None = None
    bars: tuple[Bar, ...] = ()  # left to right

    def to_json(self) -> str:
        """Return the scene as one line of JSON, which `from_json` reads back unchanged."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """Return the scene that `to_json` wrote."""
        raw = json.loads(text)
        raw["things"] = tuple(Thing(**t) for t in raw["things"])
        raw["sign"] = Sign(**raw["sign"]) if raw["sign"] else None
        raw["bars"] = tuple(Bar(**b) for b in raw["bars"])
        return cls(**raw)

    def rng(self, purpose: str) -> random.Random:
        """Return this scene's random generator for a purpose: the same draws in any process."""
        return random.Random(f"{self.seed}/{self.index}/{purpose}")


def plural(noun: str) -> str:
    """Return the plural of a noun phrase: `red star` -> `red stars`."""
    head, _, last = noun.rpartition(" ")
    return f"{head} {PLURALS.get(last, last + 's')}".strip()


def sample(seed: int, index: int, level: float = 1.0, kinds: dict[str, float] | None = None) -> Scene:
    """Return the scene of a seed and an index.

    Args:
        seed: Names a series of scenes; see `DEMO_SEED` and its neighbours.
        index: Number of the scene in the series.
        level: In (0, 1]; scales the largest number of things, for a curriculum.
        kinds: Weight of each kind of scene; the default is that of the demo and of evaluation.
    """
    rng = random.Random(f"{seed}/{index}")
    odds = kinds or {"scene": 0.56, "sign": 0.2, "chart": 0.2, "empty": 0.04}
    kind = rng.choices(tuple(odds), tuple(odds.values()))[0]
    if kind == "chart":
        return Scene(seed, index, kind, None, bars=_sample_bars(rng))
    background = rng.choice(BACKGROUNDS)
    if kind == "empty":
        return Scene(seed, index, kind, background)
    if kind == "sign":
        sign = _sample_sign(rng)
        free = [cell for cell in range(9) if cell // 3 != sign.row]
        count = rng.randint(0, max(1, round(3 * level)))
        return Scene(seed, index, kind, background, _sample_things(rng, free, count), sign)
    count = rng.randint(1, max(1, round(MAX_THINGS * level)))
    return Scene(seed, index, kind, background, _sample_things(rng, list(range(9)), count))


def _sample_things(rng: random.Random, free: list[int], count: int) -> tuple[Thing, ...]:
    """Sample things, each in a different free cell."""
    looks: list[tuple[str, str | None]] = []  # (name, colour)
    while len(looks) < count:
        if looks and rng.random() < 0.35:
            looks.append(rng.choice(looks))  # repeats, so that there is something to count
        elif rng.random() < 0.45:
            looks.append((rng.choice(SHAPES), _sample_colour(rng, looks)))
        else:
            looks.append((_sample_object(rng, looks), None))
    cells = sorted(rng.sample(free, count))
    rng.shuffle(looks)
    return tuple(_place_thing(rng, name, colour, cell) for (name, colour), cell in zip(looks, cells, strict=True))


def _sample_colour(rng: random.Random, looks: list[tuple[str, str | None]]) -> str:
    used = [colour for _, colour in looks if colour]
    return rng.choice(used) if used and rng.random() < 0.3 else rng.choice(tuple(COLOURS))


def _sample_object(rng: random.Random, looks: list[tuple[str, str | None]]) -> str:
    groups = [GROUP_OF[name] for name, colour in looks if colour is None]
    group = rng.choice(groups) if groups and rng.random() < 0.3 else GROUP_OF[rng.choice(OBJECTS)]
    return rng.choice(tuple(GROUPS[group]))


def _place_thing(rng: random.Random, name: str, colour: str | None, cell: int) -> Thing:
    size = rng.randint(36, 44)
    slack = CELL - size
    x, y = cell % 3 * CELL + rng.randint(0, slack), cell // 3 * CELL + rng.randint(0, slack)
    return Thing(name, colour, cell, x, y, size)


def _sample_sign(rng: random.Random) -> Sign:
    text = rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(NUMBERS)
    size = rng.randint(32, 38)
    width = round(0.602 * size) * len(text)  # advance of the monospaced font
    x = max(3, (SIZE - width) // 2 + rng.randint(-4, 4))
    row = rng.randrange(3)
    y = row * CELL + rng.randint(9, 13)
    return Sign(text, row, x, y, size, rng.choice(("dark", "light")))


def _sample_bars(rng: random.Random) -> tuple[Bar, ...]:
    count = rng.randint(3, 5)
    colours = rng.sample(tuple(COLOURS), count)
    pitch, left = 120 // count, 20
    shrink = rng.randint(2, 4)
    return tuple(
        Bar(colour, rng.randint(1, 9), left + pitch * i + shrink, left + pitch * (i + 1) - shrink)
        for i, colour in enumerate(colours)
    )


Predicate = Callable[[Thing], bool]


def matches(noun: str) -> Predicate:
    """Return the predicate of a noun phrase such as `cat`, `red star`, `animal`, `shape` or `thing`."""
    colour, _, name = noun.rpartition(" ")

    def is_named(thing: Thing) -> bool:
        return name in (thing.name, thing.group, "thing") and (not colour or thing.colour == colour)

    return is_named
