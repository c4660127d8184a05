"""Which instruction types suit an image: the learned mapping beside its rivals.

    python benchmarks/mapping.py [--quick] [--no-vlm]

A seed of drawn pictures, each with three questions that its scene supports, teaches `synth learn`; other pictures, which no
model was trained on, say who is right. Each way ranks the instruction types for each picture; precision at k is the share of
its first k that the scene supports, at R with as many as it supports. Types that suit nearly every picture are left out, as
whoever names them is right; a tie counts as its average. A mapping written by hand says how much of each type is wanted, not
only which suit, so its rank here is no judgement of it. The rivals: all types alike; the types that are commonest in the
seed, the same for every picture; the CLIP match of image and type text, as TaskGalaxy does (arXiv 2502.09925); and the VLM
choosing for itself, from a list under a schema, and in the nano VLM's own words, where it may decline to ask.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from drawn import Picture, pictures
from model_choice import Task, choices

from synthgen import taggers as tagging
from synthgen.commands.learn import LearnRequest, TfidfSettings, learn
from synthgen.commands.learn.classify import FAMILIES
from synthgen.config import mapping as mappings
from synthgen.config import pipeline as pipelines
from synthgen.config import prompt_pack
from synthgen.config.mapping import ImageSize
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import Prompts
from synthgen.config.taxonomy import Taxonomy
from synthgen.engines.kinds import resolve_model
from synthgen.stages.plan.assign import Weights
from synthgen.taggers import ClipTagger, ClipTaggerFile, TaggerSpec
from synthgen.workers import leave_ray, once

Ranking = Mapping[str, float]  # type -> score; what it does not name has 0
AT = (1, 3, 5)
EVERYWHERE = 0.95  # a type that suits this share of the pictures tells no ways apart
ASKED = 3  # questions of a picture of the seed
BATCH = 64
RIVALS = ("uniform", "commonest", "clip match", "vlm, from a list", "vlm, asked for each")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="600 pictures to learn from and 100 to rank for, not 1500 and 400"
    )
    parser.add_argument("--no-vlm", action="store_true", help="leave the engine out")
    given = parser.parse_args()
    seed, test = pictures("teach", 600 if given.quick else 1500), pictures("test", 100 if given.quick else 400)
    pipeline = pipelines.load("demo")
    prompts = prompt_pack.load(pipeline.generate.prompts)
    ways = ranked(pipeline, prompts, seed, test)
    if not given.no_vlm:
        ways |= by_model(pipeline, prompts, test)
    found = table(prompts, test, ways)
    rivals = {name: found[name]["R"] for name in RIVALS if name in found}
    best = max(rivals, key=lambda name: rivals[name])
    record = {
        "benchmark": "mapping",
        "ours": found["learned"]["R"],
        "rival": best,
        "ratio": round(found["learned"]["R"] / rivals[best], 3),
    }
    print(json.dumps(record | {"precision": found}))


def ranked(
    pipeline: Pipeline, prompts: Prompts, seed: Sequence[Picture], test: Sequence[Picture]
) -> dict[str, list[Ranking]]:
    """Every way that needs no engine."""
    spec = tagging.load(pipeline.tag.taggers[0])
    found, seen = found_tags(spec, seed), found_tags(spec, test)
    true = [sorted(picture.tags) for picture in test]
    shown = Counter(path for picture in seed for path in asked(picture, prompts))
    plain = TfidfSettings(is_plain=True, top_k=len(prompts.types))
    rules = {
        name: learned(pipeline, prompts, seed, found, how)
        for name, how in (("learned", TfidfSettings()), ("plain", plain))
    }
    by_words = learned(pipeline, prompts, seed, found, TfidfSettings(), types_given=False)
    by_gold = learned(pipeline, prompts, seed, [sorted(picture.tags) for picture in seed], TfidfSettings())
    by_hand = mappings.load(pipeline.plan.mapping, spec.taxonomy.tree, list(prompts.types))
    return {
        "uniform": [{}] * len(test),
        "commonest": [shown] * len(test),
        "clip match": clip_match(spec, prompts, test),
        "learned": weights(rules["learned"], seen),
        "learned, as printed": weights(rules["plain"], seen),
        "learned, types by words": weights(by_words, seen),
        "learned, gold tags": weights(by_gold, true),
        "written by hand": weights(by_hand, seen),
        "gold": [dict.fromkeys(supported(picture, prompts), 1.0) for picture in test],
    }


def supported(picture: Picture, prompts: Prompts) -> list[str]:
    """The paths of the types that a picture supports, in its own order."""
    by_name = {path.rpartition("/")[2]: path for path in prompts.types}
    return [by_name[one.type] for one in picture.questions]


def asked(picture: Picture, prompts: Prompts) -> list[str]:
    """The types that a picture of the seed was asked."""
    return supported(picture, prompts)[:ASKED]


def opened(spec: TaggerSpec) -> ClipTagger:
    """The tagger, of which it is known that it is one of open_clip."""
    assert isinstance(spec.file, ClipTaggerFile)
    return ClipTagger(spec, spec.file)


def found_tags(spec: TaggerSpec, given: Sequence[Picture]) -> list[list[str]]:
    """What the nano CLIP finds on each picture."""
    tool, found = opened(spec), list[list[str]]()
    for start in range(0, len(given), BATCH):
        batch = [tool.prepare(picture.image, None) for picture in given[start : start + BATCH]]
        found += [[tag["path"] for tag in one.tags] for one in tool.tag(batch)]
    return found


def clip_match(spec: TaggerSpec, prompts: Prompts, test: Sequence[Picture]) -> list[Ranking]:
    """The likeness of each picture and each type's texts to the nano CLIP, whose phrasings are averaged as those of tags are."""
    texts = {path: (kind.name, f"{kind.name}: {kind.needs}", kind.about) for path, kind in prompts.types.items()}
    nodes = {path: prompts.tree.nodes[path] for path in prompts.types}
    types = Taxonomy("types", "instruction types", replace(prompts.tree, nodes=nodes), texts)
    tool, found = opened(replace(spec, taxonomy=types)), list[Ranking]()
    for start in range(0, len(test), BATCH):
        batch = [tool.prepare(picture.image, None) for picture in test[start : start + BATCH]]
        found += [dict(zip(texts, map(float, row), strict=True)) for row in tool.probabilities(tool.embed(batch))]
    return found


def learned(
    pipeline: Pipeline,
    prompts: Prompts,
    seed: Sequence[Picture],
    tags: Sequence[Sequence[str]],
    how: TfidfSettings,
    types_given: bool = True,
) -> mappings.RuleSet:
    """What `synth learn` makes of the seed; the file is read back as a run would read it."""
    rows = [
        {
            "conversations": [turn for one in picture.questions[:ASKED] for turn in said(one.text, one.answer)],
            "tags": found,
            **({"types": asked(picture, prompts)} if types_given else {}),
        }
        for picture, found in zip(seed, tags, strict=True)
    ]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("seed.json").write_text(json.dumps(rows), encoding="utf-8")
            path, _ = learn(LearnRequest("seed.json", "learned", pipeline, how))
            return mappings.load(str(path), tagging.load(pipeline.tag.taggers[0]).taxonomy.tree, list(prompts.types))
        finally:
            os.chdir(before)


def said(question: str, answer: str) -> list[dict[str, str]]:
    """A turn in LLaVA's form."""
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def weights(rules: mappings.RuleSet, tags: Sequence[Sequence[str]]) -> list[Ranking]:
    """What a mapping gives to each picture."""
    weigh = Weights(rules, sorted({path for line in rules.rules for path in line.ask}), {})
    return [weigh.by_type(rules.match(found, ImageSize(144, 144))) for found in tags]


def by_model(pipeline: Pipeline, prompts: Prompts, test: Sequence[Picture]) -> dict[str, list[Ranking]]:
    """Both ways of the VLM, and a line on how well the first was heeded."""
    settings = pipeline.generate.engine
    task = Task(resolve_model(pipeline.generate), settings, prompts, tuple(picture.image for picture in test))
    try:
        found = once(choices, task, settings)
    finally:
        leave_ray()
    given = len(test) - len(found.failures) - found.none
    print(f"vlm, from a list: a choice for {given} of {len(test)} pictures, the empty list for {found.none}", end="")
    print(f"; no choice for {len(found.failures)}, the first: {found.failures[0]}\n" if found.failures else "\n")
    return {"vlm, from a list": found.listed, "vlm, asked for each": found.asked}


def table(
    prompts: Prompts, test: Sequence[Picture], ways: Mapping[str, Sequence[Ranking]]
) -> dict[str, dict[str, float]]:
    """Prints precision at each k of each way, the best last, and returns it."""
    right = [set(supported(picture, prompts)) for picture in test]
    telling = [path for path in prompts.types if sum(path in one for one in right) < EVERYWHERE * len(test)]
    asking = [number for number, one in enumerate(right) if one.intersection(telling)]
    calls = {"vlm, from a list": 1 + FAMILIES, "vlm, asked for each": len(prompts.types)}
    found: dict[str, dict[str, float]] = {}
    for name, rankings in ways.items():
        scores = {number: [rankings[number].get(path, 0.0) for path in telling] for number in asking}
        rows = [row(scores[number], [path in right[number] for path in telling]) for number in asking]
        found[name] = {key: round(sum(one[key] for one in rows) / len(rows), 4) for key in rows[0]}
    print(
        f"{len(test)} pictures, {len(telling)} of {len(prompts.types)} instruction types (the others suit nearly every picture)"
    )
    print(f"{'precision at':<26}" + "".join(f"{key:>8}" for key in (*AT, "R")) + "   calls of the VLM for a picture")
    for name in sorted(found, key=lambda name: found[name]["R"]):
        print(
            f"{name:<26}" + "".join(f"{found[name][str(key)]:8.3f}" for key in (*AT, "R")) + f"{calls.get(name, 0):6}"
        )
    return found


def row(scores: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """Precision of one picture at each k."""
    return {str(k): precision(scores, right, k) for k in AT} | {"R": precision(scores, right, sum(right))}


def precision(scores: Sequence[float], right: Sequence[bool], k: int) -> float:
    """The share of the first k that is right; of a tie that goes beyond k each member counts as much as the others."""
    left, hits = float(k), 0.0
    for score in sorted(set(scores), reverse=True):
        group = [is_right for one, is_right in zip(scores, right, strict=True) if one == score]
        taken = min(left, len(group))
        hits += taken * sum(group) / len(group)
        left -= taken
    return hits / k


if __name__ == "__main__":
    main()
