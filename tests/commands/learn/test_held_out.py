"""The report of `synth learn` measures a mapping on images that were left out, beside choices that look at no image."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.commands.learn import TfidfSettings, learn, tfidf
from synthgen.commands.learn.held_out import PARTS, _split, measure
from tests.fixtures.seeds import learn_request, seed_rows, write_seed

TAGS, TYPES = ["a/x", "a/y", "b/z", "c"], ["t/one", "t/two", "t/three"]
examples = st.tuples(st.lists(st.sampled_from(TAGS), max_size=3), st.lists(st.sampled_from(TYPES), min_size=1)).map(
    lambda pair: tfidf.example(*pair)
)
seeds = st.lists(st.tuples(examples, st.integers(1, 12)), max_size=8).map(
    lambda pairs: sum((Counter({example: times}) for example, times in pairs), Counter[tfidf.Example]())
)


def seed(*rows: tuple[str, str, int]) -> Counter[tfidf.Example]:
    return Counter({tfidf.example([tag], [path]): times for tag, path, times in rows})


def test_tags_that_tell_the_type_are_better_than_chance_and_than_the_most_frequent_types() -> None:
    found = measure(seed(("a/x", "t/one", 50), ("b/z", "t/two", 30), ("c", "t/three", 20)), TfidfSettings())
    assert found.questions == 100 and found.types == 3 and found.covered.learned == pytest.approx(1)
    assert found.covered.at_random == pytest.approx(found.offered / 3) and found.covered.frequent < 0.9
    assert found.drawn.learned > 0.9
    assert found.drawn.at_random == pytest.approx(1 / 3) and found.drawn.frequent == pytest.approx(0.38, abs=0.01)


def test_tags_that_tell_nothing_are_no_better_than_chance_however_much_is_covered() -> None:
    alike = seed(*((tag, path, 25) for tag in ("a/x", "b/z") for path in ("t/one", "t/two")))
    found = measure(alike, TfidfSettings())
    assert found.covered.learned == pytest.approx(1) and found.covered.at_random == pytest.approx(1)
    assert found.covered.frequent == pytest.approx(1) and found.drawn.learned == pytest.approx(0.5, abs=0.05)


def test_an_image_that_was_learned_from_is_not_measured() -> None:
    """Each image has tags and a type of its own, so what the others teach says nothing about it."""
    own = Counter({tfidf.example([f"a/{number}"], [f"t/{number}"]): 1 for number in range(20)})
    settings = TfidfSettings(min_support=1)
    weights = tfidf.learn(own, tfidf.count(own), settings)
    assert all(f"t/{number}" in weights[f"a/{number}"] for number in range(20)), "on itself it would be perfect"
    assert measure(own, settings).covered.learned == 0


@given(seeds)
def test_every_image_is_left_out_once_and_shares_are_shares(images: Counter[tfidf.Example]) -> None:
    parts = [_split(images, part) for part in range(PARTS)]
    assert sum((left_out for _, left_out in parts), Counter[tfidf.Example]()) == images
    assert all(rest + left_out == images for rest, left_out in parts)
    found = measure(images, TfidfSettings(min_support=1))
    shares = [*vars(found.covered).values(), *vars(found.drawn).values()]
    assert all(0 <= share <= 1 + 1e-9 for share in shares)
    assert found.questions in (0, sum(len(types) * times for (_, types), times in images.items()))


def test_the_report_and_the_file_say_what_chance_would_reach(workspace: Path) -> None:
    path, report = learn(learn_request(write_seed(workspace / "s.json", seed_rows("llava"))))
    (covered,) = [line for line in report if line.startswith("on images left out of the learning, ")]
    assert " of 24 questions are of a type that their image gets, which gets " in covered
    assert "as many types at random would reach " in covered and "as many of the most frequent " in covered
    assert any(line.startswith("one type drawn by the image's weights is the question's in ") for line in report)
    assert f"# {'':<11} {covered}" in path.read_text()


def test_a_seed_of_one_row_says_that_nothing_could_be_left_out(workspace: Path) -> None:
    seed_file = write_seed(workspace / "s.json", seed_rows("llava")[:1])
    _, report = learn(learn_request(seed_file, overrides=["learn.min_support=1"]))
    assert "how well it suits other images is not known: the seed is too small to leave any out" in report
