"""A Ray cluster of three nodes on this machine, of which a run loses two: no row is lost and few are redone."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen.tables import TAG
from tests.fixtures.runs import PATIENCE, adds_up, assignments, pairs, rows
from tests.fixtures.workspace import make_images, write

# A tagger and an engine that are slow and write a line for each image that they get.
SLOW = """
import os, time
from pathlib import Path
from synthgen.engines.scripted import ScriptedEngine

HERE = Path(__file__).parent

def note(what, image):
    with (HERE / what).open("a") as file:
        file.write(f"{image}\\n")

class Tagger:
    def __init__(self, taxonomy, options):
        pass

    def tag(self, images, metas):
        for meta in metas:
            note("tagged", meta["name"])
        time.sleep(0.03 * len(images))
        return [{meta["tags"][0]: 1.0} for meta in metas]

class Engine(ScriptedEngine):
    async def generate(self, request):
        if request.purpose == "answer":
            note("answered", f"{request.image_key} {request.text[:40]}")
        return await super().generate(request)
"""
PARTITION = 32


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Yield a cluster of a head without cores and two nodes with a core each."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("RAY_ADDRESS")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    cluster.nodes = [add(cluster), add(cluster)]
    yield cluster
    cluster.shutdown()
    assert os.environ.get("RAY_ADDRESS") == before


def add(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def lose(cluster: Any, node: Any, path: Path, at: int, process: subprocess.Popen[str]) -> None:
    """Kill a node once a file has `at` lines, and add another one to the cluster."""
    give_up = time.monotonic() + PATIENCE
    while len(lines(path)) < at:
        assert time.monotonic() < give_up and process.poll() is None, (
            process.communicate()[1] if process.poll() is not None else path
        )
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    add(cluster)


def test_a_node_lost_in_tag_and_one_in_generate_cost_only_their_partitions_in_flight(
    workspace: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in make_images(workspace / "photos", 300):
        path.with_suffix(".json").write_text(
            f'{{"name": "{path.name}", "tags": ["{("animal/cat", "document/invoice")[path.stat().st_size % 2]}"]}}'
        )
    write(workspace / "slow.py", SLOW)
    write(workspace / "taggers" / "slow.yaml", "about: slow\nengine: slow:Tagger\ntaxonomy: small\n")
    settings = [
        "tag.tagger=slow",
        "tag.workers=2",
        "tag.batch=4",
        "generate.engine.replicas=2",
        "generate.engine.kind=slow:Engine",
        "generate.engine.gpus=0",
    ]
    settings += ["generate.engine.options.seconds=0.05", "generate.engine.in_flight=2", "plan.per_image=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "synthgen", "run", "photos", "--out", "out", "--pipeline", "small", *options]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    lose(cluster, cluster.nodes[0], workspace / "tagged", 80, process)
    lose(cluster, cluster.nodes[1], workspace / "answered", 150, process)
    notes = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, notes

    adds_up(workspace / "out")
    assert len(assignments(workspace / "out")) == 600
    assert {row[0] for row in pairs(workspace / "out").values()} == {"pair"}
    assert len(rows(workspace / "out", TAG, "images")) == 300
    redone = {
        name: sum(count - 1 for count in Counter(lines(workspace / name)).values()) for name in ("tagged", "answered")
    }
    with capsys.disabled():
        print(
            f" [redone: {redone['tagged']} of 300 images tagged, {redone['answered']} of 600 questions answered]",
            end=" ",
        )
    # An actor holds two partitions; those of a lost node are redone, and nothing else.
    assert not list((workspace / "out").rglob("strikes")), "a lost node is no strike against its images"
    assert redone["tagged"] <= 2 * PARTITION and redone["answered"] <= 2 * 2 * PARTITION
