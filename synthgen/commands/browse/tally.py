"""Counts of a run by type, form, language and tag, made in the background: pages show them as far as they are."""

from collections.abc import Sequence
from threading import Lock, Thread

from synthgen.commands.report import outcomes
from synthgen.commands.report.branches import Branches
from synthgen.errors import SynthError
from synthgen.store import RunFolder


class Tally:
    """The counts of a snapshot; whoever reads them holds `lock`."""

    def __init__(self, folder: RunFolder, partitions: Sequence[str]) -> None:
        """Prepare the counts; nothing is read before `start`."""
        self.lock = Lock()
        self.counts: outcomes.Counts = {kind: {} for kind in outcomes.KINDS}
        self.branches = Branches()
        self.done, self.total = 0, len(partitions)
        self.trouble = ""
        self._folder, self._partitions = folder, partitions
        self._thread: Thread | None = None
        self._is_stopped = False

    @property
    def is_whole(self) -> bool:
        """Whether everything is counted."""
        return self.done == self.total

    def start(self) -> None:
        """Begin to count, unless it has begun."""
        with self.lock:
            if self._thread is None:
                self._thread = Thread(target=self._count, name="tally", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the count after the partition that is being read."""
        self._is_stopped = True
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> None:
        """Wait for the end of the count."""
        self.start()
        if self._thread is not None:
            self._thread.join()

    def _count(self) -> None:
        try:
            for partition in self._partitions:
                if self._is_stopped:
                    return
                rows = outcomes.read_rows(self._folder, partition)
                with self.lock:
                    outcomes.count_rows(rows, self.counts)
                    self.branches.add(self._folder, partition, rows)
                    self.done += 1
        except SynthError as error:
            self.trouble = str(error)
