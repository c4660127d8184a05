"""Near-duplicate texts: ours beside datasketch used plainly, and beside rensa where it is installed, on the same texts.

The texts are made-up questions of 6 to 14 words, a tenth of them another question with one word changed. Each tool goes
from the texts to a list of which to keep, first come, at a Jaccard similarity of 0.8 over runs of four characters; each
in a fresh process, so that its peak memory is not another's (above that of the texts and the libraries). The result is
judged by exact similarities: `recall` is the share of texts near to an earlier kept text that the tool dropped; `wrong`
counts dropped texts that are near to no earlier one. Last, a million perceptual hashes at 4 bits.

    python benchmarks/near_duplicates.py [--quick]
"""

import importlib
import importlib.util
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from driver import in_fresh_process, is_quick

from synthgen.dedup import near_images, near_texts, plain_texts

THRESHOLD = 0.8
SHINGLE = 4
JUDGED = 2_000  # texts compared exactly with all earlier ones
VOCABULARY = (
    "what which where how many is are the a of in on at to behind between beside under red blue green yellow white "
    "black large small old wooden car bus dog cat horse man woman child tree house window door table chair bottle cup "
    "sign number word street river bridge mountain left right top bottom front back holding wearing standing reading "
    "written painted parked visible likely why"
)
WORDS = VOCABULARY.split()

Kept = npt.NDArray[np.bool_]


def make_texts(count: int) -> list[str]:
    """Return questions; a tenth of them are an earlier one with a word changed."""
    rng, texts = random.Random(0), list[str]()
    for _ in range(count):
        if texts and rng.random() < 0.1:
            words = rng.choice(texts).rstrip("?").split()
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=rng.randint(6, 14))
        texts.append(" ".join(words) + "?")
    return texts


def keep_by_ours(texts: list[str]) -> Kept:
    """Decide with synthgen.dedup, the whole list in one call."""
    kept: Kept = near_texts(plain_texts(texts), None, THRESHOLD) == np.arange(len(texts))
    return kept


def keep_by_datasketch(texts: list[str]) -> Kept:
    """Decide with a MinHash a text, looked up in an LSH index and added if there is no match."""
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=128), np.zeros(len(texts), bool)
    for number, text in enumerate(plain_texts(texts).to_pylist()):
        signature = MinHash(num_perm=128)
        signature.update_batch([token.encode() for token in tokens(text)])
        if not index.query(signature):
            index.insert(number, signature)
            kept[number] = True
    return kept


def keep_by_rensa(texts: list[str]) -> Kept:
    """Decide with rensa's deduplicator, a thousand token sets at a time."""
    index, kept = importlib.import_module("rensa").RMinHashDeduplicator(THRESHOLD, 128, True), []
    plain = plain_texts(texts).to_pylist()
    for start in range(0, len(plain), 1000):
        batch = enumerate(plain[start : start + 1000], start)
        kept += index.add_pairs([(str(number), list(tokens(text))) for number, text in batch])
    return np.array(kept)


def tokens(text: str) -> set[str]:
    """Return the shingles of a text, the same as ours takes."""
    padded = f" {text} ".ljust(SHINGLE)
    return {padded[start : start + SHINGLE] for start in range(len(padded) - SHINGLE + 1)}


TOOLS: dict[str, Callable[[list[str]], Kept]] = {
    "ours": keep_by_ours,
    "datasketch": keep_by_datasketch,
    "rensa": keep_by_rensa,
}


def main() -> None:
    """Measure each tool in a fresh process; print a table, then one line of JSON."""
    if "--tool" in sys.argv:
        print(json.dumps(measure(sys.argv[-2], int(sys.argv[-1]))))
        return
    count = 20_000 if is_quick(__doc__) else 100_000
    names = [name for name in TOOLS if name != "rensa" or importlib.util.find_spec("rensa")]
    costs = {name: in_fresh_process(__file__, "--tool", name, count) for name in names}
    print(f"{count:,} texts\n{'':>11} {'texts/s':>9} {'per CPU s':>9} {'peak MB':>8} {'recall':>7} {'wrong':>6}")
    for name, cost in costs.items():
        speed = f"{cost['texts_per_second']:>9,.0f} {cost['texts_per_cpu_second']:>9,.0f}"
        print(f"{name:>11} {speed} {cost['peak_mb']:>8.0f} {cost['recall']:>7.4f} {cost['wrong']:>6}")
    seconds = _time_a_million_hashes()
    print(f"a million perceptual hashes within 4 bits: {seconds:.1f} s")
    ours = costs["ours"]
    # Other processes disturb the seconds of one tool and not of the next; core seconds they disturb less.
    speeds = {"ratio_vs": "texts_per_second", "cpu_ratio_vs": "texts_per_cpu_second"}
    ratios = {
        f"{label}_{name}": round(ours[speed] / costs[name][speed], 2)
        for label, speed in speeds.items()
        for name in names[1:]
    }
    figures = {key: round(ours[key], 4) for key in ("recall", "peak_mb", "texts_per_second")}
    record = {"benchmark": "near_duplicates", "texts": count, **ratios, **figures}
    print(json.dumps({**record, "million_hashes_seconds": round(seconds, 1)}))


def measure(name: str, count: int) -> dict[str, Any]:
    """Run one tool on the texts and judge it; a small run first, so that imports are not timed."""
    texts, tool = make_texts(count), TOOLS[name]
    tool(texts[:100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    kept = tool(texts)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "texts_per_second": count / seconds,
        "texts_per_cpu_second": count / cpu,
        "peak_mb": peak,
        **judge(texts, kept),
    }


def judge(texts: list[str], kept: Kept) -> dict[str, float]:
    """Return recall and wrong drops over some of the texts, by their exact similarity with all texts before them.

    Args:
        texts: All texts.
        kept: Which of them the tool kept, (texts,) bool.
    """
    sets = [tokens(text) for text in plain_texts(texts).to_pylist()]
    sizes = np.array([len(shingles) for shingles in sets])  # (texts,)
    holders: dict[str, list[int]] = {}
    for number, shingles in enumerate(sets):
        for token in shingles:
            holders.setdefault(token, []).append(number)
    texts_with = {token: np.array(numbers) for token, numbers in holders.items()}
    right = missed = wrong = 0
    for number in sorted(random.Random(1).sample(range(len(texts)), min(JUDGED, len(texts)))):
        numbers = np.concatenate([texts_with[token] for token in sets[number]])
        shared = np.bincount(numbers, minlength=len(texts))[:number]  # (number,) shingles in common
        is_near = shared >= THRESHOLD * (sizes[:number] + sizes[number] - shared) - 1e-9  # (number,)
        right += bool(not kept[number] and is_near.any())
        missed += bool(kept[number] and (is_near & kept[:number]).any())
        wrong += bool(not kept[number] and not is_near.any())
    return {"recall": right / max(1, right + missed), "wrong": wrong}


def _time_a_million_hashes() -> float:
    """Return the seconds for a million hashes spread evenly, a tenth of them a bit away from another."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 64, 1_000_000, dtype=np.uint64)  # (hashes,)
    originals = rng.integers(0, len(hashes), len(hashes) // 10)  # (copies,)
    bits = np.uint64(1) << rng.integers(0, 64, len(originals), dtype=np.uint64)  # (copies,)
    copies = rng.integers(0, len(hashes), len(originals))  # (copies,)
    hashes[copies] = hashes[originals] ^ bits
    start = time.perf_counter()
    near_images(hashes, 4)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
