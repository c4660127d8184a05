"""The calls of a VLM tagger, estimated before it tags a folder anew."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from synthgen.commands.plan import tag_pricing
from synthgen.config.engine import PriceConfig
from synthgen.config.source import ImagesConfig
from synthgen.stages.contract import Job
from synthgen.taggers import TaggerSpec, in_order
from tests.fixtures.tagging import TaggedFolder, write_sidecar, write_vlm
from tests.fixtures.workspace import make_images

pytestmark = pytest.mark.usefixtures("workspace")


def job(*specs: TaggerSpec, price: Mapping[str, Any] | None = None) -> Job:
    """Return as much of a job as the estimate reads."""
    pipeline = SimpleNamespace(images=ImagesConfig(), generate=SimpleNamespace(price=PriceConfig(**(price or {}))))
    return cast(Any, SimpleNamespace(definitions=SimpleNamespace(taggers=specs), pipeline=pipeline))  # type: ignore[no-any-return]


@pytest.fixture
def folder(tmp_path: Path) -> TaggedFolder:
    """Tag six images, of which every third is an invoice, from their sidecars."""
    make_images(Path("photos"), 6)
    folder = TaggedFolder(tmp_path / "out")
    folder.tag(write_sidecar())
    return folder


def test_a_refining_tagger_is_priced_for_the_images_that_it_is_asked_about(folder: TaggedFolder) -> None:
    specs = in_order([write_sidecar(), write_vlm({}, "only: [document/**]\n")])
    (forecast,) = tag_pricing.forecast_tags(folder.run_folder, job(*specs))
    assert (forecast.tagger, forecast.images, forecast.of, forecast.calls) == ("mine", 2, 6, 2)
    image_tokens = 64 * 48 / tag_pricing.PIXELS_PER_TOKEN
    assert forecast.usage.cached_tokens == 0 and forecast.usage.prompt_tokens > 2 * image_tokens
    (line,) = tag_pricing.tag_notes(folder.run_folder, job(*specs, price={"output_million": 1e6}))
    assert "asks its model about 2 of 6 images, in at most 2 calls" in line and ", 64.00 USD by generate.price" in line


def test_a_walk_from_the_roots_is_priced_for_every_image_and_level(folder: TaggedFolder) -> None:
    (forecast,) = tag_pricing.forecast_tags(folder.run_folder, job(write_sidecar(), write_vlm({})))
    assert (forecast.images, forecast.calls) == (6, 12)
    assert forecast.usage.cached_tokens == pytest.approx(6 * 64 * 48 / tag_pricing.PIXELS_PER_TOKEN)
    (line,) = tag_pricing.tag_notes(folder.run_folder, job(write_sidecar(), write_vlm({})))
    assert "generate.price" not in line


def test_a_tagger_whose_tags_are_there_costs_nothing(folder: TaggedFolder) -> None:
    specs = in_order([write_sidecar(), write_vlm({}, "only: [document/**]\n")])
    folder.tag(*specs)
    assert list(tag_pricing.forecast_tags(folder.run_folder, job(*specs))) == []
    assert list(tag_pricing.tag_notes(folder.run_folder, job(write_sidecar()))) == []
