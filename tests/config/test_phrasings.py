"""The sentences that a text encoder compares: articles of names, and texts as a model's tokenizer cleans them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config.phrasings import article_of, canonical, fill


@pytest.mark.parametrize(
    ("name", "article"),
    [
        ("cat", "a"), ("owl", "an"), ("unicycle", "a"), ("one way sign", "a"), ("umbrella", "an"),
        ("x ray machine", "an"),
        ("mri scanner", "an"), ("uml class diagram", "a"), ("usb stick", "a"), ("hourglass", "an"), ("house", "a"),
        ("jeans", "none"), ("scissors", "none"), ("tennis courts from above", "none"), ("glass of wine", "a"),
        ("walrus", "a"), ("compass", "a"), ("bowl of noodles", "a"), ("lens", "a"), ("gas", "a"), ("ecg", "an"),
    ],
)  # fmt: skip
def test_a_name_takes_the_article_that_it_is_spoken_with(name: str, article: str) -> None:
    assert article_of(name) == article


@pytest.mark.parametrize(
    ("template", "name", "article", "sentence"),
    [
        ("a photo of a {}.", "owl", None, "a photo of an owl."),
        ("a {}.", "jeans", None, "jeans."),
        ("a photo of a {}.", "corn", "none", "a photo of corn."),
        ("a photo of an {} on a street.", "stop sign", None, "a photo of a stop sign on a street."),
        ("a {} pattern.", "stripes", None, "a stripes pattern."),
        ("a close-up of a {} surface.", "asphalt", "none", "a close-up of an asphalt surface."),
        ("a photo of a {} at work.", "jeans", None, "a photo of jeans at work."),
        ("a photo of {}.", "owl", None, "a photo of owl."),
        ("a {} and a {}", "owl", "the", "the owl and the owl"),
        ("a photo of data {}", "owl", None, "a photo of data owl"),
        ("a {} with \\d {braces}", "owl", None, "an owl with \\d {braces}"),
    ],
)
def test_a_template_takes_the_article_of_the_name(template: str, name: str, article: str | None, sentence: str) -> None:
    assert fill(template, name, article) == sentence  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_a_text_is_cleaned_as_open_clip_cleans_it(text: str) -> None:
    from open_clip.tokenizer import canonicalize_text

    assert canonical(text) == canonicalize_text(text)
