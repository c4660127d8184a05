"""How right a model is, during training, about rows that are held out: by what is asked, from the start on.

An answer is right if each of its tokens is the likeliest one after those before it. A forward pass tells; nothing is
generated, so this is above what `synth evaluate` finds, where the model goes on from its own words.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from synthgen.config.training import TrainConfig
from synthgen.tables import make_id
from synthgen.train import held_out
from synthgen.train.agreement import Spares, agree
from synthgen.train.dataset import ShardFile
from synthgen.train.encode import Encoder
from synthgen.train.feed import Feed
from synthgen.train.forms import Row
from synthgen.train.group import Group
from synthgen.train.loader import Batch, chunks, to_device
from synthgen.train.loss import judge_answers, turn_losses
from synthgen.train.turns import TurnLoss

Place = tuple[ShardFile, int, str]  # the file, the number of the row in it, and the data set


class Measure:
    """The held-out rows by which a model is measured, the same at each step; none where nothing is held out.

    Args:
        feed: The data sets.
        settings: How many rows, how often, and the limits on a row.
        processor: Of the model.
        spares: As `agree` takes them.
        group: The processes, which share the rows.
    """

    def __init__(self, feed: Feed, settings: TrainConfig, processor: Any, spares: Spares | None, group: Group) -> None:
        self._feed, self._settings, self._processor = feed, settings, processor
        self._spares, self._group = spares, group
        self._places = sorted(_places(feed), key=_order)[: settings.held_out_rows] if settings.hold_out else []

    def is_due(self, step: int) -> bool:
        """Return whether the model is measured after a step: at regular ones, and after the last."""
        is_regular = step % self._settings.held_out_every == 0 or step == self._settings.steps
        return bool(self._places) and is_regular

    def answers(self, model: Any) -> list[TurnLoss]:
        """Return the answers of all rows. All processes of the group must call this."""
        encoder, turns = Encoder(self._processor, self._settings), list[TurnLoss]()
        model.eval()
        with torch.no_grad():
            for start in range(0, len(self._places), self._settings.batch):
                batch = self._encode(encoder, start)
                for micro_batch in agree(batch, self._spares, self._group).micro_batches:
                    placed = to_device(micro_batch, self._group.device)
                    turns += turn_losses(placed, *judge_answers(model, placed))
        model.train()
        return [turn for each in self._group.gather(turns) for turn in each]

    def _encode(self, encoder: Encoder, start: int) -> Batch:
        """Return this process's share of the rows of a batch."""
        places = self._places[start : start + self._settings.batch]
        rows = list(self._rows(places[self._group.rank :: self._group.size]))
        encoded = [encoder.encode(chunk) for chunk in chunks(rows, self._settings.micro_batch or self._settings.batch)]
        usable = [each for each, _ in encoded if each and each.answer_tokens]
        return Batch(usable, Counter(), start)

    def _rows(self, places: list[Place]) -> Iterator[Row]:
        store, is_one = self._feed.store(self._settings), len(self._feed.taken) == 1
        for file, number, source in places:
            yield {**store.row(file, number), **({} if is_one else {"source": source}), "length": 0}


def _places(feed: Feed) -> Iterator[Place]:
    for data in feed.taken:
        files = {file.sha256: file for file in data.files}
        for digest, row in held_out.read(feed.folder, data.name, held_out.HELD):
            yield files[digest], row, data.name


def _order(place: Place) -> str:
    file, row, _ = place
    return make_id("measured", file.sha256, str(row))
