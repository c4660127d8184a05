"""What several test files share: a small workspace with shelves of its own, and small images with their tags beside them.

The workspace is a user's working folder in small: a taxonomy of seven tags, three instruction types, a tagger that reads
the tags beside the images and the scripted engine, so that a whole run needs no model.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

# What is asserted in modules that are no tests themselves is told as fully as in a test.
pytest.register_assert_rewrite("drawn_images", "planning_checks", "planning_world", "reading_sources", "store_rows", "tiny_model")

# Nothing here may reach for a model hub; with a network the tests would be slower, and not the same.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # workers at the start that no command of the tests would use

# The machines that run the tests differ in speed, so no example has a deadline.
settings.register_profile("house", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("house")

# `make test` runs several files at once; what takes longest begins first.
LONGEST = (
    "test_engine",
    "test_stopping",
    "test_workers",
    "test_run",
    "test_forecast",
    "test_killed",
    "test_nodes",
    "test_mending",
    "test_security",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


SHELVES: Mapping[str, str] = {
    "taggers/taxonomies/small.yaml": """\
about: a few tags
templates: ["a photo of {}"]
tags:
  animal:
    means: a living creature
    tags:
      cat: a small furry pet
      red_panda: a small furry climber
  document:
    means: a page
    tags:
      invoice: a bill
      letter: a message
""",
    "taggers/beside.yaml": """\
about: tags beside the image
engine: sidecar
taxonomy: small
""",
    "prompts/families/small.yaml": """\
about: a few types
types:
  coarse:
    about: the whole
    types:
      scene: {about: the scene, needs: a scene, forms: [short, brief], examples: ["Where?", "What place?"]}
      counting: {about: how many, needs: things, forms: [short, choice], examples: ["How many?", "Count?"]}
  fine:
    about: details
    types:
      reading: {about: what is written, needs: text, forms: [short], examples: ["What is written?", "Read it?"]}
""",
    "prompts/small.yaml": """\
about: a small pack
families: [small]
system: Be good.
ask: {text: "Ask {{ n }} about {{ type.name }} in {{ language }}.", parse: json}
ask_choice: {text: "Ask {{ n }} choice about {{ type.name }} in {{ language }}.", parse: json}
answer:
  short: {text: "{{ question }} Short.", max_tokens: 20}
  brief: {text: "{{ question }} Brief.", max_tokens: 50}
  choice: {text: "{{ question }} {{ options | join(', ') }}", max_tokens: 4}
paraphrase: {text: "Say otherwise: {{ question }}"}
judge:
  question: {text: "Rate {{ question }}", labels: ["1", "2", "3"]}
  answer: {text: "Rate {{ question }} {{ answer }}", labels: ["1", "2", "3"]}
blind: {text: "{{ question }} Blind."}
""",
    "pipelines/mappings/small.yaml": """\
about: a few rules
rules:
  - tags: "**"
    ask: {coarse/**: 2}
  - tags: document/**
    ask: {fine/**: 4}
""",
    "pipelines/small.yaml": """\
about: a small job without a model
source: {sidecar: .json}
tag: {tagger: beside}
plan: {mapping: small, per_image: 3, forms: {short: 2, brief: 1, choice: 1}, near_duplicates: -1}
generate:
  model: none
  prompts: small
  engine: {kind: scripted}
  scores: [likelihood, answer]
select: {keep: {answer: {min: 2}}}
""",
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's working folder with small shelves, which is also the current folder."""
    folder = put_shelves(tmp_path / "work")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    """A Ray that the commands of a file join, as on a cluster: starting one of their own is a third of what small runs take."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        one = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "object_store_memory": 80 * 2**20})
        environment.setenv("RAY_ADDRESS", one.address)
        yield
        one.shutdown()


def put_shelves(folder: Path) -> Path:
    """Writes the small shelves into a folder."""
    for name, text in SHELVES.items():
        write(folder / name, text)
    return folder


def write(path: Path, text: str) -> Path:
    """A text file, its folders made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make_images(folder: Path, count: int, tags: Sequence[str] = ("cat", "red_panda", "invoice")) -> list[Path]:
    """Small images, each unlike the others, in turn with one of the tags in a JSON file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"{number:04}.{'png' if number % 2 else 'jpg'}"
        picture = Image.effect_noise((64, 48), 60).convert("RGB")
        picture.putpixel((0, 0), (number % 256, number // 256 % 256, 0))
        picture.save(path)
        path.with_suffix(".json").write_text(json.dumps({"tags": [tags[number % len(tags)]]}))
        made.append(path)
    return made
