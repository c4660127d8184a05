"""What is true of every plan that is complete, whatever it was made from."""

from collections import Counter
from collections.abc import Mapping

from planning_world import Row, World

from synthgen import plan, status
from synthgen.rows import ASSIGNMENTS, IMAGES, OBJECTS
from synthgen.store import Stage
from synthgen.taxonomy import matches


def check(world: World, terms: plan.Terms) -> None:
    """What is true of every plan that is complete and of today's terms."""
    images, live = world.images(), world.assignments()
    tagged = {row["object_id"]: row for row in world.rows("1-tagged", "images", IMAGES)}
    assert set(images) == {one for one, row in tagged.items() if row["outcome"] == "tagged"}, "tagged is planned, quarantined is not"
    check_counts(world, images, live)
    check_duplicates(images, tagged, terms.settings.near_duplicates)
    check_versions(world, images)
    drawer = plan.Drawer(terms, {})
    asked: dict[str, set[str]] = {}
    for row in live.values():
        asked.setdefault(row["object_id"], set()).add(row["assignment_id"])
    for one, row in images.items():
        drawn = {each["assignment_id"] for each in drawer.draw({**tagged[one], **row})} if row["outcome"] == "planned" else set()
        assert asked.get(one, set()) == drawn, f"{one} is asked just what its tags and the mapping say"
        assert (row["outcome"] == "unserved") <= (not drawer.draw({**tagged[one], **row}))


def check_quotas(world: World, terms: plan.Terms) -> None:
    """What is true of every complete plan with quotas: the rest of `check`, and that nothing is over a cap or was not drawn."""
    images, live = world.images(), world.assignments()
    check_counts(world, images, live)
    tagged = {row["object_id"]: row for row in world.rows("1-tagged", "images", IMAGES)}
    drawer, asked = plan.Drawer(terms, {}), Counter(row["object_id"] for row in live.values())
    drawn = {one["assignment_id"] for key, row in images.items() for one in drawer.draw({**tagged[key], **row})}
    assert set(live) <= drawn
    for one, row in images.items():
        if row["outcome"] in ("planned", "over_quota"):
            assert (row["outcome"] == "planned") == bool(asked[one])
    for pattern, cap in terms.settings.caps.items():
        assert sum(matches(pattern, row["type"]) for row in live.values()) <= cap


def check_counts(world: World, images: Mapping[str, Row], live: Mapping[str, Row]) -> None:
    world.out.write("run.json", b"{}")
    funnel = status.funnels(world.out)[1]
    assert funnel.to_do == 0 and funnel.went == sum(row["outcome"] == "planned" for row in images.values())
    retired = [row for row in world.rows("2-planned", "assignments", ASSIGNMENTS) if row["retired"]]
    counts = Stage(world.out, "2-planned").log().counts()
    assert (counts.get("assigned", 0), counts.get("retired", 0)) == (len(live), len(retired))
    assert {name: n for name, n in counts.items() if name not in ("assigned", "retired")} == Counter(r["outcome"] for r in images.values())


def check_duplicates(images: Mapping[str, Row], tagged: Mapping[str, Row], bits: int) -> None:
    """Of equal or near images one is kept, and it stands for the others."""
    kept = [one for one, row in images.items() if row["outcome"] in ("planned", "unserved")]
    assert len({images[one]["image_id"] for one in kept}) == len(kept), "no bytes are planned twice"
    for number, one in enumerate(kept):
        for other in kept[:number] if bits >= 0 else ():
            assert (tagged[one]["phash"] ^ tagged[other]["phash"]).bit_count() > bits, "no two near images are planned"
    for row in images.values():
        assert (row["same_as"] is not None) == (row["outcome"] in ("same_bytes", "near_duplicate"))
        if row["same_as"] is None:
            continue
        assert row["same_as"] in kept
        assert (row["outcome"] == "same_bytes") == (row["image_id"] == images[row["same_as"]]["image_id"])
        if row["outcome"] == "near_duplicate":  # it, or one with its bytes: here these may have several hashes
            hashes = [tagged[other]["phash"] for other, its in images.items() if its["image_id"] == row["image_id"]]
            assert min((phash ^ tagged[row["same_as"]]["phash"]).bit_count() for phash in hashes) <= bits


def check_versions(world: World, images: Mapping[str, Row]) -> None:
    """Of the versions of a place that were tagged, the newest counts."""
    newest: dict[str, str] = {}
    for row in world.rows("0-listed", "objects", OBJECTS):
        newest[row["uri"]] = row["object_id"]
    if not world.untagged():
        for one, row in images.items():
            assert (row["outcome"] == "changed") == (newest[row["uri"]] != one)
