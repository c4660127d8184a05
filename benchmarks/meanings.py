"""Texts that are alike in meaning or in form: near embeddings beside brute force, and phrases beside first words.

The texts are the questions of the drawn world about the demo's scenes, each in its three wordings. First, all are
embedded by the text tower of the demo's CLIP and compared within cells, as `select.semantic` does; for a sample the
cosine with all texts before it is counted. `recall` is the share of those near to an earlier kept text that are
dropped, `precision` the share of the dropped ones that are near to an earlier text; `again` is the time of a second
selection, for which nothing is embedded, over that of the first. `paraphrases` says what these embeddings know: of
1,000 questions in three wordings each, the share of the texts that is dropped, of which two thirds would be right, and
the share of these whose survivor is another wording of the same question; beside it the same by the Jaccard similarity
of `select.global_questions`. Last, the speed of a real text tower (ViT-B-32, with random weights, as fast as any).

Then phrases. Of the templates with four words or more in a row outside their slots, one is found if nine in ten of its
questions share a phrase or, for first words, the four words that they begin with. `led_in` is the same with words
before the questions, as models write them.

    python benchmarks/meanings.py [--quick]
"""

import json
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from driver import ROOT, is_quick

from synthgen.config.deduplication import QuestionMeaningsConfig
from synthgen.dedup import near_embeddings, near_texts, plain_texts
from synthgen.dedup.phrases import find_phrases, learn_phrases, split_words
from synthgen.engines.text_model import TextModel
from synthgen.stages.select.embedded import EmbeddedTexts
from synthgen.stages.select.meanings import Meanings
from synthgen.store import Folder

COSINE, JUDGED = 0.97, 1000
FEWEST, SHARED = 50, 0.9  # questions of a template that count; share of them that has a phrase
LEAD_INS = ("", "In this picture, ", "Looking at the image, ", "Tell me: ", "Based on what you see, ")
Question = tuple[tuple[str, int], str]  # template and wording, text


def main() -> None:
    """Measure both; print tables, then one line of JSON."""
    quick = is_quick(__doc__)
    asked = list(questions(4_000 if quick else 1_000_000))
    record = {"benchmark": "meanings", **measure_meanings([text for _, text in asked]), **paraphrases(1_000)}
    if not quick:
        record["vit_b_32_per_second"] = speed_of_a_real_tower()
    record |= {name: templates(asked, lead_ins) for name, lead_ins in (("plain", LEAD_INS[:1]), ("led_in", LEAD_INS))}
    print(json.dumps(record))


def questions(most: int) -> Iterator[Question]:
    """Yield questions about the demo's scenes in an order by chance, no text twice."""
    drawn = [(kind, wording, text) for kind, texts in _all_questions() for wording, text in enumerate(texts)]
    random.Random(0).shuffle(drawn)
    seen = set[str]()
    for kind, wording, text in drawn:
        if text not in seen and len(seen) < most:
            seen.add(text)
            yield (kind, wording), text


def _all_questions() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the kind and the three wordings of each question about each scene."""
    sys.path.insert(0, str(ROOT))
    from demo.ground_truth import qa_pairs
    from demo.truth import load_scenes

    for scene in load_scenes().values():
        for pair in qa_pairs(scene, scene.rng("questions")):
            yield pair.kind, tuple(pair.question(wording) for wording in range(3))


def nano() -> TextModel:
    """Return the text tower of the demo's CLIP."""
    return TextModel(str(ROOT / "demo/models/nano-clip"), digest="nano")


def measure_meanings(texts: list[str]) -> dict[str, Any]:
    """Compare texts by their embeddings twice, and judge what was found."""
    plain = plain_texts(texts)
    with tempfile.TemporaryDirectory() as folder:
        seconds = list[float]()
        for turn in range(2):
            start = time.process_time()
            made = EmbeddedTexts(nano(), Folder(f"{folder}/out"))
            meanings = Meanings(Path(folder) / str(turn), "plain", QuestionMeaningsConfig(cosine=COSINE), made)
            meanings.add(pa.table({"number": np.arange(len(plain)), "plain": plain}))
            found = meanings.clusters(np.arange(len(plain)), np.ones(len(plain), bool), 0)
            seconds.append(time.process_time() - start)
    kept = np.ones(len(plain), bool)
    kept[found.members] = False
    judged = judge(unit(nano().open()(plain.to_pylist())), kept)
    again = round(seconds[1] / seconds[0], 3)
    print(f"{len(plain):,} texts: {seconds[0]:.1f} s of a core, again {seconds[1]:.1f} s; {(~kept).sum():,} dropped")
    print(f"beside brute force: recall {judged['recall']:.4f}, precision {judged['precision']:.4f}")
    return {"texts": len(plain), "cpu_seconds": round(seconds[0], 1), "again": again, **judged}


def judge(vectors: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return recall and precision over some texts, by their cosine with all texts before them."""
    right = missed = wrong = 0
    for number in random.Random(1).sample(range(1, len(kept)), min(JUDGED, len(kept) - 1)):
        cosines = vectors[:number] @ vectors[number]
        right += bool(not kept[number] and (cosines >= COSINE - 1e-3).any())
        missed += bool(kept[number] and (cosines[kept[:number]] >= COSINE + 1e-3).any())
        wrong += bool(not kept[number] and not (cosines >= COSINE - 1e-3).any())
    recall, precision = right / max(1, right + missed), right / max(1, right + wrong)
    return {"recall": round(recall, 4), "precision": round(precision, 4)}


def paraphrases(count: int) -> dict[str, Any]:
    """Return which pairs of texts are near among some questions, each in three wordings, by the two ways to compare."""
    chosen = random.Random(2).sample(sorted({texts for _, texts in _all_questions() if len(set(texts)) == 3}), count)
    plain = plain_texts([text for texts in chosen for text in texts])
    of, vectors = np.repeat(np.arange(count), 3), nano().open()(plain.to_pylist()).astype(np.float16)
    ways = {
        "cosine": near_embeddings(vectors, COSINE, np.arange(len(plain), dtype=np.uint64)),
        "jaccard": near_texts(plain, threshold=0.8),
    }
    found = dict[str, list[float]]()
    for name, survivor in ways.items():
        dropped = np.flatnonzero(survivor != np.arange(len(survivor)))
        right = float((of[dropped] == of[survivor[dropped]]).mean())
        found[name] = [round(len(dropped) / len(plain), 3), round(right, 3)]
        print(f"wordings by {name}: {found[name][0]:.3f} dropped, {right:.3f} of these for the same question")
    return {"paraphrases": found}


def speed_of_a_real_tower() -> float:
    """Return the texts a core second of the text tower of ViT-B-32."""
    import open_clip
    import torch

    model, tokenizer = open_clip.create_model("ViT-B-32").eval(), open_clip.get_tokenizer("ViT-B-32")
    tokens = tokenizer(["what is the main colour of the large red bus on the left of the square"] * 64)
    with torch.inference_mode():
        model.encode_text(tokens[:4])
        start = time.process_time()
        model.encode_text(tokens)
        speed = len(tokens) / (time.process_time() - start)
    print(f"the text tower of ViT-B-32 embeds {speed:.0f} texts a second of a core")
    return round(speed, 1)


def templates(asked: list[Question], lead_ins: tuple[str, ...]) -> dict[str, int]:
    """Return how many templates are found by phrases and by first words, and how many there are."""
    draw = random.Random(3)
    words = split_words(plain_texts([draw.choice(lead_ins) + text for _, text in asked]))
    phrases = learn_phrases(words, 4)
    by_phrase = defaultdict[Any, Counter[Any]](Counter)
    for text, phrase in zip(*(part.tolist() for part in find_phrases(words, phrases)), strict=True):
        by_phrase[asked[text][0]][phrase] += 1
    by_start, sizes = defaultdict[Any, Counter[Any]](Counter), Counter(template for template, _ in asked)
    for (template, _), text in zip(asked, words, strict=True):
        by_start[template][tuple(text[:4])] += len(text) >= 4
    many = [template for template, size in sizes.items() if size >= FEWEST and has_run(template)]
    found = {
        name: sum(max(shared[template].values(), default=0) >= SHARED * sizes[template] for template in many)
        for name, shared in (("phrases", by_phrase), ("first_words", by_start))
    }
    counts = ", ".join(f"{count} by {name}" for name, count in found.items())
    print(f"{len(many)} templates with {len(lead_ins)} ways to begin: {counts}")
    return {"templates": len(many), **found}


def has_run(template: tuple[str, int]) -> bool:
    """Return whether a wording has four words or more in a row outside its slots."""
    from demo.question_templates import QUESTIONS

    kind, wording = template
    return any(len(part.split()) >= 4 for part in re.split(r"\{\d\}", QUESTIONS[kind][1][wording].strip("?")))


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
