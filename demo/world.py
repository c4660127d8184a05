"""The drawn world: what a scene may hold, and how one is drawn by lot.

In: a seed and an index. Out: a frozen `Scene`, the complete scene graph of one 144 px picture (background, things in a
3x3 grid, a sign with its text, the bars of a chart), which survives a JSON round trip unchanged. Why this way: a scene is a
function of (seed, index) alone, so training, evaluation and the committed demo pictures never need to store pictures; and
because the graph says everything that is drawn, any question about the picture has one true answer.
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

# name -> character of the emoji font; plurals are regular unless PLURALS says otherwise
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
UNSEEN_BACKGROUNDS = ("sunset", "grid")  # drawn only by the shift test
WORDS = (
    "STOP", "OPEN", "EXIT", "SALE", "TAXI", "HOTEL", "CAFE", "BANK", "SHOP", "PARK", "ZOO", "BUS", "FIRE", "FOOD", "FREE",
    "GATE", "HELP", "HOME", "ICE", "JUMP", "KING", "LAKE", "LIFT", "LOVE", "MILK", "MOON", "NEWS", "NORTH", "SOUTH", "EAST",
    "WEST", "PLAY", "PIZZA", "PUSH", "PULL", "QUIET", "RAIN", "ROAD", "ROOM", "SCHOOL", "SLOW", "FAST", "SOUP", "STAR",
    "TEA", "TOILET", "TOWN", "TRAIN", "WATER", "WAIT", "WET", "WOOD", "YES", "NO", "YARD", "ZERO", "DANGER", "BREAD",
    "CITY", "GOLF", "MUSIC", "MUSEUM", "BIKE", "HAPPY",
)  # fmt: skip
NUMBERS = tuple(str(n) for n in range(100))
MOST_THINGS = 6
KINDS = ("scene", "sign", "chart", "empty")
DEMO_SEED, HELD_OUT_SEED, TRAIN_SEED = 7, 11, 1000  # every training run uses TRAIN_SEED or above


@dataclass(frozen=True)
class Thing:
    """An object or a coloured shape in one cell of the grid; (x, y) is the left top corner of its square box."""

    name: str
    colour: str | None  # shapes only: an object keeps the colours of its picture
    cell: int
    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Sign:
    """A board over one row of the grid, with a printed word or number."""

    text: str
    row: int
    x: int  # left edge of the text
    y: int  # top of the capital letters
    size: int  # type size in pixels
    ink: str  # "dark" on a light board or "light" on a dark one


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: (left, right) in pixels, its value from 1 to 9."""

    colour: str
    value: int
    left: int
    right: int


@dataclass(frozen=True)
class Scene:
    """All that is in one picture."""

    seed: int
    index: int
    kind: str
    background: str | None  # None for a chart
    things: tuple[Thing, ...] = ()  # in reading order
    sign: Sign | None = None
    bars: tuple[Bar, ...] = ()  # left to right

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Scene:
        raw = json.loads(text)
        raw["things"] = tuple(Thing(**t) for t in raw["things"])
        raw["sign"] = Sign(**raw["sign"]) if raw["sign"] else None
        raw["bars"] = tuple(Bar(**b) for b in raw["bars"])
        return cls(**raw)

    def rng(self, purpose: str) -> random.Random:
        """Randomness that belongs to this scene: the same for the same purpose, in any process."""
        return random.Random(f"{self.seed}/{self.index}/{purpose}")


def plural(noun: str) -> str:
    """Plural of a noun, whose last word carries it: `red star` -> `red stars`."""
    head, _, last = noun.rpartition(" ")
    return f"{head} {PLURALS.get(last, last + 's')}".strip()


def sample(seed: int, index: int, level: float = 1.0, kinds: dict[str, float] | None = None) -> Scene:
    """The scene of this seed and index. `level` in (0, 1] limits how many things a scene holds (the curriculum)."""
    rng = random.Random(f"{seed}/{index}")
    odds = kinds or {"scene": 0.56, "sign": 0.2, "chart": 0.2, "empty": 0.04}
    kind = rng.choices(tuple(odds), tuple(odds.values()))[0]
    if kind == "chart":
        return Scene(seed, index, kind, None, bars=_bars(rng))
    background = rng.choice(BACKGROUNDS)
    if kind == "empty":
        return Scene(seed, index, kind, background)
    if kind == "sign":
        sign = _sign(rng)
        free = [cell for cell in range(9) if cell // 3 != sign.row]
        count = rng.randint(0, max(1, round(3 * level)))
        return Scene(seed, index, kind, background, _things(rng, free, count), sign)
    count = rng.randint(1, max(1, round(MOST_THINGS * level)))
    return Scene(seed, index, kind, background, _things(rng, list(range(9)), count))


def _things(rng: random.Random, free: list[int], count: int) -> tuple[Thing, ...]:
    looks: list[tuple[str, str | None]] = []
    while len(looks) < count:
        if looks and rng.random() < 0.35:
            looks.append(rng.choice(looks))  # repeats, so that there is something to count
        elif rng.random() < 0.45:
            looks.append((rng.choice(SHAPES), _colour(rng, looks)))
        else:
            looks.append((_object(rng, looks), None))
    cells = sorted(rng.sample(free, count))
    rng.shuffle(looks)
    return tuple(_place(rng, name, colour, cell) for (name, colour), cell in zip(looks, cells, strict=True))


def _colour(rng: random.Random, looks: list[tuple[str, str | None]]) -> str:
    seen = [colour for _, colour in looks if colour]
    return rng.choice(seen) if seen and rng.random() < 0.3 else rng.choice(tuple(COLOURS))


def _object(rng: random.Random, looks: list[tuple[str, str | None]]) -> str:
    groups = [GROUP_OF[name] for name, colour in looks if colour is None]
    group = rng.choice(groups) if groups and rng.random() < 0.3 else GROUP_OF[rng.choice(OBJECTS)]
    return rng.choice(tuple(GROUPS[group]))


def _place(rng: random.Random, name: str, colour: str | None, cell: int) -> Thing:
    size = rng.randint(36, 44)
    slack = CELL - size
    x, y = cell % 3 * CELL + rng.randint(0, slack), cell // 3 * CELL + rng.randint(0, slack)
    return Thing(name, colour, cell, x, y, size)


def _sign(rng: random.Random) -> Sign:
    text = rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(NUMBERS)
    size = rng.randint(32, 38)
    width = round(0.602 * size) * len(text)  # advance of the monospaced face
    x = max(3, (SIZE - width) // 2 + rng.randint(-4, 4))
    row = rng.randrange(3)
    y = row * CELL + rng.randint(9, 13)
    return Sign(text, row, x, y, size, rng.choice(("dark", "light")))


def _bars(rng: random.Random) -> tuple[Bar, ...]:
    count = rng.randint(3, 5)
    colours = rng.sample(tuple(COLOURS), count)
    pitch, left = (120 // count, 20)
    shrink = rng.randint(2, 4)
    return tuple(
        Bar(colour, rng.randint(1, 9), left + pitch * i + shrink, left + pitch * (i + 1) - shrink)
        for i, colour in enumerate(colours)
    )


Predicate = Callable[[Thing], bool]


def matches(noun: str) -> Predicate:
    """What a noun phrase picks out: `cat`, `star`, `red star`, `animal`, `shape`, `thing`."""
    colour, _, name = noun.rpartition(" ")

    def fits(thing: Thing) -> bool:
        group = GROUP_OF.get(thing.name, "shape")
        return name in (thing.name, group, "thing") and (not colour or thing.colour == colour)

    return fits
