"""What balancing does to a plan over a bucket in which the commonest tag is a hundred times as frequent as the rarest.

    python benchmarks/balance.py [--quick]

Images of a made-up bucket have one or two of 40 tags of the everyday taxonomy, taken evenly from all of it, whose frequencies
fall from 100 to 1. They are planned with the everyday mapping without balancing, with types balanced, with tags balanced and
with both; each time the entropy of the planned questions is taken over instruction types and over tags (a question counts for
each tag of its image). The limit is the entropy of an even spread over those that occur. `ratio` is the entropy that is
missing to that limit, over types and tags together, without balancing over with both.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from planning import listed, plan_all, tag_all, terms_of

from synthgen.config import taxonomy
from synthgen.config.pipeline import BalanceConfig
from synthgen.store import Folder, Lease, StageFolder
from synthgen.tables import PLAN

TAGS, SKEW = 40, 100.0
SETTINGS = {"none": (0.0, 0.0), "types": (0.0, 1.0), "tags": (1.0, 0.0), "both": (1.0, 1.0)}  # of tags, of types


@dataclass(frozen=True)
class Spread:
    """How evenly the questions of a plan are spread."""

    questions: int
    images: int
    types: Mapping[str, int]
    tags: Mapping[str, int]


def main() -> None:
    """Plans the bucket four times; prints a table, then one line of JSON."""
    images = 4_000 if "--quick" in sys.argv else 20_000
    found = {name: planned(images, *strengths) for name, strengths in SETTINGS.items()}
    print(f"{images:,} images, {TAGS} tags, skew {SKEW:.0f} to 1; entropy in bits (limit: even over what occurs)")
    print(
        f"{'balance':<8} {'questions':>10} {'images':>7} {'types':>6} {'limit':>6} {'tags':>6} {'limit':>6} {'rarest 8 tags':>14}"
    )
    for name, one in found.items():
        bits = [entropy(one.types), limit(one.types), entropy(one.tags), limit(one.tags)]
        figures = " ".join(f"{value:6.2f}" for value in bits)
        print(f"{name:<8} {one.questions:>10,} {one.images:>7,} {figures} {rare_share(one.tags):>14.1%}")
    record: dict[str, object] = {"benchmark": "balance", "images": images, "tags": TAGS, "skew": SKEW}
    for name, one in found.items():
        record |= {f"types_{name}": round(entropy(one.types), 3), f"tags_{name}": round(entropy(one.tags), 3)}
    missing = {
        name: limit(one.types) - entropy(one.types) + limit(one.tags) - entropy(one.tags) for name, one in found.items()
    }
    print(json.dumps(record | {"ratio": round(missing["none"] / missing["both"], 2)}))


def planned(images: int, tags: float, types: float) -> Spread:
    """A plan with balancing of these strengths."""
    terms = terms_of()
    terms = replace(
        terms, settings=terms.settings.model_copy(update={"balance": BalanceConfig(tags=tags, types=types)})
    )
    leaves = taxonomy.load("everyday").tree.leaves
    names = [leaves[place * len(leaves) // TAGS] for place in range(TAGS)]
    weights = [SKEW ** (1 - place / (TAGS - 1)) for place in range(TAGS)]
    with tempfile.TemporaryDirectory(prefix="synth-balance-") as folder:
        out = Folder(folder)
        with Lease.take(out) as lease:
            listed(out, images, lease, terms)
            tag_all(out, images, lease, lambda draw: _some(draw, names, weights))
            plan_all(out, terms, lease)
        return _spread(out)


def _some(draw: random.Random, names: list[str], weights: list[float]) -> list[str]:
    return list(dict.fromkeys(draw.choices(names, weights, k=draw.randint(1, 2))))


def _spread(out: Folder) -> Spread:
    stage = StageFolder(out, PLAN)
    log, types, tags, images, questions = stage.log(), Counter[str](), Counter[str](), 0, 0
    for partition in log.partitions:
        rows = stage.current(log, partition, "assignments")
        asked = Counter(rows.column("object_id").to_pylist())
        types.update(rows.column("type").to_pylist())
        for row in stage.current(log, partition, "images").select(["object_id", "tags"]).to_pylist():
            count = asked[row["object_id"]]
            tags.update({tag["path"]: count for tag in row["tags"]})
            images, questions = images + (count > 0), questions + count
    return Spread(questions, images, types, tags)


def entropy(counts: Mapping[str, int]) -> float:
    """Shannon entropy in bits."""
    shares = np.array([count for count in counts.values() if count]) / sum(counts.values())
    return float(-(shares * np.log2(shares)).sum())


def limit(counts: Mapping[str, int]) -> float:
    """The entropy of an even spread over what occurs."""
    return float(np.log2(sum(count > 0 for count in counts.values())))


def rare_share(counts: Mapping[str, int]) -> float:
    """What falls to the rarest fifth of the tags."""
    ordered = sorted(counts.values())
    return sum(ordered[: TAGS // 5]) / sum(ordered)


if __name__ == "__main__":
    main()
