"""Shelf files: found by name, read strictly, and every mistake told in one line that says where and what to write."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import library
from synthgen.config.library import check
from synthgen.config.mapping import MappingFile
from synthgen.config.prompt_pack import FamilyFile, InstructionLeaf, PackFile
from synthgen.config.strict_yaml import parse
from synthgen.config.taxonomy import TaxonomyFile
from synthgen.errors import Mistakes, UserMistake
from tests.fixtures.workspace import write

FILE = Path("some.yaml")
TAXONOMY = 'about: x\ntemplates: ["{}"]\n'


def lines_of(text: str, model: type[library.Section] = TaxonomyFile) -> list[str]:
    """What is said about a file, a line a mistake."""
    with pytest.raises(UserMistake) as caught:
        check(parse(FILE, text), model)
    return str(caught.value).splitlines()


def refusal(text: str) -> str:
    """The one line in which a file is refused."""
    lines = lines_of(text)
    assert len(lines) == 1
    return lines[0]


# --- what is wrong with a file ---------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    text = TAXONOMY + "tags:\n  animal:\n    means: x\n    tgas: {}\n"
    assert lines_of(text) == ["some.yaml:6: unknown key 'tgas' in tags.animal: did you mean 'tags'?"]


def test_an_unknown_key_that_is_near_nothing_lists_what_is_known() -> None:
    assert "known: about, extends, rules, text_tags" in lines_of("about: x\nrules: []\nzzzzzz: 1\n", MappingFile)[0]


def test_all_mistakes_are_told_at_once_each_with_its_own_line() -> None:
    text = "about: 5\ntemplates: one\ntags:\n  animal:\n    maens: x\n    tags:\n      cat: ''\n      dog: [1]\n"
    assert lines_of(text) == [
        "some.yaml:1: about: must be text, not 5",
        "some.yaml:2: templates: must be a list, not 'one'",
        "some.yaml:5: unknown key 'maens' in tags.animal: did you mean 'means'?",
        "some.yaml:7: tags.animal.tags.cat: must say something, not ''",
        "some.yaml:8: tags.animal.tags.dog: must be a line of text that says what it means, or keys with values, not a list",
    ]


def test_a_key_is_missing_only_where_no_unknown_one_beside_it_is_meant_for_it() -> None:
    assert lines_of("about: x\nrules:\n  - tag: a\n    ask: {b: 1}\n", MappingFile) == [
        "some.yaml:3: unknown key 'tag' in rules.0: did you mean 'tags'?"
    ]
    assert lines_of(
        "about: x\nrules:\n  - zzz: a\n    ask: {b: 1}\n  - tag: a\n    tags: a\n    ask: {b: 1}\n  - ask: {b: 1}\n",
        MappingFile,
    ) == [
        "some.yaml:3: unknown key 'zzz' in rules.0: known: ask, boost, never, tags, when",
        "some.yaml:3: rules.0.tags is missing",
        "some.yaml:5: unknown key 'tag' in rules.1: did you mean 'tags'?",
        "some.yaml:8: rules.2.tags is missing",
    ]


def test_a_tag_without_a_meaning_is_told_both_ways_to_give_one() -> None:
    said = "tags.cat: must be a line of text that says what it means, or keys with values, not left empty"
    assert lines_of(TAXONOMY + "tags:\n  cat:\n  dog: a barker\n") == [f"some.yaml:4: {said}"]


def test_a_mistake_in_one_kind_of_node_is_not_also_told_as_a_mistake_in_the_other() -> None:
    text = "about: x\ntypes:\n  a:\n    about: x\n    types:\n      b: {abuot: x, needs: y, forms: [shrt], examples: [p, q]}\n"
    assert lines_of(text, FamilyFile) == [
        "some.yaml:6: unknown key 'abuot' in types.a.types.b: did you mean 'about'?",
        "some.yaml:6: types.a.types.b.forms.0: must be 'short', 'brief', 'detailed' or 'choice', not 'shrt'",
    ]


TYPE = "needs: y, forms: [short], examples: [p, q]"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (
            "need: y, forms: [short], examples: [p, q]",
            ["unknown key 'need' in types.a.types.b: did you mean 'needs'?"],
        ),
        (
            f"{TYPE}, hint: z",
            [f"unknown key 'hint' in types.a.types.b: known: {', '.join(sorted(InstructionLeaf.model_fields))}"],
        ),
        (
            f"need: y, types: {{c: {{about: x, {TYPE}}}}}",
            ["unknown key 'need' in types.a.types.b: known: about, types"],
        ),
        (
            f"tpyes: {{c: {{about: x, {TYPE}}}}}",
            ["unknown key 'tpyes' in types.a.types.b: did you mean 'types'?"],
        ),
    ],
)
def test_an_unknown_key_of_a_node_is_told_the_keys_of_its_own_kind(node: str, said: list[str]) -> None:
    lines = lines_of(f"about: x\ntypes:\n  a:\n    about: x\n    types:\n      b: {{about: x, {node}}}\n", FamilyFile)
    assert lines == [f"some.yaml:6: {one}" for one in said]


def test_a_value_that_could_be_of_two_kinds_and_is_of_neither_is_one_line() -> None:
    assert lines_of("about: x\nrules:\n  - tags: 5\n", MappingFile) == [
        "some.yaml:3: rules.0.tags: must be text or must be a list, not 5"
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("many", "must be a number, not 'many'"),
        ("[1]", "must be a number, not a list"),
        ("{a: 1}", "must be a number, not keys with values"),
        ("", "must be a number, not left empty"),
        (".inf", "must be a number, not '.inf'"),
        ("1e999", "must be a finite number, not inf"),
        ("x" * 200, f"must be a number, not '{'x' * 56}…"),
    ],
)
def test_a_wrong_type_says_what_was_given(value: str, said: str) -> None:
    assert lines_of(f"about: x\nrules:\n  - tags: a\n    ask: {{b: {value}}}\n", MappingFile) == [
        f"some.yaml:4: rules.0.ask.b: {said}"
    ]


def test_every_repeated_key_is_told_with_the_line_of_the_repeat() -> None:
    assert lines_of("about: x\nwhen: {c: 1, c: 2}\nabout: x\nrules: []\n", MappingFile) == [
        "some.yaml:2: key 'c' is given twice",
        "some.yaml:2: unknown key 'when' in the file: known: about, extends, rules, text_tags",
        "some.yaml:3: key 'about' is given twice",
    ]
    assert lines_of("about: x\nrules: []\nrules: []\n", MappingFile) == ["some.yaml:3: key 'rules' is given twice"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: [1, 2", 1, "a bracket is never closed; ] is missing"),
        ("a: [Where?, What?]\n", 1, "? where , or ] should be; a text with signs in it wants quotes inside brackets"),
        ("a: 1\n\tb: 2\n", 2, "a tab; indent with blanks"),
        ("a: @x\n", 1, "a text that begins with @ wants quotes"),
        ("a:\n    b: 1\n  c: 2\n", 3, "the line is not indented as its neighbours are"),
        ("a:\n  - b\n  c: 2\n", 3, "the line is not indented as its neighbours are"),
        (" a: 1\nb: 2\n", 2, "the line is not indented as its neighbours are"),
        ("a: 1\n  b: 2\n", 2, "or a line that is not indented as its neighbours are"),
        ("a: x: y\n", 1, "a ': ' inside a text, which wants quotes then"),
        ("a: 1\nb\nc: 2\n", 2, "the line has no ': ' behind a key"),
        ("a: 'open\n", 2, "unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
        ("a: 1\nb: \x00\n", 2, "U+0000"),
        ("? [a, b]\n: 1\n", 1, "a key must be a word"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "!!python/object/apply:os.system are not used"),
        ("a: 1\nb: !!int x\n", 2, "!!int are not used"),
        ("a: &x 1\nb: *x\n", 2, "aliases (*name) are not used"),
        ("a: x\ntags: **\n", 2, 'a word that begins with * wants quotes, as "**" and "**/scene"'),
        ("ask:\n  **/scene: 1\n", 2, "wants quotes"),
        ("ask: {*/scene: 1}\n", 1, "wants quotes"),
        ("never: [*scene]\n", 1, "a pattern that begins with * wants quotes"),
        ("a: *nobody\n", 1, "aliases (*name) are not used"),
        ("a: &x [*x]\n", 1, "aliases (*name) are not used"),
    ],
)
def test_what_is_not_plain_yaml_is_one_line_with_its_place(text: str, line: int, problem: str) -> None:
    said = refusal(text)
    assert said.startswith(f"some.yaml:{line}: is not YAML: ") and problem in said


def test_a_billion_laughs_cost_one_line_and_no_time() -> None:
    bomb = "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    started = time.process_time()
    assert "aliases" in refusal(bomb)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 5000, "".join(" " * i + f"k{i}:\n" for i in range(400)), "- " * 3000]
)
def test_very_deep_nesting_costs_one_line_and_no_time(text: str) -> None:
    started = time.process_time()
    assert "nested more than 60 levels deep" in refusal(text)
    assert time.process_time() - started < 5


def test_a_number_of_thousands_of_digits_is_one_line() -> None:
    assert "some.yaml: is not YAML" in refusal(f"a: {'9' * 5000}\n")


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab:-[]{}&*!|>'\"#%@ \n?,0.e+~", max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        check(parse(FILE, text), PackFile)
    except UserMistake as error:
        assert all(line.startswith("some.yaml") for line in str(error).splitlines() if line) and str(error)


# --- what values mean ------------------------------------------------------------------------------------------------


def test_plain_words_stay_what_they_look_like() -> None:
    text = "a: [no, on, Yes, 12:30, 0o7, 012, 2024-01-01, 1_000, -3, 1.5, 1e3, true, null, ~]\n"
    read = parse(FILE, text).values["a"]
    assert read == ["no", "on", "Yes", "12:30", "0o7", "012", "2024-01-01", 1000, -3, 1.5, 1000.0, True, None, None]


def test_keys_are_text_whatever_they_look_like() -> None:
    assert parse(FILE, "1: a\ntrue: b\n1.5: c\n").values == {"1": "a", "true": "b", "1.5": "c"}


KEYS = st.sampled_from(["no", "1", "x y", "é", "true", "a:b", "#"])
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x85"), max_size=20
)  # which PyYAML itself does not read back


@given(st.dictionaries(KEYS, TEXTS | st.integers() | st.booleans()))
def test_what_the_library_writes_is_read_back(values: dict[str, object]) -> None:
    import yaml

    written = yaml.safe_dump(values, allow_unicode=True)
    assert parse(FILE, written).values == {key: value for key, value in values.items()}


def test_the_line_of_a_value_is_that_of_the_nearest_key_that_is_there() -> None:
    document = parse(FILE, "a:\n  b:\n    - x\n    - y\n")
    assert document.where(("a", "b", 1)) == "some.yaml:4"
    assert document.where(("a", "b", 7, "c")) == "some.yaml:2"
    assert document.where(("z",)) == "some.yaml:1"


def test_an_empty_file_lacks_what_must_be_there() -> None:
    assert "some.yaml:1: about is missing" in lines_of("# nothing\n")
    assert lines_of("- a\n") == ["some.yaml:1: the file: must be keys with values, not a list"]


# --- which file a name stands for -------------------------------------------------------------------------------------


def test_the_users_file_wins_over_ours_and_that_is_known(workspace: Path) -> None:
    assert library.shadowed("mapping", "everyday") is None
    ours = library.find("mapping", "everyday")
    mine = write(workspace / "pipelines/mappings/everyday.yaml", "about: mine\nrules: []\n")
    assert library.find("mapping", "everyday") == mine
    assert library.shadowed("mapping", "everyday") == ours
    assert library.load("mapping", "everyday").values["about"] == "mine"


def test_ours_are_found_from_any_folder(workspace: Path) -> None:
    assert {"everyday", "small"} <= set(library.names("pipeline"))
    assert library.load("taxonomy", "everyday").values["tags"]


def test_an_unknown_name_comes_with_the_nearest(workspace: Path) -> None:
    with pytest.raises(
        UserMistake,
        match=r"^mapping 'everday' is unknown: did you mean 'everyday'\? \(`synth list mapping` shows all\)$",
    ):
        library.find("mapping", "everday")


def test_a_path_is_taken_as_it_is_and_a_bare_name_never_as_a_path(workspace: Path) -> None:
    write(workspace / "elsewhere/mine.yaml", "about: mine\nrules: []\n")
    assert library.find("mapping", "elsewhere/mine.yaml") == Path("elsewhere/mine.yaml")
    for name in ("elsewhere/mine", "../work/pipelines/mappings/small", "mine"):
        with pytest.raises(UserMistake, match="is unknown"):
            library.find("mapping", name)
    with pytest.raises(UserMistake, match=r"mapping gone\.yaml: no such file"):
        library.find("mapping", "gone.yaml")


def test_a_file_that_is_not_text_is_one_line(workspace: Path) -> None:
    (workspace / "pipelines/mappings/bad.yaml").write_bytes(b"about: \xff\xfe\n")
    with pytest.raises(UserMistake, match=r"bad\.yaml: is not UTF-8 text \(invalid start byte at byte 7\)"):
        library.load("mapping", "bad")


def test_a_folder_with_the_name_of_a_file_is_one_line(workspace: Path) -> None:
    (workspace / "pipelines/mappings/folder.yaml").mkdir()
    with pytest.raises(UserMistake, match=r"folder\.yaml: cannot be read"):
        library.load("mapping", "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_line(workspace: Path) -> None:
    (workspace / "pipelines/mappings/small.yaml").chmod(0)
    with pytest.raises(UserMistake, match="cannot be read: Permission denied"):
        library.load("mapping", "small")


@pytest.mark.parametrize("kind", library.KINDS)
def test_every_shipped_file_is_read_and_says_what_it_is_about(kind: str) -> None:
    shipped = list((library.shipped() / library.KINDS[kind]).glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert len(library.load(kind, str(path)).values["about"]) > 10


# --- code ------------------------------------------------------------------------------------------------------------


def test_code_is_found_by_module_and_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.code("pathlib:Path") is Path
    with pytest.raises(UserMistake, match="no_such_module:x: cannot import no_such_module"):
        library.code("no_such_module:x")
    with pytest.raises(UserMistake, match="pathlib:Nope: module pathlib has no 'Nope'"):
        library.code("pathlib:Nope")


def test_several_mistakes_keep_their_lines_apart() -> None:
    assert Mistakes(["one", "two"]).lines == ["one", "two"] and str(Mistakes(["one", "two"])) == "one\ntwo"
