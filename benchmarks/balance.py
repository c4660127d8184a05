"""The effect of balancing on a plan, where the commonest tag is a hundred times as frequent as the rarest.

Made-up images have one or two of 40 tags of the everyday taxonomy, spread evenly over it, whose frequencies fall from
100 to 1. They are planned with the everyday mapping without balancing, with types balanced, with tags balanced and with
both. Each time the entropy of the planned questions is taken over instruction types and over tags (a question counts
for each tag of its image). The limit is the entropy of an even spread over all that occur. `ratio` is the entropy
missing to that limit, over types and tags together, without balancing over with both.

    python benchmarks/balance.py [--quick]
"""

import json
import random
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from driver import is_quick
from planning import list_images, plan_all, plan_context, tag_images

from synthgen.config import taxonomy
from synthgen.config.planning import BalanceConfig
from synthgen.store import Folder, Lease, StageFolder
from synthgen.tables import PLAN

TAGS, SKEW = 40, 100.0
SETTINGS = {"none": (0.0, 0.0), "types": (0.0, 1.0), "tags": (1.0, 0.0), "both": (1.0, 1.0)}  # of tags, of types


@dataclass(frozen=True)
class Spread:
    """How evenly the questions of a plan are spread: their number by type and by tag."""

    questions: int
    images: int
    types: Mapping[str, int]
    tags: Mapping[str, int]


def main() -> None:
    """Plan the bucket four times; print a table, then one line of JSON."""
    images = 4_000 if is_quick(__doc__) else 20_000
    spreads = {name: plan_balanced(images, *strengths) for name, strengths in SETTINGS.items()}
    print(f"{images:,} images, {TAGS} tags, skew {SKEW:.0f} to 1; entropy in bits (limit: even over what occurs)")
    print(
        f"{'balance':<8} {'questions':>10} {'images':>7} {'types':>6} {'limit':>6} {'tags':>6} {'limit':>6} "
        f"{'rarest 8 tags':>14}"
    )
    for name, spread in spreads.items():
        bits = [entropy(spread.types), limit(spread.types), entropy(spread.tags), limit(spread.tags)]
        figures = " ".join(f"{value:6.2f}" for value in bits)
        print(f"{name:<8} {spread.questions:>10,} {spread.images:>7,} {figures} {rare_share(spread.tags):>14.1%}")
    record: dict[str, object] = {"benchmark": "balance", "images": images, "tags": TAGS, "skew": SKEW}
    for name, spread in spreads.items():
        record |= {f"types_{name}": round(entropy(spread.types), 3), f"tags_{name}": round(entropy(spread.tags), 3)}
    missing = {name: missing_entropy(spread) for name, spread in spreads.items()}
    print(json.dumps(record | {"ratio": round(missing["none"] / missing["both"], 2)}))


def plan_balanced(images: int, tags: float, types: float) -> Spread:
    """Plan a new bucket with balancing of these strengths."""
    context = plan_context()
    balance = BalanceConfig(tags=tags, types=types)
    context = replace(context, settings=context.settings.model_copy(update={"balance": balance}))
    leaves = taxonomy.load("everyday").tree.leaves
    names = [leaves[place * len(leaves) // TAGS] for place in range(TAGS)]
    weights = [SKEW ** (1 - place / (TAGS - 1)) for place in range(TAGS)]

    def draw_tags(rng: random.Random) -> list[str]:
        return list(dict.fromkeys(rng.choices(names, weights, k=rng.randint(1, 2))))

    with tempfile.TemporaryDirectory(prefix="synth-balance-") as folder:
        out = Folder(folder)
        with Lease.take(out) as lease:
            list_images(out, images, lease, context)
            tag_images(out, images, lease, draw_tags)
            plan_all(out, context, lease)
        return _spread(out)


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
    """Return the Shannon entropy in bits."""
    shares = np.array([count for count in counts.values() if count]) / sum(counts.values())
    return float(-(shares * np.log2(shares)).sum())


def limit(counts: Mapping[str, int]) -> float:
    """Return the entropy of an even spread over all that occur, in bits."""
    return float(np.log2(sum(count > 0 for count in counts.values())))


def missing_entropy(spread: Spread) -> float:
    """Return the bits missing to the limit, over types and tags together."""
    return limit(spread.types) - entropy(spread.types) + limit(spread.tags) - entropy(spread.tags)


def rare_share(counts: Mapping[str, int]) -> float:
    """Return the share of the rarest fifth of the tags."""
    ordered = sorted(counts.values())
    return sum(ordered[: TAGS // 5]) / sum(ordered)


if __name__ == "__main__":
    main()
