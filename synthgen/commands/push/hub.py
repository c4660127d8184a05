"""A data set on the Hugging Face hub, through huggingface_hub: what is there, what is sent, and a commit of it all.

The token comes from the environment and is given to the client alone; no message quotes it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from synthgen import __version__
from synthgen.console import StageProgress, note
from synthgen.errors import SynthError, UserMistake, one_line
from synthgen.store import DataFile, RunFolder
from synthgen.store.remote import error_text
from synthgen.tables import PACK

TOKEN = "HF_TOKEN"  # the environment variable; nothing else is asked for the secret
KIND = "dataset"
MADE_BY = "synthgen"  # a tag of the card
CARD = "README.md"
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
    tags: Mapping[str | None, str]


@contextmanager
def hub_errors(repo: str) -> Iterator[Any]:
    """Yield a client of the hub, and turn its errors into one line each.

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


@dataclass(frozen=True)
class Hub:
    """A branch of a repository on the hub; `api` is a client as of `hub_errors`."""

    api: Any
    repo: str
    branch: str

    @property
    def url(self) -> str:
        """The page of the repository."""
        return f"{self.api.endpoint}/datasets/{self.repo}"

    def check_card(self, card: bytes, where: str) -> None:
        """Have the hub look at a card before anything is sent; note it where it states no licence.

        Raises:
            UserMistake: The hub refuses its metadata, as a licence that it does not know.
        """
        from huggingface_hub import DatasetCard

        if "license" not in yaml.safe_load(card.split(b"---\n")[1]):
            note("the card states no licence; set pack.license, run again and push again to add one")
        try:
            DatasetCard(card.decode()).validate(repo_type=KIND)
        except ValueError as error:
            why = f"the hub refuses the card: {one_line(_faults(str(error)), 300)}"
            raise UserMistake(f"{where}: {why}; change pack.license or pack.languages, and run again") from error

    def open(self, is_private: bool) -> Repository:
        """Make the repository and the branch where they are missing, and return what is there.

        Raises:
            UserMistake: It holds a data set that no run made.
        """
        self.api.create_repo(self.repo, repo_type=KIND, private=is_private or None, exist_ok=True)
        if self.branch != MAIN:
            self.api.create_branch(self.repo, branch=self.branch, repo_type=KIND, exist_ok=True)
        info = self.api.dataset_info(self.repo, revision=self.branch, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or ()}
        has_data = CARD in files or any(name.startswith("data/") for name in files)
        if has_data and MADE_BY not in (info.tags or ()):
            raise UserMistake(f"{self.repo}: holds a data set that no synth run made; push under another name")
        refs = self.api.list_repo_refs(self.repo, repo_type=KIND)
        hashes = {name: file.lfs.sha256 if file.lfs else None for name, file in files.items()}
        card = files[CARD].blob_id if CARD in files else None
        return Repository(hashes, card, info.sha, {tag.name: tag.target_commit for tag in refs.tags})

    def send(self, folder: RunFolder, missing: Mapping[str, tuple[str, DataFile]]) -> list[Any]:
        """Send shards, one in memory at a time, and return what a commit adds them by.

        Args:
            folder: The run.
            missing: Path on the hub → partition and file.
        """
        from huggingface_hub import CommitOperationAdd

        additions, largest = [], 0
        with _without_bars(), StageProgress("push", len(missing), "shard") as progress:
            for number, (name, (partition, file)) in enumerate(missing.items()):
                data = folder.stage(PACK).read_verified("data", partition, file)
                largest = max(largest, _largest_group(data))
                addition = CommitOperationAdd(name, data)
                del data  # the client lets go of it too
                self.api.preupload_lfs_files(self.repo, [addition], repo_type=KIND, revision=self.branch)
                additions.append(addition)
                progress.show(number + 1)
        if largest > MOST_IN_GROUP:
            most = f"it reads groups up to {MOST_IN_GROUP / 1e6:.0f} MB and these have {largest / 1e6:,.0f}"
            note(f"the viewer of the hub will show no rows: {most}; lower pack.row_group_megabytes")
        return additions

    def commit(
        self, additions: Sequence[Any], deleted: Sequence[str], others: Mapping[str, bytes], have: Repository
    ) -> str:
        """Make a commit of what was sent, what is deleted and the card, and return it; the head if nothing differs.

        Args:
            additions: As of `send`.
            deleted: Paths on the hub.
            others: Path → the card, and its pictures, which differ only where the card does.
            have: What is on the branch.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        card = others[CARD]
        blob = hashlib.sha1(b"blob %d\0" % len(card) + card).hexdigest()
        if not additions and not deleted and have.card == blob:
            note(f"nothing to do: {self.repo} has this version already")
            return have.head
        commit = self.api.create_commit(
            self.repo,
            [
                *additions,
                *map(CommitOperationDelete, deleted),
                *(CommitOperationAdd(name, data) for name, data in others.items()),
            ],
            commit_message=f"Shards and card by synth push of synthgen {__version__}",
            repo_type=KIND,
            revision=self.branch,
            parent_commit=have.head,
        )
        return str(commit.oid)

    def tag(self, name: str, revision: str) -> None:
        """Give a version a name."""
        self.api.create_tag(self.repo, tag=name, revision=revision, repo_type=KIND)


def _faults(answer: str) -> str:
    """Return what the hub finds wrong with a card, from its answer in JSON, or the answer."""
    try:
        return "; ".join(fault["message"] for fault in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        return answer


def _largest_group(shard: bytes) -> int:
    """Return the bytes of the largest row group of a shard, as they are in memory."""
    about = pq.ParquetFile(pa.BufferReader(shard), pre_buffer=False).metadata
    return max(int(about.row_group(number).total_byte_size) for number in range(about.num_row_groups))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Have huggingface_hub show no bars of its own within this block."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
