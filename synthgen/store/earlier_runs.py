"""Output folders of earlier runs that a run reads and never writes: `select.against` and `plan.against`."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthgen.errors import Mistakes, SynthError, UserMistake
from synthgen.store.folder import Folder
from synthgen.store.opening import open_folder
from synthgen.store.patterns import expand_home
from synthgen.store.run_folder import MIXTURE, RunFolder
from synthgen.tables import StageSpec


@dataclass(frozen=True)
class EarlierRun:
    """The output folder of an earlier run.

    Attributes:
        name: The last part of its path as the user typed it, by which reasons name it.
    """

    name: str
    folder: RunFolder

    def digest(self, *specs: StageSpec) -> str:
        """Return a digest of its name and of all commits of these stages."""
        logs = ((spec, self.folder.log(spec)) for spec in specs)
        digests = (f"{key} {digest}" for spec, log in logs for key, digest in log.digests(spec, log.partitions).items())
        return hashlib.sha256("\n".join([self.name, *sorted(digests)]).encode()).hexdigest()[:32]


def open_earlier_runs(
    setting: str, named: Sequence[str], home: Path, out: Folder, needed: StageSpec
) -> tuple[EarlierRun, ...]:
    """Return the earlier runs that a setting names.

    Args:
        setting: Its name, for messages.
        named: Paths or urls of their output folders.
        home: The folder that relative paths start from.
        out: The output folder of this run.
        needed: The stage that they must have results of.

    Raises:
        Mistakes: Some of them are no runs, are this run, or have no results of that stage; or two have one name.
    """
    runs, faults = list[EarlierRun](), list[str]()
    for url in named:
        try:
            runs.append(_open(url, home, out, needed))
        except SynthError as error:
            faults.append(f"{setting}: {error}")
    counted = Counter(run.name for run in runs)
    faults += [
        f"{setting}: {count} folders are called {name}, by which reasons would name them; rename one, or link to it"
        for name, count in counted.items()
        if count > 1
    ]
    if faults:
        raise Mistakes(faults)
    return tuple(runs)


def _open(url: str, home: Path, out: Folder, needed: StageSpec) -> EarlierRun:
    place = url if "://" in url else str(home / expand_home(url))
    folder = RunFolder(open_folder(place))
    if folder.out.url == out.url:
        raise UserMistake(f"{url}: is this run itself; name the folders of other runs")
    if folder.record is None:
        raise UserMistake(f"{url}: holds no synth run; give the output folder of one")
    if MIXTURE in folder.record:
        raise UserMistake(f"{url}: is a mixture, which has shards alone; name the folders that it is of")
    if not folder.log(needed).partitions:
        raise UserMistake(f"{url}: has nothing from '{needed.typed}' yet; finish it with `synth run --out {url}`")
    typed = url.rstrip("/").rpartition("/")[2]
    name = typed if typed.strip(".~") else Path(folder.out.url).name
    return EarlierRun(re.sub(r"[^\w.-]", "_", name), folder)
