"""The objects that names mean: ids, uris and ends of uris; unknown and ambiguous names are reported."""

from functools import partial

import pyarrow as pa
import pytest

from synthgen.commands.lookup import find_objects
from synthgen.errors import UserMistake
from synthgen.stages.pack import redact

ROOT = "/data/photos"
OBJECTS = [  # object_id, uri, image_id, row
    ("o1", f"{ROOT}/cat.jpg", "i1", None),
    ("o2", f"{ROOT}/cat.jpg", "i2", None),  # a later version
    ("o3", f"{ROOT}/deep/cat.jpg", "i3", None),
    ("o4", f"{ROOT}/deep/dog.jpg", "i4", None),
    ("o5", f"{ROOT}/other/bird.jpg", "i5", None),
    ("o6", f"{ROOT}/deep/bird.jpg", None, None),
    ("o7", "s3://bucket/photos/x/fish.png", "i1", None),
    ("o8", f"{ROOT}/all.parquet", "i8", 0),
    ("o9", f"{ROOT}/deep/all.parquet", "i9", 7),
    ("o10", f"{ROOT}/deep/rows.parquet", None, 0),
    ("o11", f"{ROOT}/deep/rows.parquet", None, 1),
    ("o12", f"{ROOT}/scans/a.pdf#page=1", "i12", None),
    ("o13", f"{ROOT}/scans/a.pdf#page=2", "i13", None),
    ("o14", "s3://bucket/s.tar#x/7.jpg", "i14", None),
    ("gone", "", None, None),
]


def tables() -> list[pa.Table]:
    names = ("object_id", "uri", "image_id", "row")
    return [pa.table({name: pa.array([row[at]]) for at, name in enumerate(names)}) for row in OBJECTS]


def meant(*names: str) -> dict[str, set[str]]:
    objects = find_objects("data", tables, names, partial(redact.uri, root=ROOT))
    return {name: set(ids) for name, ids in objects.items()}


def refusals(*names: str) -> list[str]:
    with pytest.raises(UserMistake) as caught:
        meant(*names)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("o4", {"o4"}),
        ("i1", {"o1", "o7"}),
        (f"{ROOT}/cat.jpg", {"o1", "o2"}),
        ("cat.jpg", {"o1", "o2"}),  # shown so in samples, though another file has this name
        ("deep/cat.jpg", {"o3"}),
        ("dog.jpg", {"o4"}),
        ("fish.png", {"o7"}),
        ("x/fish.png", {"o7"}),
        ("all.parquet", {"o8"}),
        ("deep/rows.parquet", {"o10", "o11"}),
        ("scans/a.pdf", {"o12", "o13"}),
        ("a.pdf#page=2", {"o13"}),
        ("s3://bucket/s.tar", {"o14"}),
        ("7.jpg", {"o14"}),
    ],
)
def test_a_name_means_its_objects(name: str, ids: set[str]) -> None:
    assert meant(name) == {name: ids}


def test_an_ambiguous_name_is_reported_with_some_places_and_an_unknown_one_with_the_nearest_name() -> None:
    assert refusals("bird.jpg", "dgo.jpg", "rows.parquet", "zzzzzzzzzzzz", "dep/dog.jpg") == [
        "data: bird.jpg names 2 objects: deep/bird.jpg, other/bird.jpg; give more of the uri, or the object id",
        "data: rows.parquet names 2 objects: deep/rows.parquet row 0, deep/rows.parquet row 1; "
        "give object ids, or the whole uri for all rows",
        *(
            f"data: holds no image {name}; {near}give an object id, an image id, or a uri or file name "
            "as samples and 0-listed have it"
            for name, near in (
                ("dgo.jpg", "did you mean 'dog.jpg'? "),
                ("zzzzzzzzzzzz", ""),
                ("dep/dog.jpg", "did you mean 'deep/dog.jpg'? "),
            )
        ),
    ]


def test_no_name_means_nothing_and_a_bare_record_has_no_name() -> None:
    assert meant() == {}
    assert len(refusals("")) == 1
