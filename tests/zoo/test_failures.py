"""What vLLM says about a checkpoint that it does not load reaches the user as a cause, not as a riddle."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("vllm")

from synthgen.engines import ModelName
from synthgen.engines.vllm import _refusal
from tests.zoo.checkpoints import checkpoint
from tests.zoo.test_everyday import ALL, settings, started


def test_an_error_whose_text_says_nothing_is_named() -> None:
    refusal = str(_refusal(ModelName("gemma", "r"), KeyError("\n\n\n")))
    assert "KeyError" in refusal


@pytest.mark.engine
@pytest.mark.skipif(not ALL, reason="only with `make zoo`: a start of an engine")
def test_an_engine_that_does_not_start_names_its_cause(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint("qwen2.5-vl"), broken)
    config = json.loads((broken / "config.json").read_text())
    config["text_config"]["intermediate_size"] *= 2
    (broken / "config.json").write_text(json.dumps(config))
    image = tmp_path / "image.png"
    Image.new("RGB", (90, 60), "teal").save(image)
    image.with_suffix(".json").write_text('{"tags": ["invoice"]}')
    done = started("preview", str(image), *settings("qwen2.5-vl", broken))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "Engine core initialization failed" not in last and "256" in last
