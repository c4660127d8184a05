"""Sets of images in a real engine and in training: two images of one set stand before every question about it."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import AutoProcessor

from synthgen.config.engine import EngineConfig
from synthgen.config.training import TrainConfig
from synthgen.job.funnel import funnels
from synthgen.stages.generate.measures import SCORERS
from synthgen.tables import GENERATE
from synthgen.train import train
from synthgen.train.encode import IGNORED, Encoder
from tests.fixtures.runs import opened, rows
from tests.fixtures.tiny_vlm import row
from tests.zoo.checkpoints import FAMILIES, checkpoint, images
from tests.zoo.conftest import EVERY
from tests.zoo.interview import ENVIRONMENT, GPUS, OPTIONS
from tests.zoo.test_everyday import settings, synth
from tests.zoo.test_training import TURNS, USUAL

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FAMILY = "qwen2.5-vl"
SETTINGS = TrainConfig(steps=1, batch=2, learning_rate=1e-3, workers=1, model_pixels=200_000, max_tokens=16_384)


@pytest.mark.parametrize("name", USUAL)
def test_labels_cover_the_answers_behind_two_images(name: str) -> None:
    one = row(*TURNS)
    content = one["messages"][0]["content"]
    messages = [{**one["messages"][0], "content": [content[0], *content]}, *one["messages"][1:]]
    several = {**one, "images": [*one["images"], *row(*TURNS, colour="blue")["images"]], "messages": messages}
    processor = AutoProcessor.from_pretrained(checkpoint(name))
    batch, skipped = Encoder(processor, SETTINGS).encode([several, one])
    assert batch is not None and not skipped
    for labels in batch.labels:
        text = processor.tokenizer.decode(labels[labels != IGNORED], skip_special_tokens=True)
        assert "".join(text.split()) == "".join("".join(answer.split()) for _, answer in TURNS)


def albums(folder: Path) -> Path:
    """Make two folders of two images each, with their tags beside them."""
    for album in ("first", "second"):
        (folder / album).mkdir(parents=True)
        for number in range(2):
            Image.effect_mandelbrot((640, 480), (-2 + number, -1.5, 1, 1), 60 + number).convert("RGB").save(
                folder / album / f"{number}.png"
            )
            (folder / album / f"{number}.json").write_text(json.dumps({"tags": ["invoice"]}))
    return folder


@pytest.mark.engine
@pytest.mark.skipif(not os.environ.get(EVERY), reason="`make zoo` starts this engine")
def test_a_run_asks_about_two_images_at_once_and_trains_on_them(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    out, model = tmp_path / "out", checkpoint(FAMILY)
    engine = {"kind": "vllm", "gpus": GPUS, "images": 2, "environment": ENVIRONMENT}
    engine["options"] = {**OPTIONS, **FAMILIES[FAMILY].options}
    words = settings(FAMILY)
    words[1] = "sets"
    words += ["--set", "source.group_most=2", "--set", f"generate.engine={json.dumps(engine)}"]
    synth("run", str(albums(tmp_path / "albums")), "--out", str(out), *words)
    assert all(funnel.is_settled for funnel in funnels(opened(out)))
    made = rows(out, GENERATE, "pairs").values()
    pairs = {row["pair_id"]: row for row in made if row["outcome"] == "pair"}
    assert pairs and all(row["reason"] for row in made if row["outcome"] != "pair")
    rule = images(FAMILY, EngineConfig()).rule
    assert rule
    two = 2 * (rule.tokens(640, 480) + rule.around)
    assert all(row["prompt_tokens"] > two for row in pairs.values()), "both images are in the prompt"
    assert any(row["cached_tokens"] > two for row in pairs.values()), "and stay in the cache for the next call"
    for score in SCORERS:
        assert rows(out, GENERATE, f"scores/{score}").keys() == pairs.keys()
    shards = out / "5-shards/data"
    packed = [sample for file in shards.glob("*.parquet") for sample in pq.read_table(file).to_pylist()]
    assert packed and all(len(sample["images"]) == 2 for sample in packed)
    train(str(out), str(model), tmp_path / "tuned", SETTINGS)
    assert (tmp_path / "tuned/model/config.json").is_file()
