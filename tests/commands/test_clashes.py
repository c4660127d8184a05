"""`synth check` finds names of tags that the cleaning of a model makes equal."""

import json
import sys
from pathlib import Path

import pytest

from synthgen import taggers
from synthgen.commands.clashes import clash_notes, clashes
from synthgen.config import library, taxonomy
from synthgen.taggers.cleaning import Cleaning, clean, cleaning_of
from tests.fixtures.tagging import write_sidecar, write_tagger
from tests.fixtures.workspace import write

TAGS = """about: x
templates: ["a {}"]
tags:
  code:
    means: text of programs
    text: C-code
    tags:
      c_code: pointers
      cpp_code: {means: templates, also: ["C++ code"]}
      csharp_code: {means: namespaces, also: ["C# code"], clip: false}
"""


@pytest.fixture
def tags(workspace: Path) -> taxonomy.Taxonomy:
    write(workspace / "taggers/taxonomies/small.yaml", TAGS)
    return taxonomy.load("small")


def model_folder(path: Path, text_config: object) -> Path:
    write(path / "open_clip_config.json", json.dumps({"model_cfg": {"text_cfg": text_config}}))
    write(path / "weights.bin", "w")
    return path


def test_a_line_names_both_tags_and_the_text_that_they_become(tags: taxonomy.Taxonomy) -> None:
    assert list(clash_notes(tags, [write_sidecar()])) == [
        "note: a SigLIP model reads 'c code' of code/c_code and 'C++ code' of code/cpp_code as one text, 'c code'; "
        "give one of them other words"
    ]


def test_a_line_names_the_tagger_whose_model_cleans_so(tags: taxonomy.Taxonomy, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", {"tokenizer_kwargs": {"clean": "canonicalize"}})
    (line,) = clash_notes(tags, [write_tagger(f"engine: open_clip\nmodel: {folder}\n")])
    assert line.startswith("note: the model of tagger 'mine' reads 'c code' of code/c_code and ")


def test_names_that_differ_in_case_alone_clash_for_a_model_that_reads_lower_case(workspace: Path) -> None:
    write(workspace / "taggers/taxonomies/small.yaml", TAGS.replace("C++ code", "C CODE").replace("C-code", "x"))
    tags = taxonomy.load("small")
    assert [text for *_, text in clashes(tags, "lower")] == ["c code"] and not list(clashes(tags, "whitespace"))


def test_a_text_of_its_own_stands_for_the_name(workspace: Path) -> None:
    edited = TAGS.replace("c_code: pointers", "c_code: {means: pointers, text: a listing in the C language}")
    write(workspace / "taggers/taxonomies/small.yaml", edited)
    tags = taxonomy.load("small")
    assert [(first[0], second[0]) for first, second, _ in clashes(tags, "canonicalize")] == []


@pytest.mark.parametrize(
    ("text_config", "cleaning"),
    [
        ({}, "lower"),
        ({"tokenizer_kwargs": {"clean": "whitespace"}}, "whitespace"),
        ({"hf_tokenizer_name": "some/tokenizer"}, "whitespace"),
        ({"hf_tokenizer_name": "some/tokenizer", "tokenizer_kwargs": {"clean": "canonicalize"}}, "canonicalize"),
        ({"tokenizer_kwargs": {"clean": "by hand"}}, None),
    ],
)
def test_the_cleaning_is_told_from_the_models_configuration(
    workspace: Path, tmp_path: Path, text_config: object, cleaning: Cleaning | None
) -> None:
    folder = model_folder(tmp_path / "siglip", text_config)
    assert cleaning_of(write_tagger(f"engine: open_clip\nmodel: {folder}\n")) == cleaning


@pytest.mark.parametrize(
    ("model", "cleaning"),
    [
        ("ViT-B-16-SigLIP2-384", "canonicalize"),
        ("ViT-B-16-SigLIP", "canonicalize"),
        ("ViT-B-32", "lower"),
        ("mine", None),
    ],
)
def test_the_cleaning_of_a_listed_model_is_that_of_its_open_clip_tokenizer(
    workspace: Path, model: str, cleaning: Cleaning | None
) -> None:
    spec = write_tagger(f"engine: open_clip\nmodel: {model}\npretrained: x\n")
    imported = "open_clip" in sys.modules
    assert cleaning_of(spec) == cleaning and ("open_clip" in sys.modules) == imported


def test_other_taggers_have_no_cleaning(workspace: Path) -> None:
    assert cleaning_of(write_sidecar()) is None


@pytest.mark.parametrize("how", ["canonicalize", "lower", "whitespace"])
def test_texts_are_cleaned_as_open_clip_cleans_them(how: Cleaning) -> None:
    from open_clip.tokenizer import get_clean_fn

    for text in ("C++ code", " Two\n  words_here ", "a photo of an X-ray, again!", "C# code"):
        assert clean(text, how) == get_clean_fn(how)(text)


@pytest.mark.parametrize(
    "name", [path.stem for path in (library.shipped_folder() / "taggers/taxonomies").glob("*.yaml")]
)
def test_no_two_tags_of_a_shipped_taxonomy_are_one_text(name: str) -> None:
    assert list(clash_notes(taxonomy.load(name), [taggers.load("everyday-clip")])) == []
