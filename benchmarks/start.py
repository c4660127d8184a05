"""The time of `synth --help`, beside a Python that does nothing.

Both are started again and again, in turn, so that both meet the same load; the medians are compared. `ours` and `bare`
are seconds. Help should come in less than 0.3 s, which it can only while heavy imports stay inside the commands. The
first start of each, which reads the disk, is not counted.

    python benchmarks/start.py [--quick]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

BARE = (sys.executable, "-c", "pass")
HELP = (sys.executable, "-m", "synthgen", "--help")


def main() -> None:
    """Measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer starts")
    starts = 7 if parser.parse_args().quick else 31
    seconds(BARE), seconds(HELP)
    pairs = [(seconds(BARE), seconds(HELP)) for _ in range(starts)]
    bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{'median of ' + str(starts):<14} seconds")
    print(f"{'empty Python':<14} {bare:7.3f}")
    print(f"{'synth --help':<14} {ours:7.3f}   {ours / bare:.1f} times an empty Python; the goal is under 0.3 s")
    record = {"benchmark": "start", "ours": round(ours, 4), "bare": round(bare, 4), "ratio": round(ours / bare, 2)}
    print(json.dumps(record))


def seconds(command: Sequence[str]) -> float:
    """Return the seconds from the start of a process to its end; its output is dropped."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
