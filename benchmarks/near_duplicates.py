"""Near-duplicate texts over a whole set: ours beside datasketch used plainly and rensa, on the same texts.

The texts are made-up questions of 6 to 14 words, a tenth of them another question with one word changed. Each tool gets
them in batches from a file and says which to keep, first come, at a Jaccard similarity of 0.8 over runs of four
characters; each in a fresh process, so that its peak memory is not another's (above that of the libraries). Of some
texts the exact similarity to all texts before them is counted: `recall` is the share of those near to an earlier kept
text that the tool dropped, `precision` the share of its drops that are near to an earlier text. rensa comes three
times: as documented; with the threshold lowered to 0.65, since its estimate misses half of the pairs near the threshold
otherwise; and its fastest way, which takes the shingles that ours makes and flags both texts of a pair, unverified.
`growth` is our core seconds for all texts over those for a tenth. Last, a million perceptual hashes at 4 bits.

    python benchmarks/near_duplicates.py [--quick | --largest]

`--largest` adds ten million texts, for ours alone and unjudged: core seconds and memory. rensa is in the extra `bench`:
pip install rensa.
"""

import argparse
import importlib
import importlib.util
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from driver import in_fresh_process

from synthgen.dedup import near_images, plain_texts
from synthgen.dedup.shingles import SHINGLE, shingles
from synthgen.dedup.text_set import TextSet

THRESHOLD, LOWERED = 0.8, 0.65
JUDGED = 1_000  # texts compared exactly with all earlier ones
BATCH = 10_000
MANY = 200_000  # texts, from which on the two slowest are left out
VOCABULARY = (
    "what which where how many is are the a of in on at to behind between beside under red blue green yellow white "
    "black large small old wooden car bus dog cat horse man woman child tree house window door table chair bottle cup "
    "sign number word street river bridge mountain left right top bottom front back holding wearing standing reading "
    "written painted parked visible likely why"
)
WORDS = VOCABULARY.split()

Kept = npt.NDArray[np.bool_]
Batches = Iterator[pa.LargeStringArray]


def make_texts(count: int) -> Iterator[str]:
    """Yield questions; a tenth of them are an earlier one with a word changed."""
    rng, recent = random.Random(0), list[list[str]]()
    for _ in range(count):
        if recent and rng.random() < 0.1:
            words = list(rng.choice(recent))
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=rng.randint(6, 14))
        if len(recent) < MANY:
            recent.append(words)
        else:
            recent[rng.randrange(MANY)] = words
        yield " ".join(words) + "?"


def keep_by_ours(batches: Batches) -> Kept:
    """Decide with synthgen.dedup, the texts on local disk."""
    with tempfile.TemporaryDirectory() as folder:
        texts = TextSet(Path(folder) / "texts", THRESHOLD)
        for batch in batches:
            texts.add(batch)
        kept: Kept = texts.representatives(np.arange(len(texts))) == np.arange(len(texts))
        return kept


def keep_by_datasketch(batches: Batches) -> Kept:
    """Decide with a MinHash a text, looked up in an LSH index and added if there is no match."""
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=128), list[bool]()
    for batch in batches:
        for text in batch.to_pylist():
            signature = MinHash(num_perm=128)
            signature.update_batch([token.encode() for token in tokens(text)])
            kept.append(not index.query(signature))
            if kept[-1]:
                index.insert(len(kept), signature)
    return np.array(kept)


def keep_by_rensa(batches: Batches, threshold: float = THRESHOLD) -> Kept:
    """Decide with rensa's deduplicator, a thousand token sets at a time."""
    index, kept = _rensa().RMinHashDeduplicator(threshold, 128, True), list[bool]()
    for batch in batches:
        texts = batch.to_pylist()
        for start in range(0, len(texts), 1000):
            numbered = enumerate(texts[start : start + 1000], len(kept))
            kept += index.add_pairs([(str(number), list(tokens(text))) for number, text in numbered])
    return np.array(kept)


def keep_by_rensa_lowered(batches: Batches) -> Kept:
    """Decide with rensa's deduplicator at a threshold that reaches our recall."""
    return keep_by_rensa(batches, LOWERED)


def keep_by_rensa_flags(batches: Batches) -> Kept:
    """Decide with rensa's matrix of signatures, made of our shingles; both texts of a pair are flagged."""
    rensa = _rensa()
    index, kept = rensa.RMinHashLSH(THRESHOLD, 128, 16), list[bool]()
    for batch in batches:
        sets = [shingles(batch[start : start + 2048].to_pylist()) for start in range(0, len(batch), 2048)]
        for made in sets:
            arguments = made.hashes, made.starts.astype(np.uint64), 128, 42
            matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(*arguments)
            kept += [not flag for flag in index.insert_matrix_and_query_duplicate_flags(matrix, len(kept))]
    return np.array(kept)


def tokens(text: str) -> set[str]:
    """Return the shingles of a text, the same as ours takes."""
    padded = f" {text} ".ljust(SHINGLE)
    return {padded[start : start + SHINGLE] for start in range(len(padded) - SHINGLE + 1)}


def _rensa() -> Any:
    return importlib.import_module("rensa")


TOOLS: dict[str, Callable[[Batches], Kept]] = {
    "ours": keep_by_ours,
    "datasketch": keep_by_datasketch,
    "rensa": keep_by_rensa,
    "rensa_equal_recall": keep_by_rensa_lowered,
    "rensa_flags": keep_by_rensa_flags,
}


def main() -> None:
    """Measure each tool in a fresh process; print a table, then one line of JSON."""
    if "--tool" in sys.argv:
        print(json.dumps(measure(sys.argv[-2], Path(sys.argv[-1]))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20,000 texts")
    parser.add_argument("--largest", action="store_true", help="ten million texts too, for ours")
    options = parser.parse_args()
    sizes = [2_000, 20_000] if options.quick else [100_000, 1_000_000]
    has_rensa = importlib.util.find_spec("rensa") is not None
    if not has_rensa:
        print("rensa is not installed, and left out; get it with: pip install rensa")
    print(f"{'texts':>10} {'':>18} {'texts/s':>9} {'per CPU s':>9} {'peak MB':>8} {'recall':>7} {'precision':>9}")
    names = [name for name in TOOLS if has_rensa or not name.startswith("rensa")]
    costs = {size: run_tools(size, [name for name in names if is_run(name, size)]) for size in sizes}
    largest = run_tools(10_000_000, ["ours"])["ours"] if options.largest else {}
    seconds = _time_a_million_hashes()
    print(f"a million perceptual hashes within 4 bits: {seconds:.1f} s")
    print(json.dumps(record_of(costs, largest) | {"million_hashes_seconds": round(seconds, 1)}))


def is_run(name: str, size: int) -> bool:
    """Return whether a tool is run on so many texts; of a million, either of two would take a quarter of an hour."""
    return name not in ("datasketch", "rensa_equal_recall") or size <= MANY


def record_of(costs: dict[int, dict[str, dict[str, Any]]], largest: dict[str, Any]) -> dict[str, Any]:
    """Return the line of JSON; ratios are at the largest size that the other tool ran on."""
    most, ours = max(costs), costs[max(costs)]["ours"]
    record = {"benchmark": "near_duplicates", "texts": most}
    # Other processes disturb the seconds of one tool and not of the next; core seconds they disturb less.
    for label, speed in (("ratio", "texts_per_second"), ("cpu_ratio", "texts_per_cpu_second")):
        for size, tools in costs.items():
            record |= {
                f"{label}_vs_{name}": round(tools["ours"][speed] / tools[name][speed], 2)
                for name in tools
                if name != "ours" and size == max(other for other in costs if name in costs[other])
            }
    small = costs[min(costs)]["ours"]
    growth = small["texts_per_cpu_second"] / ours["texts_per_cpu_second"] * 10
    figures = {key: round(ours[key], 4) for key in ("recall", "precision", "peak_mb", "texts_per_second")}
    of_largest = {f"largest_{key}": round(value) for key, value in largest.items() if "p" in key and value}
    return {**record, **figures, "growth": round(growth, 2), **of_largest}


def run_tools(size: int, names: list[str]) -> dict[str, dict[str, Any]]:
    """Run tools on so many texts, each in a fresh process, and print a line for each."""
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.parquet"
        write_texts(path, size)
        for name in names:
            cost = in_fresh_process(__file__, "--tool", name, path)
            speed = f"{cost['texts_per_second']:>9,.0f} {cost['texts_per_cpu_second']:>9,.0f}"
            judged = f"{cost.get('recall', np.nan):>7.4f} {cost.get('precision', np.nan):>9.4f}"
            print(f"{size:>10,} {name:>18} {speed} {cost['peak_mb']:>8.0f} {judged}", flush=True)
            costs[name] = cost
    return costs


def write_texts(path: Path, count: int) -> None:
    """Write made texts as Parquet, with row groups of BATCH texts."""
    texts, schema = make_texts(count), pa.schema([("text", pa.large_string())])
    with pq.ParquetWriter(path, schema) as writer:
        while batch := [text for _, text in zip(range(BATCH), texts, strict=False)]:
            writer.write_table(pa.table({"text": pa.array(batch, pa.large_string())}, schema))


def read_texts(path: Path, most: int | None = None) -> Batches:
    """Yield the texts of a file in their plain form, at most so many batches."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for number in range(file.num_row_groups if most is None else most):
            column = file.read_row_group(number, use_threads=False).column("text")
            yield plain_texts(column)


def measure(name: str, path: Path) -> dict[str, Any]:
    """Run one tool on the texts of a file and judge it; a small run first, so that imports are not timed."""
    tool = TOOLS[name]
    tool(batch.slice(0, 100) for batch in read_texts(path, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    kept = tool(read_texts(path))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    cost = {
        "texts_per_second": len(kept) / seconds,
        "texts_per_cpu_second": len(kept) / cpu,
        "cpu_seconds": cpu,
        "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }
    return cost | (judge(path, kept) if len(kept) <= 1_000_000 else {})


def judge(path: Path, kept: Kept) -> dict[str, float]:
    """Return recall and precision over some of the texts, by their exact similarity with all texts before them."""
    parts = [shingles(batch.to_pylist()) for batch in read_texts(path)]
    hashes = np.concatenate([part.hashes for part in parts])
    sizes = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ids = np.unique(hashes, return_inverse=True)[1].astype(np.uint32)
    owners = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)[np.argsort(ids, kind="stable")]
    begin = np.concatenate([[0], np.cumsum(np.bincount(ids))])  # of the texts that have each shingle
    right = missed = wrong = 0
    for number in sorted(random.Random(1).sample(range(1, len(kept)), min(JUDGED, len(kept) - 1))):
        with_one = [owners[begin[one] : begin[one + 1]] for one in ids[starts[number] : starts[number + 1]]]
        shared = np.bincount(np.concatenate(with_one), minlength=number)[:number]  # (earlier texts,)
        is_near = shared >= THRESHOLD * (sizes[:number] + sizes[number] - shared) - 1e-9
        right += bool(not kept[number] and is_near.any())
        missed += bool(kept[number] and (is_near & kept[:number]).any())
        wrong += bool(not kept[number] and not is_near.any())
    return {"recall": right / max(1, right + missed), "precision": right / max(1, right + wrong)}


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
