"""What several test files share: a workspace with small definition files, and small images with tags beside them.

The workspace is a user's working folder in small: a taxonomy of seven tags, three instruction types, a tagger that
reads the tags beside the images and the scripted engine, so that a whole run needs no model.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from synthgen.console import print_notes, progress
from tests.fixtures.in_process import IN_PROCESS
from tests.fixtures.workspace import write_definition_files

pytest_plugins = [
    "tests.fixtures.s3_server",
    "tests.fixtures.packages",
    "tests.fixtures.browser",
    "tests.fixtures.workers_here",
]

# Nothing here may reach for a model hub; with a network the tests would be slower, and not the same.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of the many commands that tests run would compile the package
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault(
    "RAY_prestart_worker_first_driver", "0"
)  # workers at the start that no command of the tests would use

# How long a command waits depends on the machine, and so would what it says of it.
progress.PATIENCE_SECONDS = math.inf

# What a command notes is on stderr here too, also where a test calls its function and not the command line.
print_notes()

# Machines differ in speed, so no example has a deadline. HYPOTHESIS_PROFILE=thorough tries more examples.
for name, examples in (("quick", 10), ("thorough", 60)):
    settings.register_profile(
        name, deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# `make test` runs several files at once; what takes longest begins first.
LONGEST = (
    *("test_everyday", "test_engine", "test_zoo", "test_served", "test_group", "test_run", "test_killed"),
    *("test_stopping", "test_repair_and_purge", "test_examples", "test_plan", "test_scoring_passes", "test_two_models"),
    *("test_nothing_usable", "test_nodes", "test_importing", "test_negatives", "test_pool", "test_lora"),
    *("test_everyday_again", "test_lost_records", "test_toy_stage", "test_cli", "test_memory", "test_side_by_side"),
    *("test_push", "test_photographs", "test_every_source", "test_added_source", "test_download", "test_accounting"),
)


ENGINE_SECONDS = 900  # of a test that starts a real vLLM engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files, and give tests with a real engine more time."""
    for item in items:
        if item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.timeout(ENGINE_SECONDS))
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a user's working folder with small definition files the current folder."""
    folder = write_definition_files(tmp_path / "work")
    monkeypatch.chdir(folder)
    return folder


HEAD = {"num_cpus": 4, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    """Start a Ray that the commands of a file join, because starting their own is a third of a small run's time."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        one = Cluster(initialize_head=True, head_node_args=HEAD)
        environment.setenv("RAY_ADDRESS", one.address)
        environment.setenv(IN_PROCESS, "1")
        yield
        started = [info.process for infos in one.head_node.all_processes.values() for info in infos]
        one.shutdown()
        for process in started:  # Ray waits a second for each
            process.wait(60)
