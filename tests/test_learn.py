"""`synth learn`: whatever form the seed has, every row is counted or left out with a reason, and the mapping says what the seed shows."""

import asyncio
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHELVES, write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen import cli, config, mapping, prompt, tagger, taxonomy
from synthgen.errors import UserMistake
from synthgen.learn import Order, Settings, choice, learn, tfidf, twins
from synthgen.learn.record import Bad, Fields, Row, row_of
from synthgen.learn.words import TypeTexts
from synthgen.models import EngineDied, Facts, ModelName, Reply, Request
from synthgen.prompt import InstructionType
from synthgen.tagger import Tagged

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


# --- what a seed may look like -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "name"), [("llava", "s.json"), ("sharegpt", "s.jsonl"), ("trl", "s.parquet"), ("finevision", "s.parquet")]
)
def test_every_form_of_seed_teaches_the_same(workspace: Path, form: str, name: str) -> None:
    seed = write_seed(workspace / "seed" / name, seed_rows(form))
    path, report = learn(order(seed))
    assert path == Path("pipelines/mappings/learned.yaml")
    weights = weights_of(path)
    assert strongest(weights, "document") == READING
    assert strongest(weights, "animal") == COUNTING
    assert f"{name}: 24 rows, 24 learned from, 0 left out" in report[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_question_of_every_form_is_read_without_the_mark_of_the_image(form: str) -> None:
    row = row_of("s:1", 0, json.loads(json.dumps(FORMS[form](0, "How many?"), default=lambda data: "bytes")), Fields())
    assert isinstance(row, Row)
    assert [(turn.question, turn.answer) for turn in row.turns] == [("How many?", "Yes.")]


def test_a_run_is_a_seed_too_by_its_committed_shards(workspace: Path) -> None:
    """Only what a commit names counts: a file that lies in the folder beside them is not read."""
    from synthgen.store import Lease, Receipt, Stage, TablePart
    from synthgen.store.folder import open_folder

    out = open_folder(str(workspace / "out"))
    out.create("run.json", b"{}")
    stage = Stage(out, "5-shards")
    rows = seed_rows("trl")
    kept = stage.write("data", "e01-00000", 1, pa.Table.from_pylist(rows))
    stage.write("data", "e01-00001", 1, pa.Table.from_pylist(rows))
    with Lease.take(out) as lease:
        stage.commit(Receipt("e01-00000", 1, {"data": TablePart((kept,), "x", True)}, {}, {}), lease, 1)
    _, report = learn(order(workspace / "out"))
    assert "24 rows, 24 learned from" in report[0]


# --- types that the seed does not give ---------------------------------------------------------------------------------


def test_types_come_from_a_file_of_row_ids(workspace: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "types"} for row in seed_rows("llava")]
    by_id = {f"r{number}": ROWS[number % len(ROWS)][1] for number in range(len(rows) - 1)}
    _, report = learn(order(write_seed(workspace / "s.json", rows), types_file=write(workspace / "types.json", json.dumps(by_id))))
    assert "24 rows, 23 learned from, 1 left out" in report[0]
    assert "no_types" in report[1] and "no row 'r23'" in report[1]


def test_types_are_found_by_the_likeness_of_words(workspace: Path) -> None:
    asked = {READING: "Read it: what is written?", COUNTING: "Please count: how many?", SCENE: "What place is it?"}
    rows = [{**llava(n, asked[ROWS[n % 6][1]]), "tags": [ROWS[n % 6][0]]} for n in range(24)]
    rows += [{**llava(99, "Zyzzyva?"), "tags": ["cat"]}]
    path, report = learn(order(write_seed(workspace / "s.json", rows)))
    assert strongest(weights_of(path), "document") == READING
    assert "25 rows, 24 learned from, 1 left out" in report[0] and "no_type_fits" in report[1]


class Sorter:
    """An engine that sorts by a word of the question, and fails on one of them."""

    def __init__(self, name: ModelName, settings: config.Engine) -> None:
        self.facts = Facts("sorter", "1", frozenset({"schema"}), None, "1")
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Reply:
        self.requests.append(request)
        if "broken" in request.text:
            return Reply("", "error", "call_failed", "no")
        if "die" in request.text:
            raise EngineDied("dead")
        if "babble" in request.text:
            return Reply('{"chosen": ["nothing known"]}')
        names = request.schema["properties"]["chosen"]["items"]["enum"] if request.schema else []
        asked = request.text.rpartition("Question:")[2]
        wanted = ["fine", "reading"] if "written" in asked else ["coarse", "counting"] if "many" in asked else []
        return Reply(json.dumps({"chosen": [name for name in names if name in wanted]}))

    async def close(self) -> None:
        pass


def sort_with(monkeypatch: pytest.MonkeyPatch, questions: Sequence[str]) -> list[choice.Chosen]:
    async def sorter(name: ModelName, settings: config.Engine) -> Sorter:
        return Sorter(name, settings)

    monkeypatch.setattr(choice, "open_engine", sorter)
    about = tuple(map(choice.About, questions))
    return asyncio.run(choice.sort_all(choice.Task(ModelName("m", "r"), config.Engine(), prompt.load("small").tree, about)))


def test_a_model_sorts_questions_by_family_and_then_by_type(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sort_with(monkeypatch, ["What is written?", "How many?", "Hm?", "broken", "babble"])
    assert [one.types for one in found] == [(READING,), (COUNTING,), (), (), ()]
    assert [bool(one.failure) for one in found] == [False, False, False, True, True]


def test_an_engine_that_dies_while_sorting_is_one_line(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="the engine died while it sorted questions: dead"):
        sort_with(monkeypatch, ["die"])


def test_types_are_found_by_the_scripted_engine_in_an_actor(workspace: Path) -> None:
    """The whole way through Ray; the scripted engine chooses by lot, so it is the sums that are looked at."""
    rows = [{**llava(number, f"How many {number}?"), "tags": [ROWS[number % 6][0]]} for number in range(24)]
    seed = write_seed(workspace / "s.json", rows)
    path, report = learn(
        order(seed, find_types="model", overrides=["generate.engine.options={fail: 0.1}"], settings=Settings(min_support=1))
    )
    counted, left_out = (int(word.split()[0]) for word in report[0].split(", ")[1:])
    assert counted + left_out == 24 and counted
    assert weights_of(path)


# --- every row is accounted for ----------------------------------------------------------------------------------------


def test_rows_that_cannot_be_used_are_left_out_each_with_its_reason(workspace: Path) -> None:
    good = seed_rows("llava")
    bad: list[Any] = [
        "not a record",
        {**good[0], "types": None},
        {**good[0], "types": ["tap dancing"]},
        {**good[0], "tags": None},
        {**good[0], "tags": ["spaceship"]},
    ]
    seed = write(workspace / "s.jsonl", "".join(json.dumps(row) + "\n" for row in [*good, *bad]) + "{ torn\n")
    _, report = learn(order(seed))
    assert "30 rows, 24 learned from, 6 left out" in report[0]
    for reason in ("not_a_record", "no_types", "unknown_types", "no_tags", "unknown_tags", "not_json"):
        assert any(reason in line and "1" in line for line in report), reason
    assert any("words for types that the pipeline does not know: 'tap dancing' (1)" in line for line in report)


def test_an_image_without_a_tag_counts_for_the_rule_of_all_images(workspace: Path) -> None:
    """No tag is an answer of a tagger, not a missing one."""
    rows = [{**row, "tags": []} for row in seed_rows("llava", rows=[("", SCENE)])]
    path, report = learn(order(write_seed(workspace / "s.json", rows)))
    assert "4 learned from, 0 left out" in report[0]
    assert weights_of(path) == {"**": {SCENE: 10.0}}


class Reds:
    """A tagger to whom red images are letters."""

    def prepare(self, image: Image.Image, source_meta: str | None) -> Any:
        return image.getpixel((0, 0))

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        return [Tagged([{"path": "document/letter", "score": 1.0, "tagger": "reds"}] if pixel[0] > 100 else []) for pixel in inputs]

    def close(self) -> None:
        pass


def test_the_tagger_finds_tags_where_the_seed_has_none(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images come as bytes or as paths below the seed; what cannot be read or decoded costs its row alone."""
    monkeypatch.setattr(tagger, "Taggers", lambda specs: Reds())
    clip(workspace)
    images = ["one.png", "one.png", "one.png", "gone.png", "../one.png", "torn.png", "http://x/one.png", None, "one.png"]
    rows = [{**llava(number, "Read?"), "image": image, "types": READING} for number, image in enumerate(images)]
    rows[-1]["image"] = ["one.png", "torn.png"]
    seed = write_seed(workspace / "seed/s.json", rows)
    (workspace / "seed/one.png").write_bytes(png())
    (workspace / "seed/torn.png").write_bytes(png()[:60])
    path, report = learn(order(seed, overrides=["tag.tagger=clip"]))
    assert "9 rows, 3 learned from, 6 left out" in report[0]
    found = {line.split()[1]: int(line.split()[0]) for line in report[1:6]}
    assert found == {"path_outside": 2, "unreadable": 1, "truncated": 1, "no_image": 1, "several_images": 1}
    assert weights_of(path)


def clip(workspace: Path) -> None:
    """A tagger that looks, so that the seed need not have tags."""
    write(workspace / "model/open_clip_config.json", "{}")
    write(workspace / "model/weights.bin", "")
    write(workspace / "taggers/clip.yaml", "about: x\nengine: open_clip\ntaxonomy: small\nmodel: model\n")


class Picky(Reds):
    """A tagger that cannot prepare images narrower than 20 pixels, and fails on a batch with one that is 20 wide."""

    def prepare(self, image: Image.Image, source_meta: str | None) -> Any:
        if image.width < 20:
            raise ValueError("too narrow for me")
        return (*super().prepare(image, source_meta), image.width)

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        if any(item[-1] == 20 for item in inputs):
            raise RuntimeError("an odd tensor")
        return super().tag(inputs)


def test_an_image_that_the_tagger_cannot_take_costs_its_row_alone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagger, "Taggers", lambda specs: Picky())
    clip(workspace)
    rows = [{**llava(number, "Read?"), "image": f"{width}.png", "types": READING} for number, width in enumerate((18, 20, 22, 24, 26))]
    seed = write_seed(workspace / "seed/s.json", rows)
    for width in (18, 20, 22, 24, 26):
        Image.new("RGB", (width, 20), (200, 30, 30)).save(workspace / f"seed/{width}.png")
    _, report = learn(order(seed, overrides=["tag.tagger=clip"]))
    assert "5 rows, 3 learned from, 2 left out" in report[0]
    assert any(line.split()[:2] == ["2", "tagger_failed"] for line in report)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), texts)
junk = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)), max_leaves=8)
keys = st.sampled_from(["id", "image", "images", "conversations", "messages", "prompt", "completion", "texts", "types", "tags"])


@given(st.one_of(junk, st.dictionaries(keys, junk)))
def test_whatever_a_row_is_it_becomes_a_row_or_a_reason(record: Any) -> None:
    found = row_of("s:1", 0, record, Fields("types", "tags"))
    assert isinstance(found, Row | Bad)
    assert all(turn.question for turn in found.turns) if isinstance(found, Row) else found.reason


@given(st.lists(st.one_of(junk, st.sampled_from(seed_rows("llava", 1))), max_size=12))
def test_counted_and_left_out_add_up_to_the_rows_of_the_seed(tmp_path_factory: pytest.TempPathFactory, records: list[Any]) -> None:
    from synthgen.learn import start

    folder = tmp_path_factory.mktemp("seed")
    seed = start.seed.open_seed(str(write(folder / "s.jsonl", "".join(json.dumps(one) + "\n" for one in records))))
    small = write(folder / "small.yaml", SHELVES["taggers/taxonomies/small.yaml"])
    tree, types = taxonomy.load(str(small)).tree, {path: None for path in (READING, SCENE, COUNTING)}
    tally = start.Tally()
    typed = start._typed(
        start.seed.rows(seed, start.Columns(Fields("types", "tags"), False, False)),
        lambda row: start._given_types(start.given.Lexicon(types), None, tally.unknown["types"], row),
        tally,
    )
    for one in start._given_tags(typed, start.given.Lexicon(tree.nodes), tally):
        if isinstance(one, Bad):
            tally.leave_out(one)
        else:
            tally.counted += 1
    assert tally.rows == len(records)


# --- the arithmetic ----------------------------------------------------------------------------------------------------

PATHS = ["a/x", "a/y", "b/z", "c"]
KINDS = ["t/one", "t/two", "t/three"]
seeds = st.dictionaries(
    st.builds(tfidf.example, st.lists(st.sampled_from(PATHS), max_size=3), st.lists(st.sampled_from(KINDS), min_size=1, max_size=2)),
    st.integers(1, 30),
    min_size=1,
    max_size=8,
).map(Counter)


@given(seeds, st.integers(1, 8))
def test_a_pair_below_the_support_gets_no_weight_under_its_tag(seen: Counter[tfidf.Example], support: int) -> None:
    weights = tfidf.learn(seen, Settings(min_support=support))
    counts = tfidf.count(seen)
    for tag, asked in weights.items():
        for kind in asked:
            images = (
                counts.of_type[counts.types.index(kind)]
                if tag == tfidf.EVERY
                else counts.both[counts.types.index(kind), counts.tags.index(tag)]
            )
            assert images >= support


@given(seeds, st.integers(1, 3), st.floats(0.01, 50))
def test_weights_are_a_few_a_tag_and_none_above_ten(seen: Counter[tfidf.Example], top_k: int, temperature: float) -> None:
    weights = tfidf.learn(seen, Settings(top_k, temperature, 1))
    assert all(len(asked) <= top_k for tag, asked in weights.items() if tag != tfidf.EVERY)
    assert all(0 < weight <= tfidf.STRONGEST for asked in weights.values() for weight in asked.values())
    assert not weights or max(weight for asked in weights.values() for weight in asked.values()) == tfidf.STRONGEST


@given(seeds, st.randoms())
def test_the_order_of_the_rows_does_not_matter(seen: Counter[tfidf.Example], random: Any) -> None:
    shuffled = list(seen.items())
    random.shuffle(shuffled)
    assert tfidf.learn(Counter(dict(shuffled)), Settings()) == tfidf.learn(seen, Settings())


MIXED = Counter(
    {
        tfidf.example(["a/x"], ["t/one"]): 60,
        tfidf.example(["a/x"], ["t/two"]): 30,
        tfidf.example(["c"], ["t/two"]): 15,
        tfidf.example(["b/z"], ["t/three"]): 300,
    }
)


def test_temperature_shares_a_tag_out_and_towards_zero_leaves_its_strongest_type_alone() -> None:
    warm, cold, hot = (tfidf.learn(MIXED, Settings(temperature=value))["a/x"] for value in (1.0, 0.01, 1000.0))
    assert set(warm) == {"t/one", "t/two"} and list(cold) == ["t/one"]
    assert warm["t/two"] / warm["t/one"] < hot["t/two"] / hot["t/one"] == pytest.approx(1, abs=0.01)


def test_a_tag_that_every_image_has_tells_nothing() -> None:
    seen = Counter({tfidf.example(["c", "a/x"], ["t/one"]): 40, tfidf.example(["c", "b/z"], ["t/two"]): 40})
    assert "c" not in tfidf.learn(seen, Settings())
    assert "c" in tfidf.learn(seen, Settings(is_plain=True))  # which the formula as printed does not see


def test_a_leaf_too_rare_to_count_leaves_its_images_to_its_parent() -> None:
    leaves = [tfidf.example([f"a/{name}"], ["t/one"]) for name in "pqrstu"]
    seen = Counter({**dict.fromkeys(leaves, 2), tfidf.example(["b/z"], ["t/two"]): 12})
    weights = tfidf.learn(seen, Settings(min_support=3))
    assert list(weights["a"]) == ["t/one"]
    assert not any(tag.startswith("a/") for tag in weights)


def kind(path: str, about: str) -> InstructionType:
    return InstructionType(path, about, "text", path.rpartition("/")[2], ("short",), ("What does it say?", "Read the text."))


TWIN_TYPES = {
    "t/extract_text": kind("t/extract_text", "Extract the text of the image."),
    "t/transcribe_text": kind("t/transcribe_text", "Transcribe the text of the image."),
    "t/count": InstructionType("t/count", "How many things there are.", "things", "count", ("short",), ("How many?", "Count them.")),
}
TWIN_SEED = Counter(
    {
        tfidf.example(["b/z"], ["t/extract_text"]): 30,
        tfidf.example(["b/z"], ["t/transcribe_text"]): 20,
        tfidf.example(["a/x"], ["t/count"]): 50,
        tfidf.example(["c"], ["t/count"]): 10,
    }
)


def test_types_alike_in_tags_and_words_are_twins_and_become_one() -> None:
    pairs = twins.find(TWIN_SEED, Settings(), TypeTexts(TWIN_TYPES))
    assert [(pair.kept, pair.other) for pair in pairs] == [("t/extract_text", "t/transcribe_text")]
    merged = twins.merged(TWIN_SEED, pairs)
    assert merged.total() == TWIN_SEED.total()
    assert merged[tfidf.example(["b/z"], ["t/extract_text"])] == 50


def test_types_alike_in_tags_alone_are_no_twins() -> None:
    others = {**TWIN_TYPES, "t/transcribe_text": replace(TWIN_TYPES["t/count"], path="t/transcribe_text")}
    assert not twins.find(TWIN_SEED, Settings(), TypeTexts(others))


# --- the file ----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(workspace: Path) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    first, second = (learn(order(seed, name=name))[0].read_text() for name in ("one", "two"))
    assert first == second


def test_the_file_says_where_it_comes_from_and_extends_what_it_is_told_to(workspace: Path) -> None:
    path, _ = learn(order(write_seed(workspace / "s.json", seed_rows("llava")), extends="small"))
    text = path.read_text()
    assert "# Seed        s.json: 1 file" in text and "# Rows        24 of 24" in text
    assert "extends: small" in text
    assert weights_of(path)["document/**"]  # the rule of the mapping that it extends


def test_words_of_the_seed_cannot_leave_the_comment_that_they_stand_in(workspace: Path) -> None:
    seed = workspace / "s\nrules: []\x1b[2J.json"
    path, report = learn(order(write_seed(seed, seed_rows("llava"))))
    assert weights_of(path)
    assert "\x1b" not in path.read_text() + "".join(report)


# --- mistakes ----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_never_overwritten(workspace: Path) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    mine = write(workspace / "pipelines/mappings/mine.yaml", "mine")
    with pytest.raises(UserMistake, match=r"mine.yaml: exists already; choose another name"):
        learn(order(seed, name="mine"))
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "Not A Name"}, "is not a name"),
        ({"extends": "smal"}, "--extends smal: no such mapping: did you mean 'small'"),
        ({"name": "small2", "extends": "small2"}, "cannot extend itself"),
        ({"types_column": "typs"}, "--types-column typs: the seed has no such field: did you mean 'types'"),
        ({"tags_column": "nope"}, "--tags-column nope: the seed has no such field"),
        ({"types_file": Path("gone.json")}, "gone.json: cannot be read"),
        ({"settings": Settings(min_support=1000)}, "nothing could be learned"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(workspace: Path, more: dict[str, Any], said: str) -> None:
    seed = write_seed(workspace / "s.json", seed_rows("llava"))
    with pytest.raises(UserMistake) as caught:
        learn(order(seed, **more))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not list((workspace / "pipelines/mappings").glob("learned*"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.json", "{ torn", "is not JSON"),
        ("s.json", "{}", "is JSON, but no list of rows"),
        ("s.parquet", "no", "is not a Parquet file"),
        ("s.csv", "a,b", "is not a seed; known forms"),
        ("empty/x.txt", "", "no seed here"),
    ],
)
def test_a_seed_that_is_none_is_one_line(workspace: Path, name: str, text: str, said: str) -> None:
    path = write(workspace / name, text)
    with pytest.raises(UserMistake) as caught:
        learn(order(path.parent if "/" in name else path))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_prints_a_report_and_the_file_and_exits_2_on_a_mistake(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seed(workspace / "s.json", seed_rows("llava"))
    arguments = ["synth", "learn", "s.json", "--name", "mine", "--pipeline", "small", "--min-support", "2"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "pipelines/mappings/mine.yaml"
    with pytest.raises(SystemExit) as done:
        cli.main()
    said = capsys.readouterr().err.splitlines()
    assert done.value.code == 2 and len(said) == 1 and said[0].startswith("synth: pipelines/mappings/mine.yaml: exists already")
