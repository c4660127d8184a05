"""The images that a model was tuned on, by the record that `synth train` leaves beside it.

An answer about a picture that a model has learned says nothing of what it can do with others, nor does one about a copy
of it in another size or compression: where perceptual hashes of the training's pictures are known, near ones count too.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthgen.commands.evaluate.question_set import QuestionSet
from synthgen.config.source import ImagesConfig
from synthgen.dedup.images import near_hashes
from synthgen.errors import Failure
from synthgen.ingest.images import DecoderPool
from synthgen.train.sightings import SeenImages, images_seen


def seen_images(models: Sequence[str]) -> list[SeenImages]:
    """Return the images that each model was tuned on; none where no training is on record beside it.

    Raises:
        UserMistake: What is known of a training's rows is gone, so that nobody can tell.
        Damaged: The record of a training is damaged.
    """
    return [images_seen(Path(model)) for model in models]


def seen_in(questions: QuestionSet, seen: Sequence[SeenImages], images: ImagesConfig) -> frozenset[str]:
    """Return the images of questions that a model was tuned on, near copies included."""
    ids = frozenset[str]().union(*(each.ids for each in seen))
    of_questions = {question.image_id for question in questions.all()}
    hashed = [each for each in seen if each.hashes]
    if not hashed:
        return ids & of_questions
    own = _hashes(questions, of_questions - ids, images)
    distinct = np.unique(np.array(list(own.values()), np.uint64))
    near = set[int]()
    for each in hashed:
        known = np.array(sorted(each.hashes), np.uint64)
        near.update(distinct[near_hashes(distinct, known, each.bits)[0]].tolist())
    return (ids & of_questions) | {image for image, value in own.items() if value in near}


def _hashes(questions: QuestionSet, wanted: set[str], images: ImagesConfig) -> dict[str, int]:
    """Return the perceptual hashes of some images of the questions."""
    found = dict[str, int]()
    with DecoderPool[str](images) as pool:
        for partition in questions.log.partitions:
            files = questions.files(partition)
            for image, decoded in pool.decode_many((name, files[name]) for name in files if name in wanted):
                if not isinstance(decoded, Failure):
                    found[image] = decoded.phash
    return found
