"""Several places in one source: each lists and reads with its own settings, and its objects have its name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen.config.source import ImagesConfig, PlaceConfig, SourceConfig
from synthgen.config.strict_yaml import parse
from synthgen.errors import Failure, UserMistake
from synthgen.ingest.sources import is_inside_source, list_objects, open_listing, read_objects, ref_of
from synthgen.job import request as requests
from synthgen.job import run_record, selections
from synthgen.job.request import RunRequest
from synthgen.stages.pack import redact
from synthgen.tables import object_row
from tests.fixtures.sources import parquet, tree

LIMITS = ImagesConfig()


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    tree(tmp_path / "photos", "a.jpg", "sub/b.jpg", "c.png")
    parquet(tmp_path / "rows" / "p.parquet", [{"bytes": b"r", "path": None}])
    return named(photos={"uri": str(tmp_path / "photos"), "suffixes": [".jpg"]}, rows={"uri": str(tmp_path / "rows")})


def named(**places: dict[str, Any]) -> SourceConfig:
    return SourceConfig(named={name: PlaceConfig(**settings) for name, settings in places.items()})


def rows_of(source: SourceConfig) -> list[dict[str, Any]]:
    return [object_row(**vars(item)) for item in list_objects(source)]


def test_each_place_lists_by_its_own_settings_and_names_its_objects(source: SourceConfig) -> None:
    found = [(row["source"], row["uri"].rpartition("/")[2], row["row"]) for row in rows_of(source)]
    assert found == [("photos", "a.jpg", None), ("photos", "b.jpg", None), ("rows", "p.parquet", 0)]


def test_a_name_is_no_part_of_an_identity(source: SourceConfig) -> None:
    alone = [row for place in source.places.values() for row in rows_of(place)]
    assert [row["object_id"] for row in rows_of(source)] == [row["object_id"] for row in alone]
    assert {row["source"] for row in alone} == {None}


def test_objects_are_read_by_the_settings_of_their_place(tmp_path: Path) -> None:
    parquet(tmp_path / "one" / "p.parquet", [{"bytes": b"1", "path": None}])
    parquet(tmp_path / "two" / "p.parquet", [{"bytes": b"no", "path": None}], other=[b"2"])
    source = named(one={"uri": str(tmp_path / "one")}, two={"uri": str(tmp_path / "two"), "image_column": "other"})
    refs = [ref_of(row) for row in rows_of(source)]
    assert {ref.source: content for ref, content in read_objects(refs, source, LIMITS)} == {"one": b"1", "two": b"2"}


def test_hosts_of_one_place_are_not_fetched_from_for_another(tmp_path: Path) -> None:
    (tmp_path / "links.txt").write_text("https://127.0.0.1/a.jpg\n")
    uri = f"urls:{tmp_path}/links.txt"
    source = named(mine={"uri": uri, "hosts": ["127.0.0.1"]}, others={"uri": uri, "hosts": ["example.org"]})
    refs = [ref_of({**row, "object_id": row["source"]}) for row in rows_of(source)]
    reasons = {ref.source: str(content) for ref, content in read_objects(refs, source, LIMITS)}
    assert "not a public address" in reasons["mine"] and "not among source.hosts" in reasons["others"]


def test_objects_of_a_place_whose_name_is_gone_are_read_with_the_default_settings(source: SourceConfig) -> None:
    refs = [ref_of({**row, "source": "gone"}) for row in rows_of(source)]
    contents = [content for _, content in read_objects(refs, source, LIMITS)]
    assert sorted(content for content in contents if not isinstance(content, Failure)) == [b"a.jpg", b"r", b"sub/b.jpg"]


def test_a_url_that_was_listed_without_a_name_is_fetched_from_the_hosts_of_all_places() -> None:
    source = named(a={"uri": "urls:a", "hosts": ["a.org"]}, b={"uri": "urls:b", "hosts": ["b.org", "a.org"]})
    assert source.place(None).hosts == ("a.org", "b.org") and source.place("a").hosts == ("a.org",)


def test_an_empty_or_missing_place_is_a_mistake_before_anything_is_listed(tmp_path: Path) -> None:
    tree(tmp_path / "photos", "a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserMistake, match=r"0 images under .*/empty"):
        open_listing(named(photos={"uri": str(tmp_path / "photos")}, scans={"uri": str(tmp_path / "empty")}))
    with pytest.raises(UserMistake, match="/none: no such file or folder"):
        open_listing(named(photos={"uri": str(tmp_path / "photos")}, scans={"uri": str(tmp_path / "none")}))


def test_an_output_folder_in_any_place_is_noticed(source: SourceConfig, tmp_path: Path) -> None:
    assert is_inside_source(str(tmp_path / "rows" / "out"), source)
    assert not is_inside_source(str(tmp_path / "out"), source)


def test_samples_show_a_path_below_its_own_place(source: SourceConfig) -> None:
    shown = [redact.uri(row["uri"], redact.root_of(source)) for row in rows_of(source)]
    assert shown == ["a.jpg", "sub/b.jpg", "p.parquet"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"uri": "x", "named": {"a": {"uri": "y"}}}, "uri stands beside named sources"),
        ({"hosts": ["x"], "named": {"a": {"uri": "y"}}}, "hosts stands beside named sources"),
        ({"named": {"a": {"suffixes": [".jpg"]}}}, "the source 'a' has no uri"),
        ({"named": {"A b": {"uri": "y"}}}, "'A b' is no name of a source"),
        ({"named": {"a": {"uri": "y", "named": {}}}}, "named"),
    ],
)
def test_a_mistake_in_the_names_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SourceConfig.model_validate(given)


def test_a_request_spells_out_every_place() -> None:
    typed = RunRequest(None, ('source.named={a: {uri: x, root: r}, b: {uri: "s3://b/c"}}', "source.named.a.uri=y"))
    whole, one = (setting.partition("=")[2] for setting in typed.spell_out(Path("/data/me"), False).settings)
    assert yaml.safe_load(whole) == {"a": {"uri": "/data/me/x", "root": "/data/me/r"}, "b": {"uri": "s3://b/c"}}
    assert yaml.safe_load(one) == "/data/me/y"
    source = run_record.spell_out(named(a={"uri": "x"}), Path("/data/me"))
    assert source.named["a"].uri == "/data/me/x"


def test_a_command_that_names_no_source_goes_on_with_those_of_its_folder(source: SourceConfig, tmp_path: Path) -> None:
    record = {"pipeline": {"source": source.model_dump(mode="json")}, "started_in": str(tmp_path), "started_with": {}}
    document = requests.read(RunRequest("everyday"), record, "out")
    assert SourceConfig.model_validate(document.at(("source",))) == source
    other = requests.read(RunRequest("everyday", ("source.uri=photos",)), record, "out")
    assert other.at(("source", "named")) is None


def test_a_rule_about_a_source_that_nobody_named_is_a_mistake() -> None:
    text = """
source: {named: {scans: {uri: a}, photos: {uri: b}}}
plan: {where: {source: [scan, "ph*", null]}}
select: {where: {source: [photos]}}
views: {web: {where: {source: [web]}}}
"""
    document = parse(Path("mine.yaml"), text)
    assert list(selections.source_faults(document)) == [
        "mine.yaml:3: plan.where.source: no source is called 'scan': did you mean 'scans'?",
        "mine.yaml:5: views.web.where.source: no source is called 'web': known: photos, scans",
    ]
