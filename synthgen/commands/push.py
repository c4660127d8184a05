"""`synth push`: the shards of a run and their card as a data set on the Hugging Face hub.

Shards are sent one after the other, and one commit then makes all of them and the card the new version. So nobody ever
reads half a version, and a push that was killed sends only what the hub lacks: it knows a file by its SHA-256, which
the commits of the run have too.

`upload_large_folder` is not used: huggingface_hub 2 no longer has it, and it makes a version in several commits.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from synthgen import __version__
from synthgen.commands.export import shards_of
from synthgen.console import StageProgress, note, pluralize
from synthgen.errors import SynthError, UserMistake, one_line
from synthgen.store import DataFile, RunFolder
from synthgen.store.remote import error_text
from synthgen.tables import PACK, SELECT

TOKEN = "HF_TOKEN"  # the environment variable; nothing else is asked for the secret
KIND = "dataset"
MADE_BY = "synthgen"  # a tag of the card
CARD = "README.md"
NAME = re.compile(r"[\w.-]+/[\w.-]+")
MAIN = "main"
MOST_IN_GROUP = 300_000_000  # bytes of a row group that the viewer of the hub reads
# Status of an answer → what it means and what to do.
REFUSALS = {
    401: f"the hub does not accept the token in {TOKEN}; make a new one at {{endpoint}}/settings/tokens",
    403: f"the token in {TOKEN} may not write here; give it write access, or name another owner",
    404: "the hub has no such repository or revision, or the token may not see it",
    409: "the hub has something else there already; name another tag",
    412: "somebody else has changed it meanwhile; run the same command again",
    413: "a shard is too large for the hub; pack smaller ones with pack.shard_megabytes",
    429: "the hub asks for a pause; run the same command again later, and it goes on",
}


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
    from huggingface_hub import CommitOperationDelete

    files = _checked_files(folder)
    with _hub_errors(request.repo) as api:
        card = _checked_card(folder)
        have = _open_repository(api, request)
        operations, sent = _send(api, folder, files, request, have)
        deleted = sorted(name for name in have.hashes if name.startswith("data/") and name not in files)
        revision = _commit(api, request, card, [*operations, *map(CommitOperationDelete, deleted)], have)
        if request.tag and have.tags.get(request.tag) != revision:  # after a kill it may be there already
            api.create_tag(request.repo, tag=request.tag, revision=revision, repo_type=KIND)
        url = f"{api.endpoint}/datasets/{request.repo}"
    return Pushed(request.repo, url, revision, request.tag, len(files), sent, len(deleted))


def text(pushed: Pushed) -> str:
    """Return what came of a push as lines for a terminal."""
    what = f"{pluralize(pushed.shards, 'shard')}, of which {pushed.sent:,} sent now"
    lines = [f"{what}; {pluralize(pushed.deleted, 'older shard')} deleted" if pushed.deleted else what]
    pinned = pushed.tag or pushed.revision
    return "\n".join(
        [*lines, f"{pushed.url}/tree/{pinned}", f'load_dataset("{pushed.repo}", split="train", revision="{pinned}")']
    )


# --- the run ----------------------------------------------------------------------------------------------------------


def _checked_files(folder: RunFolder) -> dict[str, tuple[str, DataFile]]:
    """Return the files of a run by their path on the hub, each with its partition.

    Raises:
        UserMistake: The shards are not those of the decisions, or have no card.
    """
    shards = shards_of(folder)
    log, again = folder.log(PACK), f"finish it with `synth run --out {folder.out.url}`"
    turns = sum(count for name, count in log.counts().items() if name != "samples")
    if folder.log(SELECT).counts().get("kept", 0) != turns:
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


# --- the hub ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """What the hub has before a push.

    Attributes:
        hashes: Every file → the SHA-256 of a large one, None for a small one.
        card: The id that git gives to the card; None if there is none.
        head: The newest commit of the branch.
        tags: Tag → commit.
    """

    hashes: Mapping[str, str | None]
    card: str | None
    head: str
    tags: Mapping[str, str]


@contextmanager
def _hub_errors(repo: str) -> Iterator[Any]:
    """Yield a client of the hub, and turn its errors into one line each; none of them quotes the token.

    Raises:
        UserMistake: There is no token, or the hub refuses it.
        SynthError: The hub failed or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get(TOKEN) or False)
    if not os.environ.get(TOKEN):
        raise UserMistake(f"{TOKEN} is not set; set it to a token with write access ({api.endpoint}/settings/tokens)")
    try:
        yield api
    except SynthError:
        raise
    except OfflineModeIsEnabled as error:
        raise UserMistake("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it") from error
    except Exception as error:
        failed = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error  # of an upload
        status = failed.response.status_code if isinstance(failed, HfHubHTTPError) else None
        if status in REFUSALS:
            raise UserMistake(f"{repo}: {REFUSALS[status].format(endpoint=api.endpoint)}") from error
        what = f"the hub answers {status}" if status else error_text(failed)
        raise SynthError(f"{repo}: {what}; what was sent is kept, run the same command again") from error


def _checked_card(folder: RunFolder) -> bytes:
    """Return the card, which the hub has looked at before anything is sent; note it where it states no licence.

    Raises:
        UserMistake: The hub refuses its metadata, as a licence that it does not know.
    """
    from huggingface_hub import DatasetCard

    card = folder.stage(PACK).folder.read(CARD)
    if "license" not in yaml.safe_load(card.split(b"---\n")[1]):
        note("the card states no licence; set pack.license, run again and push again to add one")
    try:
        DatasetCard(card.decode()).validate(repo_type=KIND)
    except ValueError as error:
        why = f"the hub refuses the card: {one_line(_faults(str(error)), 300)}"
        raise UserMistake(f"{folder.out.url}: {why}; change pack.license or pack.languages, and run again") from error
    return card


def _faults(answer: str) -> str:
    """Return what the hub finds wrong with a card, from its answer in JSON, or the answer."""
    try:
        return "; ".join(fault["message"] for fault in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        return answer


def _open_repository(api: Any, request: PushRequest) -> Repository:
    """Make the repository and the branch where they are missing, and return what is there.

    Raises:
        UserMistake: It holds a data set that no run made, or the tag names another version.
    """
    repo = request.repo
    api.create_repo(repo, repo_type=KIND, private=request.is_private or None, exist_ok=True)
    if request.branch != MAIN:
        api.create_branch(repo, branch=request.branch, repo_type=KIND, exist_ok=True)
    info = api.dataset_info(repo, revision=request.branch, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings or ()}
    is_foreign = CARD in files or any(name.startswith("data/") for name in files)
    if is_foreign and MADE_BY not in (info.tags or ()):
        raise UserMistake(f"{repo}: holds a data set that no synth run made; push under another name")
    refs = api.list_repo_refs(repo, repo_type=KIND)
    hashes = {name: file.lfs.sha256 if file.lfs else None for name, file in files.items()}
    card = files[CARD].blob_id if CARD in files else None
    return Repository(hashes, card, info.sha, {tag.name: tag.target_commit for tag in refs.tags})


def _send(
    api: Any, folder: RunFolder, files: Mapping[str, tuple[str, DataFile]], request: PushRequest, have: Repository
) -> tuple[list[Any], int]:
    """Send the shards that the hub lacks, one in memory at a time; return the operations of the commit, and how many.

    Raises:
        UserMistake: The tag names another version.
    """
    from huggingface_hub import CommitOperationAdd

    missing = {name: place for name, place in files.items() if have.hashes.get(name) != place[1].sha256}
    if request.tag in have.tags and (missing or have.tags[request.tag] != have.head):
        raise UserMistake(f"{request.repo}: the tag {request.tag} names another version; give this one another tag")
    operations, largest = [], 0
    with _without_bars(), StageProgress("push", len(missing), "shard") as progress:
        for number, (name, (partition, file)) in enumerate(missing.items()):
            data = folder.stage(PACK).read_verified("data", partition, file)
            largest = max(largest, _largest_group(data))
            addition = CommitOperationAdd(name, data)
            del data
            api.preupload_lfs_files(request.repo, [addition], repo_type=KIND, revision=request.branch)
            operations.append(addition)
            progress.show(number + 1)
    if largest > MOST_IN_GROUP:
        most = f"it reads groups up to {MOST_IN_GROUP / 1e6:.0f} MB and these have {largest / 1e6:,.0f}"
        note(f"the viewer of the hub will show no rows: {most}; lower pack.row_group_megabytes")
    return operations, len(operations)


def _largest_group(shard: bytes) -> int:
    """Return the bytes of the largest row group of a shard, as they are in memory."""
    about = pq.ParquetFile(pa.BufferReader(shard), pre_buffer=False).metadata
    return max(about.row_group(number).total_byte_size for number in range(about.num_row_groups))


def _commit(api: Any, request: PushRequest, card: bytes, changes: list[Any], have: Repository) -> str:
    """Make the card and what was sent or is deleted one commit, and return it; the head if nothing differs."""
    from huggingface_hub import CommitOperationAdd

    if not changes and have.card == hashlib.sha1(b"blob %d\0" % len(card) + card).hexdigest():
        note(f"nothing to do: {request.repo} has this version already")
        return have.head
    commit = api.create_commit(
        request.repo,
        [*changes, CommitOperationAdd(CARD, card)],
        commit_message=f"Shards and card by synth push of synthgen {__version__}",
        repo_type=KIND,
        revision=request.branch,
        parent_commit=have.head,
    )
    return str(commit.oid)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Have huggingface_hub show no bars of its own within this block."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
