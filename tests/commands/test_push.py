"""A push makes a run the newest version of a data set on a hub, at once or not at all; what is there is not sent."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.commands.push import Pushed, PushRequest, push, text
from synthgen.commands.push import hub as hub_client
from synthgen.config.packing import PackConfig
from synthgen.config.selection import SelectConfig
from synthgen.errors import SynthError, UserMistake
from synthgen.store import Folder, RunFolder
from tests.fixtures.exporting import run
from tests.fixtures.hub_server import TOKEN, Commit, Hub, hub, make_oid
from tests.fixtures.packing import World, pictures
from tests.fixtures.rows import describe_run
from tests.fixtures.workspace import ROOT

__all__ = ["hub", "run"]
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own client
REPO = PushRequest("me/set")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a packed run of two shards."""
    made = World(tmp_path)
    for epoch in (1, 2):
        made.add(epoch, pictures(2, start=2 * epoch))
        made.pack()
    describe_run(made.out)
    made.lease.release()
    return made


def pushed(world: World, request: PushRequest = REPO) -> Pushed:
    return push(RunFolder(world.out), request)


def refusal(world: World, request: PushRequest = REPO) -> str:
    with pytest.raises(UserMistake) as caught:
        pushed(world, request)
    assert "\n" not in str(caught.value) and TOKEN not in str(caught.value)
    return str(caught.value)


def local(world: World) -> dict[str, bytes]:
    """Return what a run publishes, by its place on the hub."""
    shards = {f"data/{path.name}": path.read_bytes() for path in world.files}
    return {**shards, "README.md": Path(world.out.path, "5-shards/README.md").read_bytes()}


def on_hub(hub: Hub, revision: str = "main", repo: str = "me/set") -> dict[str, bytes]:
    return {name: data for name, data in hub.content(repo, revision).items() if name != ".gitattributes"}


def test_the_hub_gets_the_shards_and_the_card_in_one_commit_with_a_tag(world: World, hub: Hub, tmp_path: Path) -> None:
    done = pushed(world, replace(REPO, tag="v1"))
    assert on_hub(hub) == on_hub(hub, "v1") == on_hub(hub, done.revision) == local(world)
    assert len(hub.repos["me/set"]["main"]) == 2, "the empty repository, and this version"
    assert (done.shards, done.sent, done.deleted) == (2, 2, 0)
    assert text(done).splitlines() == [
        "2 shards, of which 2 sent now",
        f"{hub.url}/datasets/me/set/tree/v1",
        'load_dataset("me/set", split="train", revision="v1")',
    ]


def test_what_the_hub_has_loads_by_its_card_alone(world: World, hub: Hub, tmp_path: Path) -> None:
    pushed(world)
    for name, data in on_hub(hub).items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    data = datasets.load_dataset(str(tmp_path / "copy"), split="train", cache_dir=str(tmp_path / "cache"))
    assert data["id"][:] == [row["id"] for row in world.samples]
    assert data[0]["images"][0].size == (48, 48)


def test_a_push_again_sends_nothing_and_makes_no_version(
    world: World, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pushed(world)
    again = pushed(world)
    assert "nothing to do: me/set has this version already" in capsys.readouterr().err
    assert (again.revision, again.sent) == (first.revision, 0) and len(hub.sent) == 2


def test_a_grown_run_sends_what_is_new_and_deletes_what_is_no_longer_part_of_it(world: World, hub: Hub) -> None:
    first = pushed(world, replace(REPO, tag="v1"))
    world.lease = type(world.lease).take(world.out)
    world.select = SelectConfig(forbidden=("answer 1",))
    world.pack()
    world.add(3, pictures(1, start=9))
    world.pack()
    world.lease.release()
    second = pushed(world, replace(REPO, tag="v2"))
    assert on_hub(hub, "v2") == local(world) and second.deleted == 2
    assert set(on_hub(hub, "v1")) == set(on_hub(hub, first.revision)) != set(on_hub(hub))
    told = refusal(world, replace(REPO, tag="v1"))
    assert told == "me/set: the tag v1 names another version; give this one another tag"


def test_a_branch_is_made_and_leaves_the_main_one_alone(world: World, hub: Hub) -> None:
    done = pushed(world, replace(REPO, branch="next"))
    assert on_hub(hub, "next") == local(world) == on_hub(hub, done.revision)
    assert not on_hub(hub)


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_is_continued_and_sends_no_shard_twice(world: World, hub: Hub) -> None:
    program = (
        "import os, signal, sys\n"
        "from synthgen.commands import push\n"
        "from synthgen.commands.push import hub\n"
        "from synthgen.store import Folder, RunFolder\n"
        "hub.Hub.commit = lambda *given: os.kill(os.getpid(), signal.SIGKILL)\n"
        "push.push(RunFolder(Folder(sys.argv[1])), push.PushRequest('me/set', tag='v1'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, world.out.url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert TOKEN.encode() not in done.stdout + done.stderr
    assert not on_hub(hub), "nobody reads half a version"
    pushed(world, replace(REPO, tag="v1"))
    assert on_hub(hub, "v1") == local(world)
    assert sorted(hub.sent) == sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in world.files)


@pytest.mark.parametrize("verb", ["create", "revision", "refs", "store", "preupload", "commit", "tag"])
def test_a_hub_that_fails_at_any_request_is_one_line_and_the_same_command_goes_on(
    world: World, hub: Hub, verb: str
) -> None:
    hub.fault = lambda method, path: 400 if verb in path.split("/") else None
    with pytest.raises(SynthError) as caught:
        pushed(world, replace(REPO, tag="v1"))
    assert str(caught.value) == "me/set: the hub answers 400; what was sent is kept, run the same command again"
    hub.fault = lambda method, path: None
    pushed(world, replace(REPO, tag="v1"))
    assert on_hub(hub, "v1") == local(world) and len(set(hub.sent)) == len(world.files)


def test_a_hub_that_cannot_be_reached_is_one_line(world: World, hub: Hub) -> None:
    hub.fault = lambda method, path: -1
    with pytest.raises(SynthError) as caught:
        pushed(world)
    assert str(caught.value).endswith("; what was sent is kept, run the same command again")
    assert TOKEN not in str(caught.value) and "\n" not in str(caught.value)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the hub does not accept the token in HF_TOKEN; make a new one at"),
        (403, "the token in HF_TOKEN may not write here"),
        (412, "somebody else has changed it meanwhile"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(world: World, hub: Hub, status: int, told: str) -> None:
    hub.fault = lambda method, path: status if "/commit/" in path else None
    assert refusal(world).startswith(f"me/set: {told}")


def test_what_somebody_else_commits_meanwhile_is_not_written_over(world: World, hub: Hub) -> None:
    def commit_between(method: str, path: str) -> None:
        if "/store/" in path and len(hub.repos["me/set"]["main"]) == 1:
            hub.repos["me/set"]["main"].append(Commit(make_oid("theirs"), {"README.md": b"theirs"}))

    hub.fault = commit_between
    assert refusal(world) == "me/set: somebody else has changed it meanwhile; run the same command again"
    assert on_hub(hub) == {"README.md": b"theirs"}


def test_a_data_set_that_no_run_made_is_left_alone(world: World, hub: Hub) -> None:
    hub.create("me/set", {"README.md": b"---\ntags: [mine]\n---\n", "data/a.parquet": b"mine"})
    before = on_hub(hub)
    assert refusal(world) == "me/set: holds a data set that no synth run made; push under another name"
    assert on_hub(hub) == before and not hub.sent


def test_a_push_needs_a_token_a_name_and_a_packed_run(
    world: World, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(world, PushRequest("set")) == "'set' is no name on the hub; give OWNER/NAME"
    monkeypatch.delenv("HF_TOKEN")
    assert refusal(world) == f"HF_TOKEN is not set; set it to a token with write access ({hub.url}/settings/tokens)"
    empty = Folder(str(tmp_path / "empty"))
    describe_run(empty)
    with pytest.raises(UserMistake, match="this run has no shards yet"):
        push(RunFolder(empty), REPO)
    assert not hub.requests


def test_shards_that_are_older_than_the_decisions_are_not_published(world: World, hub: Hub) -> None:
    world.lease = type(world.lease).take(world.out)
    world.select = SelectConfig(forbidden=("answer 1",))
    world.decide()
    world.lease.release()
    assert refusal(world) == (
        f"{world.out.url}: its shards are older than its decisions; finish it with `synth run --out {world.out.url}`"
    )


def test_a_licence_that_the_hub_has_no_name_for_is_told_before_anything_is_sent(
    world: World, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed(world)
    assert "the card states no licence; set pack.license" in capsys.readouterr().err
    hub.requests.clear()
    world.lease = type(world.lease).take(world.out)
    world.context = replace(world.context, pack=PackConfig(license="mine"))
    world.pack()
    world.lease.release()
    told = refusal(world)
    assert '"license" must be one of' in told and told.endswith("change pack.license or pack.languages, and run again")
    assert not hub.sent


# --- the secret -------------------------------------------------------------------------------------------------------


def test_the_token_is_in_no_file_and_in_nothing_that_is_printed(
    world: World, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = pushed(world, replace(REPO, tag="v1"))
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err + text(done) + json.dumps(vars(done))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert TOKEN.encode() not in b"".join(on_hub(hub).values())
    assert TOKEN not in str(hub.requests)


def test_row_groups_that_the_viewer_cannot_read_are_told(
    world: World, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed(world)
    assert "viewer" not in capsys.readouterr().err
    monkeypatch.setattr(hub_client, "MOST_IN_GROUP", 10)
    pushed(world, PushRequest("me/other"))
    assert "the viewer of the hub will show no rows" in capsys.readouterr().err
