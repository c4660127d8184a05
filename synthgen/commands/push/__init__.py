"""`synth push`: the shards of a run and their card as a data set on the Hugging Face hub.

Shards are sent one after the other, and one commit then makes all of them and the card the new version. So nobody ever
reads half a version, and a push that was killed sends only what the hub lacks: it knows a file by its SHA-256, which
the commits of the run have too.

`upload_large_folder` is not used: huggingface_hub 2 no longer has it, and it makes a version in several commits.
"""

import re
from dataclasses import dataclass

from synthgen.commands.export import shards_of
from synthgen.commands.push.hub import CARD, MAIN, Hub, hub_errors
from synthgen.console import pluralize
from synthgen.errors import UserMistake
from synthgen.stages.pack.card_notes import FOLDER, pictures_of, place_of
from synthgen.store import DataFile, RunFolder
from synthgen.store.run_folder import MIXTURE
from synthgen.tables import PACK, SELECT

__all__ = ["PushRequest", "Pushed", "push", "text"]

NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class PushRequest:
    """Where a run is pushed to.

    Attributes:
        repo: OWNER/NAME on the hub.
        branch: It is made if it does not exist.
        tag: A name for this version, or None.
        is_private: Whether a repository that does not exist yet is made private.
    """

    repo: str
    branch: str = MAIN
    tag: str | None = None
    is_private: bool = False


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Attributes:
        revision: The commit that has this version.
        shards: Of the version; `sent` are those that the hub lacked, `deleted` those of earlier versions.
    """

    repo: str
    url: str
    revision: str
    tag: str | None
    shards: int
    sent: int
    deleted: int


def push(folder: RunFolder, request: PushRequest) -> Pushed:
    """Make the shards of a run the newest version of a data set on the hub.

    Raises:
        UserMistake: The run is not packed, the name is none, there is no token or it may not write, or the repository
            holds a data set that no run made.
        SynthError: The hub failed; the same command goes on.
        Damaged: A shard is missing or was changed.
    """
    if not NAME.fullmatch(request.repo):
        raise UserMistake(f"'{request.repo}' is no name on the hub; give OWNER/NAME")
    files = _checked_files(folder)
    card = folder.stage(PACK).folder.read(CARD)
    with hub_errors(request.repo) as api:
        hub = Hub(api, request.repo, request.branch)
        hub.check_card(card, folder.out.url)
        have = hub.open(request.is_private)
        missing = {name: place for name, place in files.items() if have.hashes.get(name) != place[1].sha256}
        if request.tag in have.tags and (missing or have.tags[request.tag] != have.head):
            raise UserMistake(f"{request.repo}: the tag {request.tag} names another version; give this one another tag")
        sent = hub.send(folder, missing)
        pictures = {f"{FOLDER}/{name}": place_of(folder).read(name) for name in pictures_of(folder)}
        current = {*files, *pictures}
        deleted = sorted(
            name for name in have.hashes if name.startswith(("data/", f"{FOLDER}/")) and name not in current
        )
        revision = hub.commit(sent, deleted, {CARD: card, **pictures}, have)
        if request.tag and have.tags.get(request.tag) != revision:  # after a kill it may be there already
            hub.tag(request.tag, revision)
    return Pushed(request.repo, hub.url, revision, request.tag, len(files), len(sent), len(deleted))


def text(pushed: Pushed) -> str:
    """Return what came of a push as lines for a terminal."""
    what = f"{pluralize(pushed.shards, 'shard')}, of which {pushed.sent:,} sent now"
    lines = [f"{what}; {pluralize(pushed.deleted, 'older shard')} deleted" if pushed.deleted else what]
    pinned = pushed.tag or pushed.revision
    return "\n".join(
        [*lines, f"{pushed.url}/tree/{pinned}", f'load_dataset("{pushed.repo}", split="train", revision="{pinned}")']
    )


def _checked_files(folder: RunFolder) -> dict[str, tuple[str, DataFile]]:
    """Return the files of a run by their path on the hub, each with its partition.

    Raises:
        UserMistake: The shards are not those of the decisions, or have no card.
    """
    shards = shards_of(folder)
    log, again = folder.log(PACK), f"finish it with `synth run --out {folder.out.url}`"
    turns = sum(count for name, count in log.counts().items() if name != "samples")
    is_run = MIXTURE not in (folder.record or {})
    if is_run and folder.log(SELECT).counts().get("kept", 0) != turns:
        raise UserMistake(f"{folder.out.url}: its shards are older than its decisions; {again}")
    if CARD not in folder.stage(PACK).folder.names(".md"):
        raise UserMistake(f"{folder.out.url}: its shards have no card yet; {again}")
    return {
        f"data/{file.name}": (name, file)
        for name in shards
        for part in log.parts(name, "data")
        for file in part.files
        if file.rows
    }
