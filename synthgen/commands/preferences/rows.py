"""A preference as a row: image, prompt and both answers as TRL's DPOTrainer takes them, and where they are from."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.stages.pack.schema import IMAGE, MESSAGES, with_features
from synthgen.tables import make_id

Row = dict[str, Any]
SHARD_COLUMNS = ("images", "messages", "image_id", "object_id", "license", "pair_ids", "types", "forms", "languages")
COLUMNS = {
    "id": "the preference: a hash of the pair and of the rejected answer",
    "images": "one image, decoded to a PIL image by the datasets library",
    "prompt": "the question, the image first; of a question that goes on from another, that one and its answer too",
    "chosen": "the answer that the instruction data has",
    "rejected": "another answer of the same model to the same question",
    "pair_id": "the pair of the chosen answer, as in the records of the run",
    "image_id, object_id": "the image, as in the instruction data",
    "license": "of the image, where the source states one",
    "type, form, language": "of the question",
    "source": "the score that sampled the rejected answer; its row of this pair has all of them in detail",
    "votes": "answers to the question that were compared",
    "chosen_share, rejected_share": "the share of them that say what the chosen and what the rejected answer says",
    "margin": "chosen_share less rejected_share",
    "score_…": "the scores of the chosen answer; the rejected one was never scored",
}


def preference_schema(scores: Sequence[str]) -> pa.Schema:
    """Return the columns of a preference; `scores` are columns of the shards, `score_NAME`."""
    texts = ("pair_id", "image_id", "object_id", "license", "type", "form", "language", "source")
    return with_features(
        [
            ("id", pa.string()),
            ("images", pa.list_(IMAGE)),
            *((name, MESSAGES) for name in ("prompt", "chosen", "rejected")),
            *((name, pa.string()) for name in texts),
            ("votes", pa.int32()),
            *((name, pa.float32()) for name in ("chosen_share", "rejected_share", "margin")),
            *((name, pa.float32()) for name in scores),
        ]
    )


def preference_row(sample: Row, turn: int, candidate: Row, scores: Sequence[str]) -> Row:
    """Return the row of a preference.

    Args:
        sample: Of the shards, with SHARD_COLUMNS and `scores`.
        turn: The turn of the pair in it.
        candidate: The rejected answer with its shares, and the pair that this one `follows`.
        scores: The columns of scores.
    """
    pair = sample["pair_ids"][turn]
    turns = [*([sample["pair_ids"].index(candidate["follows"])] if candidate["follows"] else []), turn]
    *earlier, asked, chosen = [message for place in turns for message in sample["messages"][2 * place : 2 * place + 2]]
    prompt = [_text_message(message["role"], _text(message)) for message in (*earlier, asked)]
    prompt[0]["content"].insert(0, {"type": "image", "text": None})
    return {
        "id": make_id("preference", pair, candidate["rejected"]),
        "images": sample["images"],
        "prompt": prompt,
        "chosen": [_text_message("assistant", _text(chosen))],
        "rejected": [_text_message("assistant", candidate["rejected"])],
        "pair_id": pair,
        **{name: sample[name] for name in ("image_id", "object_id", "license")},
        **{name: sample[f"{name}s"][turn] for name in ("type", "form", "language")},
        **{name: candidate[name] for name in ("source", "votes", "chosen_share", "rejected_share")},
        "margin": candidate["chosen_share"] - candidate["rejected_share"],
        **{name: sample[name][turn] for name in scores},
    }


def row_bytes(row: Mapping[str, Any]) -> int:
    """Return about how many bytes a row takes: its image, its texts, and an estimate for the other columns."""
    texts = (
        part["text"] or "" for name in ("prompt", "chosen", "rejected") for m in row[name] for part in m["content"]
    )
    return sum(len(image["bytes"]) for image in row["images"]) + sum(len(text.encode()) for text in texts) + 1000


def _text(message: Row) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def _text_message(role: str, text: str) -> Row:
    return {"role": role, "content": [{"type": "text", "text": text}]}
