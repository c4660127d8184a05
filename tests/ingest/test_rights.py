"""Rights: what metadata and files state is read from any form that others write, and what forbids use is noticed."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.ingest.rights import Rights, forbidding, license_name, license_of, rights_of
from tests.fixtures.mutations import JSON_VALUES


def of_meta(**meta: Any) -> Rights:
    return rights_of(json.dumps(meta)) or Rights()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://creativecommons.org/licenses/by-nc-sa/2.0/", "CC-BY-NC-SA-2.0"),  # as COCO has it
        ("https://creativecommons.org/licenses/by/4.0/deed.de", "CC-BY-4.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
        ("CC_BY_ND", "CC-BY-ND"),
        ("cc by-nc 2", "CC-BY-NC-2.0"),
        ("CC0", "CC0-1.0"),
        ("cc0-1.0", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public domain"),
        ("public domain", "Public domain"),
        ("All rights reserved", "All rights reserved"),
        ("MIT", "MIT"),
        ("not CC BY 4.0 at all", "not CC BY 4.0 at all"),
        ("3", "3"),
    ],
)
def test_a_licence_of_creative_commons_has_one_name_and_others_stay(text: str, name: str) -> None:
    assert license_name(text) == name
    assert license_name(name) == name


def test_metadata_states_rights_under_the_keys_that_data_sets_use() -> None:
    found = of_meta(License="CC BY 4.0", Creator="Ann", Copyright="(c) Ann", url="https://example.org/1.jpg")
    assert found == Rights("CC-BY-4.0", "Ann", "(c) Ann", "https://example.org/1.jpg")
    assert of_meta(license_url="https://creativecommons.org/licenses/by/2.0/", license=None).license == "CC-BY-2.0"
    assert of_meta(rights="https://creativecommons.org/publicdomain/zero/1.0/").license == "CC0-1.0"
    assert of_meta(source="flickr", url="no address").source_url is None
    assert of_meta(license=3).license == "3", "a number of COCO"
    assert of_meta(license={"id": 4}).license == '{"id": 4}'
    assert of_meta(license=True, author=["A", "B"]) == Rights(author='["A", "B"]')


def test_img2dataset_keeps_exif_as_json_and_that_is_read() -> None:
    exif = json.dumps({"Image Artist": "Ann", "Image Copyright": "CC BY 4.0", "EXIF Flash": "no"})
    found = of_meta(url="https://example.org/1.jpg", exif=exif, key="000000001")
    assert found == Rights("CC-BY-4.0", "Ann", "CC BY 4.0", "https://example.org/1.jpg")
    assert of_meta(exif="{}", caption="x") == Rights() and of_meta(exif="[") == Rights()


def test_what_the_source_says_comes_before_the_file_and_a_url_is_where_it_was_published() -> None:
    stated = {"author": "Bob", "license": "http://creativecommons.org/licenses/by/4.0/", "copyright": "(c) Bob"}
    found = rights_of('{"author": "Ann"}', stated, "https://example.org/a.jpg")
    assert found == Rights("CC-BY-4.0", "Ann", "(c) Bob", "https://example.org/a.jpg")
    assert rights_of(None, {}, "/data/a.jpg") is None


def test_a_web_statement_is_a_licence_only_if_it_is_the_page_of_one() -> None:
    assert rights_of(None, {"web_statement": "https://example.org/terms"}) is None
    found = rights_of(None, {"web_statement": "https://creativecommons.org/licenses/by/4.0/"})
    assert found and found.license == "CC-BY-4.0"
    terms = rights_of(None, {"usage_terms": "For the press only"})
    assert terms and terms.license == "For the press only"


@pytest.mark.parametrize(
    "meta",
    [
        {"noai": True},
        {"no_ai": "yes"},
        {"NoImageAI": 1},
        {"robots": "noindex, noai"},
        {"X-Robots-Tag": "otherbot: nofollow, img2dataset: noimageai"},
        {"tdm-reservation": 1},
        {"ai_training": "notAllowed"},
        {"allow_ai": False},
        {"data_mining": "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-GENAIMLTRAINING"},
        {"plus:DataMining": "DMI-PROHIBITED"},
    ],
)
def test_metadata_that_forbids_use_is_noticed(meta: dict[str, Any]) -> None:
    assert (of_meta(**meta).reserved or "").startswith("its metadata says ")


@pytest.mark.parametrize(
    "meta",
    [
        {"noai": False},
        {"noai": ""},
        {"robots": "nofollow, all"},
        {"robots": None},
        {"tdm_reservation": 0},
        {"ai_training": True},
        {"allow_ai": "yes"},
        {"data_mining": "DMI-ALLOWED"},
        {"data_mining": "DMI-UNSPECIFIED"},
        {"caption": "noai"},
    ],
)
def test_metadata_that_does_not_forbid_use_reserves_nothing(meta: dict[str, Any]) -> None:
    assert of_meta(**meta).reserved is None


def test_the_words_of_a_robots_header_that_img2dataset_obeys_forbid_use() -> None:
    assert forbidding("noai") == "noai" and forbidding("NOINDEX, nofollow") == "noindex"
    assert forbidding("googlebot: noimageindex") == "noimageindex"
    assert forbidding("max-snippet: 20, nofollow") is None and forbidding("") is None


def test_a_file_that_forbids_use_is_noticed() -> None:
    found = rights_of(None, {"data_mining": "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING"})
    assert found and found.reserved == "its XMP says plus:DataMining DMI-PROHIBITED-AIMLTRAINING"
    assert rights_of(None, {"data_mining": "http://ns.useplus.org/ldf/vocab/DMI-ALLOWED"}) is None


@settings(max_examples=100)
@given(JSON_VALUES | st.dictionaries(st.sampled_from(["license", "robots", "exif", "url", "noai", "tdm"]), JSON_VALUES))
def test_whatever_metadata_is_it_states_texts_or_nothing(value: Any) -> None:
    for text in (json.dumps(value), "[" * 100_000, "{", ""):
        found = rights_of(text)
        assert found is None or all(isinstance(each, str) and each for each in vars(found).values() if each is not None)
        for each in vars(found).values() if found else ():
            (each or "").encode()
    assert license_of("null") is None


def test_a_part_of_the_file_that_cannot_be_read_is_on_record() -> None:
    assert rights_of(None, {"unread": "XMP", "author": "Ann"}) == Rights(author="Ann", unread="XMP")
