"""A comparison of the greedy replies of vLLM and of transformers, from the same exported folder.

The tables of `evaluate.py` come from transformers and the pipeline runs on vLLM, so one stands for the other only as
far as this figure goes. Prints the replies that differ, and one line of JSON last.

    python -m demo.compare_engines [--scenes 50] [--models demo/models]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from demo.evaluate import answer_calls, judge_replies
from demo.inference import Call, NanoVLM
from demo.world import HELD_OUT_SEED, sample

FIRST = 90_000  # index of the first scene; evaluate.py takes lower ones


def vllm_replies(folder: Path, prompts: Sequence[str], calls: Sequence[Call]) -> list[str]:
    """Return vLLM's greedy replies to prompts about the calls' pictures."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=str(folder),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        limit_mm_per_prompt={"image": 1, "video": 0},
    )
    inputs = [
        {"prompt": prompt, "multi_modal_data": {"image": call.image}}
        for prompt, call in zip(prompts, calls, strict=True)
    ]
    outputs = engine.generate(inputs, SamplingParams(temperature=0, max_tokens=64))
    return [output.outputs[0].text.strip() for output in outputs]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the greedy replies of vLLM and transformers.")
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    args = parser.parse_args()
    folder = args.models / "nano-vlm"
    calls, questions = answer_calls([sample(HELD_OUT_SEED, FIRST + i) for i in range(args.scenes)], 4)
    model = NanoVLM(folder)
    ours = model.reply(calls)
    theirs = vllm_replies(folder, [model.render(call) for call in calls], calls)
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    for call, a, b in zip(calls, ours, theirs, strict=True):
        if a != b:
            print(f"{call.prompt!r}: transformers {a!r}, vLLM {b!r}")
    true = [sum(judge_replies(calls, questions, replies)) for replies in (ours, theirs)]
    print(f"{equal} of {len(calls)} replies are equal; true: transformers {true[0]}, vLLM {true[1]}")
    print(json.dumps({"agreement": equal / len(calls), "replies": len(calls)}))


if __name__ == "__main__":
    main()
