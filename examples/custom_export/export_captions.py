"""Write the answers in sentences of a run as captions, a JSON line each, with the images beside them."""

import json
import sys
from pathlib import Path
from typing import Any

import synthgen

FORMS = ("brief", "detailed")  # of answers in sentences


def captions(sample: dict[str, Any]) -> list[str]:
    """Return the answers in sentences; every second message is an answer."""
    answers = [message["content"][0]["text"] for message in sample["messages"][1::2]]
    return [answer for answer, form in zip(answers, sample["forms"], strict=True) if form in FORMS]


def export(run: str, target: Path) -> int:
    """Write `captions.jsonl` and `images/` into `target`; return the number of captions."""
    count = 0
    (target / "images").mkdir(parents=True, exist_ok=True)
    with (target / "captions.jsonl").open("w", encoding="utf-8") as file:
        for sample in synthgen.load_samples(run, streaming=True):
            name = f"images/{sample['image_id']}.png"
            for caption in captions(sample):
                sample["images"][0].save(target / name)
                file.write(json.dumps({"image": name, "text": caption}, ensure_ascii=False) + "\n")
                count += 1
    return count


if __name__ == "__main__":
    print(f"{export(sys.argv[1], Path(sys.argv[2]))} captions")
