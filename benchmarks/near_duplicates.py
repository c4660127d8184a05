"""Near-duplicate texts: ours beside datasketch used plainly, and beside rensa where it is installed, on the same texts.

Texts are made-up questions of 6 to 14 words, a tenth of them another question with one word changed. Each tool goes from the
texts to a list of which to keep, first come, at a Jaccard similarity of 0.8 over runs of four characters; each in a fresh
process, so that the peak memory is its own (above what the texts and the libraries take). What a tool kept is then judged
by exact similarities: `recall` is the share, of texts near to an earlier text that the tool kept, that it dropped; `wrong`
are texts that it dropped though no earlier text is near. Last, a million perceptual hashes at 4 bits.

    python benchmarks/near_duplicates.py [--quick]
"""

import importlib
import importlib.util
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.dedup import near_images, near_texts, plain_texts

THRESHOLD = 0.8
SHINGLE = 4
JUDGED = 2_000  # texts compared exactly with all earlier ones
VOCABULARY = (
    "what which where how many is are the a of in on at to behind between beside under red blue green yellow white black large small "
    "old wooden car bus dog cat horse man woman child tree house window door table chair bottle cup sign number word street river "
    "bridge mountain left right top bottom front back holding wearing standing reading written painted parked visible likely why"
)
WORDS = VOCABULARY.split()

Kept = npt.NDArray[np.bool_]


def texts(count: int) -> list[str]:
    """Questions; a tenth of them is an earlier one with a word changed."""
    draw, made = random.Random(0), list[str]()
    for _ in range(count):
        if made and draw.random() < 0.1:
            words = draw.choice(made).rstrip("?").split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        else:
            words = draw.choices(WORDS, k=draw.randint(6, 14))
        made.append(" ".join(words) + "?")
    return made


def ours(some: list[str]) -> Kept:
    """synthgen.dedup, the whole list in one call."""
    kept: Kept = near_texts(plain_texts(some), None, THRESHOLD) == np.arange(len(some))
    return kept


def plain_datasketch(some: list[str]) -> Kept:
    """A MinHash a text, looked up in an LSH index and added if nothing was found."""
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=128), np.zeros(len(some), bool)
    for number, text in enumerate(plain_texts(some).to_pylist()):
        signature = MinHash(num_perm=128)
        signature.update_batch([token.encode() for token in tokens(text)])
        if not index.query(signature):
            index.insert(number, signature)
            kept[number] = True
    return kept


def rensa(some: list[str]) -> Kept:
    """rensa's deduplicator, fed with a thousand token sets at a time."""
    found, kept = importlib.import_module("rensa").RMinHashDeduplicator(THRESHOLD, 128, True), []
    plain = plain_texts(some).to_pylist()
    for start in range(0, len(plain), 1000):
        kept += found.add_pairs(
            [(str(start + number), list(tokens(text))) for number, text in enumerate(plain[start : start + 1000])]
        )
    return np.array(kept)


def tokens(text: str) -> set[str]:
    """The shingles that ours uses too."""
    padded = f" {text} ".ljust(SHINGLE)
    return {padded[start : start + SHINGLE] for start in range(len(padded) - SHINGLE + 1)}


TOOLS: dict[str, Callable[[list[str]], Kept]] = {"ours": ours, "datasketch": plain_datasketch, "rensa": rensa}


def main() -> None:
    if "--tool" in sys.argv:
        print(json.dumps(measured(sys.argv[-2], int(sys.argv[-1]))))
        return
    count = 20_000 if "--quick" in sys.argv else 100_000
    names = [name for name in TOOLS if name != "rensa" or importlib.util.find_spec("rensa")]
    found = {name: _in_own_process(name, count) for name in names}
    print(f"{count:,} texts\n{'':>11} {'texts/s':>9} {'per CPU s':>9} {'peak MB':>8} {'recall':>7} {'wrong':>6}")
    for name, one in found.items():
        speed = f"{one['texts_per_second']:>9,.0f} {one['texts_per_cpu_second']:>9,.0f}"
        print(f"{name:>11} {speed} {one['peak_mb']:>8.0f} {one['recall']:>7.4f} {one['wrong']:>6}")
    seconds = _a_million_hashes()
    print(f"a million perceptual hashes within 4 bits: {seconds:.1f} s")
    mine = found["ours"]
    ratios = {
        f"ratio_vs_{name}": round(mine["texts_per_second"] / found[name]["texts_per_second"], 2) for name in names[1:]
    }
    # Other processes disturb the seconds of one tool and not of the next; processor time, of all threads, they disturb less.
    ratios |= {
        f"cpu_ratio_vs_{name}": round(mine["texts_per_cpu_second"] / found[name]["texts_per_cpu_second"], 2)
        for name in names[1:]
    }
    result = {**ratios, **{key: round(mine[key], 4) for key in ("recall", "peak_mb", "texts_per_second")}}
    print(
        json.dumps(
            {"benchmark": "near_duplicates", "texts": count, **result, "million_hashes_seconds": round(seconds, 1)}
        )
    )


def measured(name: str, count: int) -> dict[str, Any]:
    """One tool on the texts; a small run first, so that imports are not timed."""
    some, tool = texts(count), TOOLS[name]
    tool(some[:100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    kept = tool(some)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "texts_per_second": count / seconds,
        "texts_per_cpu_second": count / cpu,
        "peak_mb": peak,
        **judged(some, kept),
    }


def judged(some: list[str], kept: Kept) -> dict[str, float]:
    """Recall and wrong drops, over some of the texts, by exact similarity with all texts before them."""
    sets = [tokens(text) for text in plain_texts(some).to_pylist()]
    sizes = np.array([len(one) for one in sets])
    holders: dict[str, list[int]] = {}
    for number, one in enumerate(sets):
        for token in one:
            holders.setdefault(token, []).append(number)
    where = {token: np.array(numbers) for token, numbers in holders.items()}
    right = missed = wrong = 0
    for number in sorted(random.Random(1).sample(range(len(some)), min(JUDGED, len(some)))):
        shared = np.bincount(np.concatenate([where[token] for token in sets[number]]), minlength=len(some))[:number]
        near = shared >= THRESHOLD * (sizes[:number] + sizes[number] - shared) - 1e-9
        right += bool(not kept[number] and near.any())
        missed += bool(kept[number] and (near & kept[:number]).any())
        wrong += bool(not kept[number] and not near.any())
    return {"recall": right / max(1, right + missed), "wrong": wrong}


def _a_million_hashes() -> float:
    """Seconds for a million hashes spread evenly, a tenth of them a bit away from another."""
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 1 << 64, 1_000_000, dtype=np.uint64)
    some = draw.integers(0, len(hashes), len(hashes) // 10)
    hashes[draw.integers(0, len(hashes), len(some))] = hashes[some] ^ (
        np.uint64(1) << draw.integers(0, 64, len(some), dtype=np.uint64)
    )
    start = time.perf_counter()
    near_images(hashes, 4)
    return time.perf_counter() - start


def _in_own_process(name: str, count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--tool", name, str(count)], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
