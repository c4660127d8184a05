"""Write the samples of a run as LLaVA's JSON, with the images beside it."""

import json
import sys
from pathlib import Path
from typing import Any

import synthgen

ROLES = {"user": "human", "assistant": "gpt"}


def conversation(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return messages in LLaVA's form, with `<image>` where the image stands."""
    return [
        {
            "from": ROLES[message["role"]],
            "value": "\n".join(part["text"] if part["type"] == "text" else "<image>" for part in message["content"]),
        }
        for message in messages
    ]


def export(run: str, target: Path) -> int:
    """Write `data.json` and `images/` into `target`; return the number of samples."""
    images = target / "images"
    images.mkdir(parents=True, exist_ok=True)
    records = []
    for sample in synthgen.load_samples(run):
        name = f"{sample['image_id']}.png"
        sample["images"][0].save(images / name)
        records.append({"id": sample["id"], "image": name, "conversations": conversation(sample["messages"])})
    (target / "data.json").write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    return len(records)


if __name__ == "__main__":
    print(f"{export(sys.argv[1], Path(sys.argv[2]))} samples")
