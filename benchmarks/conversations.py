"""Conversations of the everyday pipeline as a model sees them, for twelve everyday kinds of image.

Numbered images of each kind are planned. Those of the first number are shown at which the twelve conversations have
every form of answer together, points and boxes included, which are rare. No model is called. For the pages of
`conversations.yaml` a person has written what a good model would reply. On the others the first example that the model
is shown, which is about another image, stands in place of a question, and `…` in place of an answer. All else is what
`synth run` sends and packs.

    python benchmarks/conversations.py docs/examples
"""

import argparse
import asyncio
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from asked import Asked, Row, ask, images_of, load_kinds
from PIL import Image

from synthgen.config import pipeline, prompt_pack, taxonomy
from synthgen.config.phrasings import fill
from synthgen.config.prompt_pack import Prompts
from synthgen.config.turns import turn_text
from synthgen.engines import EngineInfo, Reply, Request
from synthgen.engines.recorder import Recorder
from synthgen.stages.generate.asking import PreparedImage
from synthgen.stages.generate.conversation import ConversationContext, converse
from synthgen.stages.generate.todo import assignment_of
from synthgen.stages.pack.samples import samples_of
from synthgen.stages.plan.images import PlannedImage
from synthgen.tables import ANSWER_FORMS

KINDS = (
    "invoice", "street", "bar chart", "pie chart", "circuit board", "pizza", "dog on a lawn", "headshot", "X-ray",
    "code editor", "satellite", "untagged",
)  # fmt: skip
DRAWS = 50  # images of each kind that are planned
WRITTEN = Path(__file__).with_name("conversations.yaml")
LETTER = "LETTER"  # in a written answer: the letter that the right option happens to have
JUDGED = ("fits", "p_true")  # scores whose calls the page shows where replies are written
NOTE = """The everyday pipeline on an image of the kind **{kind}**, made by
`python benchmarks/conversations.py docs/examples`. """
STOOD_IN = """No model was called: in place of a question stands the first example
that the model is shown, which is about another image, and in place of an answer `…`. The image comes before each text.
"""
BY_HAND = """The prompts are the real ones. No model was called: the
replies, with the image that they tell of, were made up by hand, as a good model would give them. The image comes before
each text. Of the scores two are shown: whether the image fits the question, and whether the answer is true of it.
"""


class StandIn:
    """An engine that asks the first example that it is shown."""

    facts = EngineInfo("stand-in", "1", frozenset(), None, "stand-in 1")

    async def generate(self, request: Request) -> Reply:
        """Return a reply in the shape that the request asks for."""
        if request.purpose == "ask":
            return Reply(_question(request))
        right = re.search(r"^([A-D])\. right$", request.text, re.MULTILINE)
        if request.choices:
            return Reply(right[1] if right else request.choices[0])
        return Reply(f"…\nAnswer: {right[1] if right else '…'}" if "'Answer: " in request.text else "…")

    async def close(self) -> None:
        """Do nothing."""


class Writer:
    """An engine whose replies were written by hand, by the type of their question."""

    facts = StandIn.facts

    def __init__(self, page: str, replies: Mapping[str, Mapping[str, Any]], prompts: Prompts) -> None:
        self._page, self._replies = page, replies
        self._needs = {path.rpartition("/")[2]: kind.needs for path, kind in prompts.types.items()}
        self._used, self._missing = set[str](), list[str]()

    async def generate(self, request: Request) -> Reply:
        """Return the reply to a call; one that nobody has written is noted, for `check`."""
        asked = re.match(r".*? Type: (.+?)\.", request.text)
        place, name = max((request.text.rfind(each["question"]), name) for name, each in self._replies.items())
        needs = [name for name in self._replies if self._needs.get(name, request.text) in request.text]
        if asked or (place < 0 and needs):  # whether an image fits is asked without the question
            place, name = 0, asked[1].replace(" ", "_") if asked else needs[0]
        if place < 0 or name not in self._replies:
            self._missing.append(name if asked else request.text)
            return await StandIn().generate(request)
        self._used.add(name)
        return _written(request, self._replies[name])

    def check(self) -> None:
        """Refuse calls without a written reply, and replies that no call has asked for."""
        if self._missing:
            raise SystemExit(f"{WRITTEN.name}: {self._page}: no reply for: {self._missing[0]}")
        if left := self._replies.keys() - self._used:
            raise SystemExit(f"{WRITTEN.name}: {self._page}: nothing asks for {', '.join(sorted(left))}")

    async def close(self) -> None:
        """Do nothing."""


def main(folder: Path) -> None:
    """Write a page for each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {kind.name: kind for kind in load_kinds() if kind.name in KINDS}
    number, plan = first_with_every_form(ask(list(known.values()), DRAWS))
    for name in KINDS:
        image = list(images_of(known[name], DRAWS))[number]
        path = folder / f"{name.lower().replace(' ', '_')}.md"
        rows = [row for row in plan if row["image_id"] == image.image_id]
        path.write_text("\n".join(page(name, image, rows)) + "\n", encoding="utf-8")
        print(path)


def first_with_every_form(plan: Asked) -> tuple[int, list[Row]]:
    """Return the first number whose images are together asked for every form of answer, and their planned questions."""
    for number in range(DRAWS):
        rows = [row for row in plan.rows if row["image_id"] == f"{row['object_id']} {number}"]
        if {row["form"] for row in rows} == set(ANSWER_FORMS):
            return number, rows
    raise SystemExit(f"no number up to {DRAWS} has every form of answer; plan more images")


def page(name: str, image: PlannedImage, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the page of an image of a kind, with its planned questions."""
    prompts, settings = prompt_pack.load("everyday"), pipeline.load("everyday")
    written = yaml.safe_load(WRITTEN.read_text(encoding="utf-8")).get(name)
    calls, pairs = _conversation(name, rows, prompts, settings, written)
    yield f"# {name[0].upper()}{name[1:]}"
    yield ""
    yield NOTE.format(kind=name) + (BY_HAND if written else STOOD_IN)
    yield f"Tags: {', '.join(f'`{tag}` {score:.2f}' for tag, score in image.tags.items()) or 'none'}"
    system = next((request.system for request, _ in calls if request.system), None)
    if system:
        yield from ("", "## System text of every call", "", *_block(system))
    yield from ("", "## Calls")
    for request, reply in calls:
        yield from ("", f"**{request.purpose}**", "", *_block(request.text), "", *_reply(reply.text))
    yield from ("", "## The training sample")
    for pair in pairs:
        turn = (pair["form"], pair["question"], pair["options"] or (), pair["language"], pair["pair_id"])
        yield from (
            "",
            f"`{pair['type']}`, {', '.join([pair['form'], *pair['judged']])}",
            "",
            *_block(f"{turn_text(prompts, *turn)}\n→ {pair['answer']}"),
        )


def _conversation(
    name: str, rows: Sequence[Row], prompts: Prompts, settings: pipeline.Pipeline, written: Mapping[str, Any] | None
) -> tuple[list[tuple[Request, Reply]], list[dict[str, Any]]]:
    """Return the calls of planned questions of one image, and the pairs that they make, in the order of the sample."""
    nodes = taxonomy.load("everyday").tree.nodes
    subject = PreparedImage(Image.new("RGB", (8, 8)), "pixels")
    assignments = []
    for row in rows:
        node = nodes[row["thing"]] if row["thing"] else None
        thing = fill("a {}", node.words, node.values.get("article")) if node else None
        assignments.append(assignment_of(row, "", thing))
    writer = Writer(name, written, prompts) if written else StandIn()
    engine = Recorder(writer)
    scores = JUDGED if written else ()
    context = ConversationContext(prompts, settings.generate.sampling, scores, settings.plan.seed)
    outcome = asyncio.run(converse(subject, assignments, engine, context))
    if isinstance(writer, Writer):
        writer.check()
    given = {(row["assignment_id"], score): row["value"] for score in scores for row in outcome.scores[score]}
    pairs = [
        {**row, "judged": [f"{score} {given[row['assignment_id'], score]:.2f}" for score in scores]}
        for row in outcome.pairs
        if row["outcome"] == "pair"
    ]
    return engine.calls, _in_order(pairs)


def _in_order(pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return pairs of one image in the order of a sample."""
    by_id = {row["pair_id"]: row for row in pairs}
    planned = sorted(pairs, key=lambda row: row["assignment_id"])
    columns = {name: [row[name] for row in planned] for name in ("image_id", "pair_id", "follows")}
    decisions = pa.table({**columns, "kept": [True] * len(planned)})
    return [by_id[pair_id] for _, _, turns in samples_of(decisions, len(pairs)) for pair_id in turns]


def _question(request: Request) -> str:
    """Return the reply to an asking call: the first example in its text, as a question or with options."""
    shown = re.search(r"^- (.+)$", request.text, re.MULTILINE)
    text = shown[1] if shown else "…"
    choice: dict[str, Any] = {
        "question": text,
        "right": "right",
        "wrong": ["wrong", "also wrong", "wrong too"],
    }
    is_choice = request.schema is not None and "right" in json.dumps(request.schema)
    return json.dumps({"fits": True, "evidence": "…", "questions": [choice if is_choice else text]}, ensure_ascii=False)


def _written(request: Request, reply: Mapping[str, Any]) -> Reply:
    """Return a reply by hand in the shape that the request asks for."""
    if request.purpose == "judge":
        is_of_answer = "answer: " in request.text.lower()
        yes = reply["judged"]["answer" if is_of_answer else "question"]
        return Reply("yes", labels={"yes": yes, "no": 1 - yes})
    if request.purpose == "ask":
        choice = {key: reply[key] for key in ("question", "right", "wrong") if key in reply}
        question = choice if "right" in choice else reply["question"]
        asked = {"fits": True, "evidence": reply["evidence"], "questions": [question]}
        return Reply(json.dumps(asked, ensure_ascii=False))
    lettered = re.search(rf"^([A-D])\. {re.escape(reply.get('right', ''))}$", request.text, re.MULTILINE)
    letter = lettered[1] if lettered else ""
    return Reply(letter if request.choices else reply["answer"].strip().replace(LETTER, letter))


def _reply(text: str) -> list[str]:
    """Return the lines that show a reply; one of several lines is a block."""
    return ["Reply:", "", *_block(text)] if "\n" in text.strip() else [f"Reply: `{_one_line(text)}`"]


def _block(text: str) -> list[str]:
    return ["```text", *text.splitlines(), "```"]


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the pages of examples.")
    parser.add_argument("folder", type=Path, nargs="?", help="where they go, as in docs/examples")
    parser.add_argument("--quick", action="store_true", help="into a folder that is deleted, to see that it works")
    args = parser.parse_args()
    if bool(args.folder) == args.quick:
        parser.error("give the folder to write to: python benchmarks/conversations.py docs/examples")
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
