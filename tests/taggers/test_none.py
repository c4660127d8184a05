"""The tagger that finds nothing, for images whose tags nobody needs."""

from pathlib import Path

from PIL import Image

from synthgen.taggers import Tagged, load_all


def test_the_tagger_that_ships_finds_no_tag_needs_no_package_and_no_model() -> None:
    (spec,) = load_all(["none"], Path())
    assert spec.file.packages() == () and spec.file.resources().gpus == 0
    tagger = spec.file.open(spec)
    prepared = [tagger.prepare(Image.new("RGB", (8, 8)), None)] * 2
    assert tagger.tag(prepared) == [Tagged([]), Tagged([])]
    tagger.close()
    assert list(spec.taxonomy.tree.nodes) == ["image"]
