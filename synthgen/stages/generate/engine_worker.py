"""What the workers with an engine have in common, whatever their conversations are about."""

from collections import Counter
from collections.abc import Mapping

from synthgen.config.engine import EngineConfig
from synthgen.engines import Engine, ModelName, open_engine
from synthgen.engines.watchdog import WatchedEngine
from synthgen.errors import Failure, one_line
from synthgen.stages.generate.in_flight import ImagesInFlight, Limits
from synthgen.workers import Task


class EngineWorker:
    """An engine, and the images that it holds conversations about."""

    def __init__(self, limits: Limits, engine: Engine) -> None:
        self._engine = engine
        self._in_flight = ImagesInFlight(limits, engine)
        self._counters: Counter[str] = Counter()

    @property
    def room(self) -> int:
        """Conversations that may run at once; 0 before the first image."""
        return self._in_flight.room

    def drain(self) -> None:
        """Start no conversation any more."""
        self._in_flight.drain()

    def close(self) -> None:
        """End the processes that decode; those of an actor end with it."""
        self._in_flight.close()

    def progress(self) -> Mapping[str, float]:
        """Return what was counted so far: pairs, failures, tokens."""
        return dict(self._counters)


async def open_watched(model: ModelName, settings: EngineConfig) -> Engine:
    """Start an engine that counts as dead once it is silent for too long."""
    return WatchedEngine(await open_engine(model, settings), settings.stall_seconds)


def poison_failure(task: Task) -> Failure:
    """Return why the images of a task that killed its worker have no result."""
    return Failure("poison", one_line(f"the engine died on this image alone: {task.why}", 500))
