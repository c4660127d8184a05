"""Pictures of single images when a page asks for them, read again from the source, verified and decoded apart.

One thread does it, with decoders that stay: what is asked for at the same time is fetched together.
"""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from synthgen.commands.report.examples import ImagePlace
from synthgen.commands.report.pictures import PictureSize, encode, limits_of, read_pictures
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.ingest.images import DecoderPool
from synthgen.store import RunFolder

SIZES = {"small": PictureSize(480, 60_000, 0), "large": PictureSize(1280, 500_000, 0)}
MOST_BYTES = 2**26  # of pictures that are kept
AT_ONCE = 16
PATIENCE_SECONDS = 120.0

Made = bytes | str  # a picture as WebP, or why there is none


@dataclass(frozen=True)
class Asked:
    """A picture that somebody waits for."""

    image_id: str
    place: ImagePlace
    size: str
    made: "Future[Made]"


class PictureDesk:
    """Makes pictures of the images of a run, until it is closed."""

    def __init__(self, folder: RunFolder, source: SourceConfig, limits: ImagesConfig) -> None:
        self._folder, self._source, self._limits = folder, source, limits_of(limits, SIZES["large"])
        self._queue: SimpleQueue[Asked | None] = SimpleQueue()
        self._made: OrderedDict[tuple[str, str], Made] = OrderedDict()
        self._bytes, self._lock = 0, Lock()
        self._thread = Thread(target=self._work, name="pictures", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and the decoders."""
        self._queue.put(None)
        self._thread.join()

    def picture(self, image_id: str, place: ImagePlace, size: str) -> Made:
        """Return a picture of an image; `size` is one of SIZES."""
        with self._lock:
            if (image_id, size) in self._made:
                self._made.move_to_end((image_id, size))
                return self._made[image_id, size]
        asked = Asked(image_id, place, size, Future())
        self._queue.put(asked)
        return asked.made.result(PATIENCE_SECONDS)

    def _work(self) -> None:
        with DecoderPool[str](self._limits, processes=1) as pool:
            while asked := self._next():
                try:
                    self._make(pool, asked)
                except Exception as error:  # of the source, as when its store cannot be reached
                    for each in asked:
                        if not each.made.done():
                            each.made.set_exception(error)

    def _next(self) -> Sequence[Asked]:
        """Return what is asked for, once something is; nothing at the end."""
        waiting = [self._queue.get()]
        with suppress(Empty):
            while len(waiting) < AT_ONCE:
                waiting.append(self._queue.get_nowait())
        return [] if None in waiting else [each for each in waiting if each]

    def _make(self, pool: DecoderPool[str], asked: Sequence[Asked]) -> None:
        places = {each.image_id: each.place for each in asked}
        for image_id, loaded in read_pictures(self._folder, self._source, pool, places):
            for each in asked:
                if each.image_id == image_id:
                    made = loaded if isinstance(loaded, str) else encode(loaded.image, SIZES[each.size])
                    self._keep((image_id, each.size), made)
                    each.made.set_result(made)

    def _keep(self, key: tuple[str, str], made: Made) -> None:
        with self._lock:
            if isinstance(made, bytes) and key not in self._made:
                self._made[key] = made
                self._bytes += len(made)
            while self._bytes > MOST_BYTES:
                self._bytes -= len(self._made.popitem(last=False)[1])
