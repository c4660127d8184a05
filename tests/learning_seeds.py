"""Seeds in every form that `synth learn` reads, an order to learn from one, and what the mapping that comes of it asks for."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import write
from PIL import Image

from synthgen import config, mapping, prompt, taxonomy
from synthgen.learn import Order

Weights = Mapping[str, Mapping[str, float]]
READING, SCENE, COUNTING = "fine/reading", "coarse/scene", "coarse/counting"
# Documents are read, animals are counted, and of both it is asked where they are.
ROWS = [("invoice", READING), ("letter", READING), ("cat", COUNTING), ("red_panda", COUNTING), ("cat", SCENE), ("invoice", SCENE)]


def png() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(held, "PNG")
    return held.getvalue()


def llava(number: int, question: str) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "image": "one.png",
        "conversations": [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": "Yes."}],
    }


def sharegpt(number: int, question: str) -> dict[str, Any]:
    turns = [{"from": "system", "value": "Be good."}, {"from": "human", "value": question}, {"from": "gpt", "value": "Yes."}]
    return {"id": f"r{number}", "images": ["one.png"], "conversations": turns}


def trl(number: int, question: str) -> dict[str, Any]:
    asked = [{"type": "image", "text": None}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}]
    return {"id": f"r{number}", "images": [{"bytes": png(), "path": None}], "messages": messages}


def finevision(number: int, question: str) -> dict[str, Any]:
    return {"images": [{"bytes": png(), "path": None}], "texts": [{"user": question, "assistant": "Yes."}], "source": "x"}


FORMS: Mapping[str, Callable[[int, str], dict[str, Any]]] = {"llava": llava, "sharegpt": sharegpt, "trl": trl, "finevision": finevision}


def seed_rows(form: str, times: int = 4, rows: Sequence[tuple[str, str]] = ROWS) -> list[dict[str, Any]]:
    made = [(tag, kind) for _ in range(times) for tag, kind in rows]
    return [{**FORMS[form](number, "How many?"), "tags": [tag], "types": [kind]} for number, (tag, kind) in enumerate(made)]


def write_seed(path: Path, rows: Sequence[Any]) -> Path:
    if path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    lines = path.suffix == ".jsonl"
    return write(path, "".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(list(rows)))


def order(seed: Path | str, **more: Any) -> Order:
    return Order(str(seed), more.pop("name", "learned"), config.load("small", more.pop("overrides", [])), **more)


def weights_of(path: Path) -> dict[str, dict[str, float]]:
    """What the file asks for, by its first pattern, as a run would load it."""
    types = prompt.load("small").types
    loaded = mapping.load(str(path), taxonomy.load("small").tree, list(types))
    return {line.rule.patterns[0]: dict(line.ask) for line in loaded.lines}


def strongest(weights: Weights, tag: str) -> str:
    return max(weights[tag], key=lambda kind: weights[tag][kind])
