"""The dataset card: in the form of the hub, with what a reader asks of a data set, and nothing of data interpreted."""

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, DatasetCardData

from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.errors import Damaged
from synthgen.stages.pack.card import CardNotes, ShardContents, card
from synthgen.stages.pack.card_notes import (
    CardExample,
    Faults,
    TypeFaults,
    forget_examples,
    keep_examples,
    keep_faults,
    pictures_of,
    place_of,
    with_section,
)
from synthgen.stages.pack.command import command_of
from synthgen.store import RunFolder
from tests.fixtures.packing import World, pictures

FACTS = {"Model": "nano", "Engine": "vllm"}
CONTENTS = ShardContents(
    [("train-0.parquet", 10)], [{"name": "id", "dtype": "string"}], 3, 3,
    {"type": {"a/b": 4}, "form": {"short": 4}, "language": {"en": 4}}, {"kept": 4}, {},
)  # fmt: skip
FAULTS = Faults(
    2, 30, (0.9, 0.8, 0.95),
    (TypeFaults("a/b", 20, 18, 0.7, 0.97, {"it is not in the picture": 2}), TypeFaults("c", 10, 10, 0.72, 1.0, {})),
)  # fmt: skip
PLANTED = "</td> | ![x](http://evil) <script>alert(1)</script> `c` ## no heading"


def front(card: Any) -> dict[str, Any]:
    """Return the front matter of a card as huggingface_hub writes it."""
    read: dict[str, Any] = card.data.to_dict()
    return read


def titles(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def text_of(world: World) -> str:
    return Path(world.out.path, "5-shards", "README.md").read_text(encoding="utf-8")


def packed(world: World) -> RunFolder:
    world.add(1, pictures(2))
    world.pack()
    return RunFolder(world.out)


def test_the_hub_reads_the_front_matter_and_writes_the_same() -> None:
    settings = PackConfig(license="cc-by-4.0", languages=("en", "de"))
    text = card(CONTENTS, FACTS, SelectConfig(), settings, CardNotes(command="synth run x", version="1"))
    read = DatasetCard(text)
    assert isinstance(read.data, DatasetCardData) and read.data.license == "cc-by-4.0"
    assert read.data.language == ["en", "de"] and read.data.size_categories == ["n<1K"]
    assert front(DatasetCard(str(read))) == front(read)
    assert front(read)["configs"][0]["data_files"] == [{"split": "train", "path": ["data/train-0.parquet"]}]


def test_a_card_says_what_a_reader_asks_of_a_data_set(world: World) -> None:
    packed(world)
    assert titles(text_of(world)) == [
        "Where it comes from", "Contents", "Rights to the images", "Kept and dropped pairs", "Known faults",
        "Intended use", "Columns", "How to load it", "How to cite",
    ]  # fmt: skip
    assert "Nobody has labelled a sample of these pairs yet" in text_of(world)


def test_the_command_that_made_it_stands_as_it_is_typed_and_breaks_out_of_nothing() -> None:
    record = {
        "started_with": {
            "pipeline": "/data/x/mine.yaml",
            "settings": ["select.a={min: 3}", "source.uri=/secret", "x.sets=[/data/y/b]"],
        }
    }
    assert (
        command_of(record)
        == "synth run SOURCE --out FOLDER --pipeline mine --set 'select.a={min: 3}' --set 'x.sets=[…/b]'"
    )
    notes = CardNotes(command="synth run --set 'x=```\n## Fake'", version="1.2")
    text = card(CONTENTS, FACTS, SelectConfig(), PackConfig(), notes)
    assert "\n````\nsynth run --set 'x=``` ## Fake'\n````\n\nWith synthgen 1.2;" in text
    assert "How to make it again" in titles(text) and "Fake" not in titles(text)


def test_examples_are_shown_with_their_pictures_until_others_take_their_place(world: World) -> None:
    folder = packed(world)
    example = CardExample("aa.webp", "a/b", "What?", "That.")
    keep_examples(folder, [example], {"aa.webp": b"picture"})
    text = text_of(world)
    assert titles(text)[0] == "Examples" and text.count("## Examples") == 1
    shown = f"{Path(world.out.path)}/5-shards/" + re.findall(r'src="([^"]+)"', text)[0]
    assert Path(shown).read_bytes() == b"picture" and "**What&#63;**\n\nThat." in text
    world.pack()
    assert text_of(world) == text, "the card is written again with them"
    keep_examples(folder, [CardExample("bb.webp", "c", "Why?", "So.")], {"bb.webp": b"other"})
    assert pictures_of(folder) == ["bb.webp"] and "What" not in text_of(world).partition("## Where")[0]


def test_examples_that_are_taken_out_leave_no_picture_and_no_text(world: World) -> None:
    folder = packed(world)
    keep_examples(folder, [CardExample("aa.webp", "a/b", "Secret?", "Yes.")], {"aa.webp": b"picture"})
    forget_examples(folder)
    world.pack()
    assert not pictures_of(folder) and not place_of(folder).names(".json")
    assert "Examples" not in titles(text_of(world)) and "Secret" not in text_of(world)


def test_known_faults_are_those_that_people_found_by_type_the_worst_first(world: World) -> None:
    folder = packed(world)
    keep_faults(folder, FAULTS)
    text = text_of(world)
    section = text.partition("## Known faults")[2].partition("\n## ")[0]
    assert "2 people labelled 30 pairs" in section and "90.0% of the pairs are right (80.0% to 95.0%" in section
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| a/b | 20 | 90% | 70% to 97% | it is not in the picture (2) |",
        "| c | 10 | 100% | 72% to 100% |  |",
    ]
    world.pack()
    assert text_of(world) == text


def test_what_data_says_is_shown_and_interpreted_as_nothing(world: World) -> None:
    folder = packed(world)
    keep_examples(folder, [CardExample("aa.webp", PLANTED, PLANTED, f"\n## {PLANTED}")], {"aa.webp": b"x"})
    keep_faults(folder, Faults(1, 1, (1.0, 0.2, 1.0), (TypeFaults(PLANTED, 1, 1, 0.2, 1.0, {PLANTED: 1}),)))
    text = text_of(world)
    assert not re.search(r"<script|\]\(http://evil|^## no|`c`", text, re.MULTILINE)
    assert len(titles(text)) == 10 and text.count("<img") == 1


def test_a_section_takes_the_place_of_the_one_before_and_no_other_text_changes() -> None:
    text = "# Title\n\nwords\n\n## One\nfirst\n\n## Two\nsecond\n"
    with_new = with_section(text, "New", "## New\nadded")
    assert with_new == "# Title\n\nwords\n\n## New\nadded\n\n## One\nfirst\n\n## Two\nsecond\n"
    assert with_section(with_new, "New", "## New\nadded") == with_new
    assert with_section(with_new, "New", "") == text


@pytest.mark.parametrize("content", [b"{", b"[1]", b'[{"picture": "x"}]', b"{}"])
def test_a_record_that_is_not_from_here_is_told_with_what_to_do(world: World, content: bytes) -> None:
    folder = packed(world)
    place_of(folder).write("examples.json", content)
    if content == b"{}":
        world.pack()  # no example
        return
    with pytest.raises(Damaged, match=r"5-shards/card/examples.json: .*; remove it; the next report"):
        world.pack()
