"""Trees of names: patterns, unique names, phrasings, and the taxonomies that ship with synthgen."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import library, prompt_pack, taxonomy
from synthgen.config.taxonomy import matches, matching, with_ancestors
from synthgen.errors import Mistakes
from tests.fixtures.workspace import write

PARTS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab"]), min_size=1, max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*b", "a*b", "*a*"]), min_size=1, max_size=5)


def naive(pattern: list[str], path: list[str]) -> bool:
    """Match a path part by part, without regular expressions."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(naive(pattern[1:], path[taken:]) for taken in range(len(path) + 1))
    return bool(path) and naive_part(pattern[0], path[0]) and naive(pattern[1:], path[1:])


def naive_part(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(naive_part(pattern[1:], name[taken:]) for taken in range(len(name) + 1))
    return bool(name) and pattern[0] == name[0] and naive_part(pattern[1:], name[1:])


@given(PATTERNS, PARTS)
def test_patterns_match_as_a_naive_matcher_does(pattern: list[str], path: list[str]) -> None:
    assert matches("/".join(pattern), "/".join(path)) == naive(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("document/**", ["document", "document/form", "document/form/invoice"], ["documents", "a/document"]),
        ("**", ["a", "a/b/c"], []),
        ("*", ["a", "document"], ["a/b"]),
        ("**/invoice", ["invoice", "a/b/invoice"], ["invoice/a", "a/invoices"]),
        ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_a_pattern_by_example(pattern: str, fits: list[str], does_not: list[str]) -> None:
    assert all(matches(pattern, path) for path in fits)
    assert not any(matches(pattern, path) for path in does_not)


@given(st.lists(PATTERNS, max_size=3), st.lists(PARTS, max_size=8, unique_by=tuple))
def test_matching_returns_the_paths_that_fit_any_pattern(patterns: list[list[str]], paths: list[list[str]]) -> None:
    wanted, known = ["/".join(pattern) for pattern in patterns], ["/".join(path) for path in paths]
    assert matching(wanted, known) == [path for path in known if any(matches(pattern, path) for pattern in wanted)]


def test_matching_keeps_the_order_of_the_paths() -> None:
    assert matching(["c", "a*"], ["ab", "b", "c", "a"]) == ["ab", "c", "a"]


@given(st.lists(PARTS, max_size=6))
def test_ancestors_come_before_their_children_each_once(paths: list[list[str]]) -> None:
    joined = ["/".join(parts) for parts in paths]
    expanded = with_ancestors(joined)
    assert len(set(expanded)) == len(expanded) and set(joined) <= set(expanded)
    for path in expanded:
        parent = path.rpartition("/")[0]
        assert not parent or expanded.index(parent) < expanded.index(path)


def load(workspace: Path, tags: str) -> taxonomy.Taxonomy:
    write(workspace / "taggers/taxonomies/mine.yaml", f'about: x\ntemplates: ["a photo of {{}}"]\ntags:\n{tags}')
    return taxonomy.load("mine")


def test_a_template_without_braces_is_refused_with_its_line(workspace: Path) -> None:
    file = workspace / "taggers/taxonomies/mine.yaml"
    write(
        file,
        "about: x\ntemplates: ['a {}', a photo of it]\n"
        "tags:\n  cat:\n    means: it purrs\n    templates: ['a photo of a {tag}.']\n",
    )
    with pytest.raises(Mistakes) as caught:
        taxonomy.load("mine")
    problem = "has no {} for the tag's name; write it as in 'a photo of a {}.'"
    assert caught.value.lines == [
        f"{file}:2: templates.1: 'a photo of it' {problem}",
        f"{file}:6: tags.cat.templates.0: 'a photo of a {{tag}}.' {problem}",
    ]


def test_a_tree_knows_parents_children_roots_and_leaves(workspace: Path) -> None:
    tree = load(
        workspace, "  animal: {means: alive, tags: {owl: a bird, big_cat: {means: fierce}}}\n  page: text\n"
    ).tree
    assert list(tree.nodes) == ["animal", "animal/owl", "animal/big_cat", "page"]
    assert tree.roots == ("animal", "page") and tree.leaves == ("animal/owl", "animal/big_cat", "page")
    cat = tree.nodes["animal/big_cat"]
    assert (cat.name, cat.parent, cat.words, cat.means) == ("big_cat", "animal", "big cat", "fierce")
    assert tree.nodes["animal"].children == ("animal/owl", "animal/big_cat") and tree.nodes["page"].means == "text"


def test_a_name_is_unique_in_its_tree_and_the_mistake_names_its_first_place(workspace: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        load(
            workspace,
            "  animal:\n    means: x\n    tags:\n      owl: a\n"
            "  toy:\n    means: x\n    tags:\n      owl: b\n      animal: c\n",
        )
    file = workspace / "taggers/taxonomies/mine.yaml"
    assert caught.value.lines == [
        f"{file}:11: 'owl' is already used at {file}:7; a name must be unique in its tree",
        f"{file}:12: 'animal' is already used at {file}:4; a name must be unique in its tree",
    ]


@pytest.mark.parametrize("name", ["Animal", "an imal", "a/b", "_a", "é", "a-b", '"a\\n"', '""', "'**'"])
def test_a_name_with_other_characters_than_a_z_0_9_and_underscores_is_refused(workspace: Path, name: str) -> None:
    with pytest.raises(Mistakes, match="is not a valid name; use lower-case letters, digits and _"):
        load(workspace, f"  {name}: x\n")


def test_a_taxonomy_without_tags_is_refused(workspace: Path) -> None:
    with pytest.raises(Mistakes, match="tags: needs at least 1 entry, not 0"):
        load(workspace, "  {}\n")


def test_phrasings_fill_the_nearest_templates_with_every_name_of_a_tag(workspace: Path) -> None:
    phrasings = load(
        workspace,
        "  animal:\n    means: alive\n    templates: ['a {} outdoors']\n    tags:\n"
        "      big_cat: {means: fierce, also: [lion]}\n      owl: {means: wise, templates: ['{}!']}\n  page: text\n",
    ).phrasings
    assert phrasings["animal/big_cat"] == ("a big cat outdoors", "a lion outdoors", "big cat: fierce")
    assert phrasings["animal/owl"] == ("owl!", "owl: wise")
    assert phrasings["page"] == ("a photo of page", "page: text")


def test_a_text_of_its_own_stands_in_place_of_the_name_in_templates(workspace: Path) -> None:
    loaded = load(
        workspace,
        "  doing:\n    means: chores\n    text: people doing something\n    tags:\n"
        "      bat: {means: it flies, text: [a bat in a cave, a bat in the air]}\n  page: text\n",
    )
    assert loaded.phrasings["doing"] == ("people doing something",)
    assert loaded.phrasings["doing/bat"] == ("a bat in a cave", "a bat in the air", "bat: it flies")
    assert loaded.compared == {"doing", "doing/bat", "page"}


def test_a_clip_compares_leaves_and_groups_with_a_text_unless_they_are_not_to_be_seen(workspace: Path) -> None:
    tags = (
        "  a: {means: x, tags: {b: y, c: {means: z, clip: false}}}\n"
        "  d: {means: x, clip: false, text: a thing, tags: {e: y, f: {means: z, tags: {g: w}}}}\n"
    )
    loaded = load(workspace, tags)
    assert loaded.compared == {"a/b"} and all(loaded.phrasings.values())


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("article: any", "tags.a.article: must be 'a', 'an', 'the' or 'none'"),
        ("clip: perhaps", "tags.a.clip: must be true or false"),
        ("text: 5", "tags.a.text"),
    ],
)
def test_a_key_of_a_tag_with_another_value_is_reported(workspace: Path, key: str, fault: str) -> None:
    with pytest.raises(Mistakes) as caught:
        load(workspace, f"  a: {{means: x, {key}}}\n")
    assert fault in caught.value.lines[0], caught.value.lines


# --- shipped files ---------------------------------------------------------------------------------------------------


@cache
def everyday() -> taxonomy.Taxonomy:
    return taxonomy.load("everyday")


def test_the_everyday_taxonomy_is_complete() -> None:
    tree = everyday().tree
    assert len(tree.leaves) >= 1200
    assert max(path.count("/") for path in tree.nodes) >= 2
    assert all(node.means.strip() for node in tree)
    assert all(everyday().phrasings[path] for path in tree.nodes)
    assert all(root in everyday().compared for root in tree.roots), "a root without a text is no gate"


@pytest.mark.parametrize(
    "name", [path.stem for path in (library.shipped_folder() / "taggers/taxonomies").glob("*.yaml")]
)
def test_every_shipped_taxonomy_loads(name: str) -> None:
    assert len(taxonomy.load(name).tree.leaves) > (0 if name == "none" else 10)


def test_the_everyday_pack_has_many_types_each_with_all_its_keys() -> None:
    types = prompt_pack.load("everyday").types
    assert len(types) >= 120 and len({path.partition("/")[0] for path in types}) == 9
    assert all(kind.about and kind.needs and len(kind.examples) >= 2 and kind.forms for kind in types.values())


def test_no_two_instruction_types_share_their_last_name() -> None:
    names = [path.rpartition("/")[2] for path in prompt_pack.load("everyday").types]
    assert len(set(names)) == len(names)
