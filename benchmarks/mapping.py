"""The instruction types that suit an image: the learned mapping beside its rivals.

A seed of drawn pictures, each with three questions that its scene supports, teaches `synth learn`; other pictures,
which no model was trained on, are the test. Each way ranks the instruction types for each picture; precision at k is
the share of its first k that the scene supports, at R with as many as it supports. Types that suit nearly every picture
are left out, because naming them is always right; a tie counts as its average. A mapping written by hand says how much
of each type is wanted, not only which suit, so its rank here is no judgement of it. The rivals: all types equal; the
most common types of the seed, the same for every picture; the CLIP similarity of image and type text, as in TaskGalaxy
(arXiv 2502.09925); and the VLM choosing for itself, from a list under a schema, and in the nano VLM's own words, where
it may decline to ask.

    python benchmarks/mapping.py [--quick] [--no-vlm]
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from drawn_pictures import Picture, pictures
from model_choice import Task, choices

from synthgen import taggers as tagging
from synthgen.commands.learn import LearnRequest, TfidfSettings, learn
from synthgen.commands.learn.classify import FAMILIES
from synthgen.config import mapping as mappings
from synthgen.config import pipeline as pipelines
from synthgen.config import prompt_pack
from synthgen.config.mapping import ImageFacts
from synthgen.config.pipeline import Pipeline
from synthgen.config.planning import LearnConfig
from synthgen.config.prompt_pack import Prompts
from synthgen.config.taxonomy import Node, Taxonomy, Tree
from synthgen.engines.kinds import resolve_model
from synthgen.stages.plan.weights import Weights
from synthgen.taggers import ClipTagger, ClipTaggerFile, TaggerSpec
from synthgen.workers import leave_ray, run_in_actor

Ranking = Mapping[str, float]  # type -> score; a type that is missing has 0
AT = (1, 3, 5)
EVERYWHERE = 0.95  # a type that suits this share of the pictures does not tell the ways apart
ASKED = 3  # questions of a picture of the seed
BATCH = 64
RIVALS = (
    "all types equal",
    "the seed's most common types",
    "CLIP similarity",
    "VLM, from a list",
    "VLM, asked for each",
)


def main() -> None:
    """Rank and measure; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="600 pictures to learn from and 100 to rank for, not 1500 and 400"
    )
    parser.add_argument("--no-vlm", action="store_true", help="leave the engine out")
    args = parser.parse_args()
    seed, test = pictures("teach", 600 if args.quick else 1500), pictures("test", 100 if args.quick else 400)
    pipeline = pipelines.load("demo")
    prompts = prompt_pack.load(pipeline.generate.prompts)
    ways = rank_without_engine(pipeline, prompts, seed, test)
    if not args.no_vlm:
        ways |= rank_by_model(pipeline, prompts, test)
    precisions = print_table(prompts, test, ways)
    rivals = {name: precisions[name]["R"] for name in RIVALS if name in precisions}
    best = max(rivals, key=lambda name: rivals[name])
    ours = precisions["learned"]["R"]
    record = {"benchmark": "mapping", "ours": ours, "rival": best, "ratio": round(ours / rivals[best], 3)}
    print(json.dumps(record | {"precision": precisions}))


def rank_without_engine(
    pipeline: Pipeline, prompts: Prompts, seed: Sequence[Picture], test: Sequence[Picture]
) -> dict[str, list[Ranking]]:
    """Rank in every way that needs no engine."""
    spec = tagging.load(pipeline.tag.taggers[0])
    seed_tags, test_tags = find_tags(spec, seed), find_tags(spec, test)
    true_tags = [sorted(picture.tags) for picture in test]
    counts = Counter(path for picture in seed for path in asked_types(picture, prompts))
    plain = TfidfSettings(is_plain=True, top_k=len(prompts.types))
    rules = {
        name: learn_rules(pipeline, prompts, seed, seed_tags, settings)
        for name, settings in (("learned", TfidfSettings()), ("plain", plain))
    }
    by_words = learn_rules(pipeline, prompts, seed, seed_tags, TfidfSettings(), has_types=False)
    by_truth = learn_rules(pipeline, prompts, seed, [sorted(picture.tags) for picture in seed], TfidfSettings())
    by_hand = mappings.load(pipeline.plan.mapping, spec.taxonomy.tree, list(prompts.types))
    return {
        "all types equal": [{}] * len(test),
        "the seed's most common types": [counts] * len(test),
        "CLIP similarity": rank_by_clip(spec, prompts, test),
        "learned": rank_by_rules(rules["learned"], test_tags),
        "learned, as published": rank_by_rules(rules["plain"], test_tags),
        "learned, types by word similarity": rank_by_rules(by_words, test_tags),
        "learned, true tags": rank_by_rules(by_truth, true_tags),
        "written by hand": rank_by_rules(by_hand, test_tags),
        "gold": [dict.fromkeys(supported_types(picture, prompts), 1.0) for picture in test],
    }


def supported_types(picture: Picture, prompts: Prompts) -> list[str]:
    """Return the paths of the types that a picture supports, in the order of its questions."""
    by_name = {path.rpartition("/")[2]: path for path in prompts.types}
    return [by_name[question.type] for question in picture.questions]


def asked_types(picture: Picture, prompts: Prompts) -> list[str]:
    """Return the types that a picture of the seed was asked."""
    return supported_types(picture, prompts)[:ASKED]


def open_tagger(spec: TaggerSpec) -> ClipTagger:
    """Return the tagger, which must be one of open_clip."""
    assert isinstance(spec.file, ClipTaggerFile)
    return ClipTagger(spec, spec.file)


def find_tags(spec: TaggerSpec, test: Sequence[Picture]) -> list[list[str]]:
    """Return the tags that the nano CLIP finds on each picture."""
    tagger, tags = open_tagger(spec), list[list[str]]()
    for start in range(0, len(test), BATCH):
        batch = [tagger.prepare(picture.image, None) for picture in test[start : start + BATCH]]
        tags += [[tag["path"] for tag in result.tags] for result in tagger.tag(batch)]
    return tags


def rank_by_clip(spec: TaggerSpec, prompts: Prompts, test: Sequence[Picture]) -> list[Ranking]:
    """Rank types by the nano CLIP's similarity of picture and type text, phrasings averaged as those of tags are."""
    texts = {kind.name: (kind.name, f"{kind.name}: {kind.needs}", kind.about) for kind in prompts.types.values()}
    nodes = {name: Node(name, "") for name in texts}  # without groups
    types = Taxonomy("types", Tree(nodes), texts, frozenset(texts))
    tagger, rankings = open_tagger(replace(spec, taxonomy=types)), list[Ranking]()
    for start in range(0, len(test), BATCH):
        batch = [tagger.prepare(picture.image, None) for picture in test[start : start + BATCH]]
        for row in tagger.probabilities(tagger.embed(batch)):  # (B, types) -> (types,)
            rankings.append(dict(zip(prompts.types, map(float, row), strict=True)))
    return rankings


def learn_rules(
    pipeline: Pipeline,
    prompts: Prompts,
    seed: Sequence[Picture],
    tags: Sequence[Sequence[str]],
    settings: TfidfSettings,
    has_types: bool = True,
) -> mappings.RuleSet:
    """Run `synth learn` on the seed and read its file as a run would.

    Args:
        pipeline: The demo's pipeline.
        prompts: Its prompts.
        seed: Pictures to learn from.
        tags: Of each picture.
        settings: How to learn.
        has_types: Whether the seed names the type of each question, or only its words.
    """
    rows = []
    for picture, picture_tags in zip(seed, tags, strict=True):
        turns = [turn for question in picture.questions[:ASKED] for turn in llava_turns(question.text, question.answer)]
        types = {"types": asked_types(picture, prompts)} if has_types else {}
        rows.append({"conversations": turns, "tags": picture_tags, **types})
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("seed.json").write_text(json.dumps(rows), encoding="utf-8")
            how = LearnConfig(top_k=settings.top_k, temperature=settings.temperature, min_support=settings.min_support)
            learning = pipeline.model_copy(update={"learn": how})
            path, _ = learn(LearnRequest("seed.json", "learned", learning, is_plain=settings.is_plain))
            return mappings.load(str(path), tagging.load(pipeline.tag.taggers[0]).taxonomy.tree, list(prompts.types))
        finally:
            os.chdir(before)


def llava_turns(question: str, answer: str) -> list[dict[str, str]]:
    """Return a question and its answer in LLaVA's form."""
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def rank_by_rules(rules: mappings.RuleSet, tags: Sequence[Sequence[str]]) -> list[Ranking]:
    """Rank types by the weights that a mapping gives to each picture."""
    weigh = Weights(rules, sorted({path for line in rules.rules for path in line.ask}), {})
    return [weigh.by_type(rules.match(dict.fromkeys(paths, 1.0), ImageFacts(144, 144))) for paths in tags]


def rank_by_model(pipeline: Pipeline, prompts: Prompts, test: Sequence[Picture]) -> dict[str, list[Ranking]]:
    """Rank in both ways of the VLM; print a line on how often the first gave a choice."""
    settings = pipeline.generate.engine
    task = Task(resolve_model(pipeline.generate), settings, prompts, tuple(picture.image for picture in test))
    try:
        result = run_in_actor(choices, task, settings)
    finally:
        leave_ray()
    chosen = len(test) - len(result.failures) - result.none
    print(f"VLM, from a list: a choice for {chosen} of {len(test)} pictures, the empty list for {result.none}", end="")
    print(f"; no choice for {len(result.failures)}, the first: {result.failures[0]}\n" if result.failures else "\n")
    return {"VLM, from a list": result.listed, "VLM, asked for each": result.asked}


def print_table(
    prompts: Prompts, test: Sequence[Picture], ways: Mapping[str, Sequence[Ranking]]
) -> dict[str, dict[str, float]]:
    """Print precision at each k of each way, the best last, and return it."""
    right = [set(supported_types(picture, prompts)) for picture in test]
    telling = [path for path in prompts.types if sum(path in types for types in right) < EVERYWHERE * len(test)]
    counted = [number for number, types in enumerate(right) if types.intersection(telling)]
    calls = {"VLM, from a list": 1 + FAMILIES, "VLM, asked for each": len(prompts.types)}
    precisions: dict[str, dict[str, float]] = {}
    for name, rankings in ways.items():
        rows = []
        for number in counted:
            scores = [rankings[number].get(path, 0.0) for path in telling]
            rows.append(precision_at_each(scores, [path in right[number] for path in telling]))
        precisions[name] = {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in rows[0]}
    print(
        f"{len(test)} pictures, {len(telling)} of {len(prompts.types)} instruction types "
        "(the others suit nearly every picture)"
    )
    print(f"{'precision at':<34}" + "".join(f"{key:>8}" for key in (*AT, "R")) + "   calls of the VLM for a picture")
    for name in sorted(precisions, key=lambda name: precisions[name]["R"]):
        cells = "".join(f"{precisions[name][str(key)]:8.3f}" for key in (*AT, "R"))
        print(f"{name:<34}{cells}{calls.get(name, 0):6}")
    return precisions


def precision_at_each(scores: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """Return the precision of one picture at each k, and at R."""
    return {str(k): precision(scores, right, k) for k in AT} | {"R": precision(scores, right, sum(right))}


def precision(scores: Sequence[float], right: Sequence[bool], k: int) -> float:
    """Return the share of the first k that is right; of a tie that goes beyond k each member counts alike."""
    remaining, hits = float(k), 0.0
    for score in sorted(set(scores), reverse=True):
        group = [is_right for other, is_right in zip(scores, right, strict=True) if other == score]
        taken = min(remaining, len(group))
        hits += taken * sum(group) / len(group)
        remaining -= taken
    return hits / k


if __name__ == "__main__":
    main()
