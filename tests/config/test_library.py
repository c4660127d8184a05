"""Definition files: found by name, read strictly, and every mistake reported in one line with its place."""

import os
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.config import library, mapping
from synthgen.config.families import FamilyFile, InstructionLeaf
from synthgen.config.library import check
from synthgen.config.mapping import MappingFile
from synthgen.config.prompt_file import PackFile
from synthgen.config.strict_yaml import parse
from synthgen.config.taxonomy import TaxonomyFile
from synthgen.errors import Mistakes, SynthError, UserMistake
from tests.fixtures.workspace import write

FILE = Path("some.yaml")
TAXONOMY = 'about: x\ntemplates: ["{}"]\n'


def lines_of(text: str, model: type[library.Section] = TaxonomyFile) -> list[str]:
    """Return the mistakes that a check of the text reports, one a line."""
    with pytest.raises(UserMistake) as caught:
        check(parse(FILE, text), model)
    return str(caught.value).splitlines()


def refusal(text: str) -> str:
    """Return the only mistake that a check of the text reports."""
    lines = lines_of(text)
    assert len(lines) == 1
    return lines[0]


# --- mistakes in a file ----------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    text = TAXONOMY + "tags:\n  animal:\n    means: x\n    tgas: {}\n"
    assert lines_of(text) == ["some.yaml:6: unknown key 'tgas' in tags.animal: did you mean 'tags'?"]


def test_an_unknown_key_that_is_near_nothing_lists_what_is_known() -> None:
    assert (
        "known: about, extends, rules, student, text_tags, thing_tags"
        in lines_of("about: x\nrules: []\nzzzzzz: 1\n", MappingFile)[0]
    )


def test_all_mistakes_are_reported_at_once_each_with_its_own_line() -> None:
    text = "about: 5\ntemplates: one\ntags:\n  animal:\n    maens: x\n    tags:\n      cat: ''\n      dog: [1]\n"
    assert lines_of(text) == [
        "some.yaml:1: about: must be text, not 5",
        "some.yaml:2: templates: must be a list, not 'one'",
        "some.yaml:5: unknown key 'maens' in tags.animal: did you mean 'means'?",
        "some.yaml:7: tags.animal.tags.cat: must be non-empty text, not ''",
        "some.yaml:8: tags.animal.tags.dog: must be text that says what the tag means, or keys with values, not a list",
    ]


def test_a_missing_key_is_not_reported_beside_a_misspelling_of_it() -> None:
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


def test_a_tag_without_a_meaning_is_refused_with_both_ways_to_give_one() -> None:
    problem = "tags.cat: must be text that says what the tag means, or keys with values, not left empty"
    assert lines_of(TAXONOMY + "tags:\n  cat:\n  dog: a barker\n") == [f"some.yaml:4: {problem}"]


def test_a_mistake_in_a_type_is_not_also_reported_as_one_in_a_group() -> None:
    leaf = "{abuot: x, needs: y, forms: [shrt], examples: [p, q]}"
    assert lines_of(f"about: x\ntypes:\n  a:\n    about: x\n    types:\n      b: {leaf}\n", FamilyFile) == [
        "some.yaml:6: unknown key 'abuot' in types.a.types.b: did you mean 'about'?",
        "some.yaml:6: types.a.types.b.forms.0: must be "
        "'short', 'brief', 'detailed', 'choice', 'long', 'text', 'points' or 'boxes', not 'shrt'",
    ]


TYPE = "needs: y, forms: [short], examples: [p, q]"


@pytest.mark.parametrize(
    ("node", "problems"),
    [
        (
            "need: y, forms: [short], examples: [p, q]",
            ["unknown key 'need' in types.a.types.b: did you mean 'needs'?"],
        ),
        (
            f"{TYPE}, xyz: z",
            [
                "unknown key 'xyz' in types.a.types.b: known: "
                f"{', '.join(sorted(InstructionLeaf.model_fields)[:12])} and 4 more"
            ],
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
def test_an_unknown_key_of_a_node_lists_the_keys_of_its_own_kind(node: str, problems: list[str]) -> None:
    lines = lines_of(f"about: x\ntypes:\n  a:\n    about: x\n    types:\n      b: {{about: x, {node}}}\n", FamilyFile)
    assert lines == [f"some.yaml:6: {problem}" for problem in problems]


def test_a_value_that_fits_no_member_of_a_union_is_one_line() -> None:
    assert lines_of("about: x\nrules:\n  - tags: 5\n", MappingFile) == [
        "some.yaml:3: rules.0.tags: must be text or a list, not 5"
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
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
def test_a_wrong_type_is_reported_with_the_value_given(value: str, problem: str) -> None:
    assert lines_of(f"about: x\nrules:\n  - tags: a\n    ask: {{b: {value}}}\n", MappingFile) == [
        f"some.yaml:4: rules.0.ask.b: {problem}"
    ]


def test_every_repeated_key_is_reported_with_the_line_of_the_repeat() -> None:
    assert lines_of("about: x\nwhen: {c: 1, c: 2}\nabout: x\nrules: []\n", MappingFile) == [
        "some.yaml:2: key 'c' is given twice",
        "some.yaml:2: unknown key 'when': known: about, extends, rules, student, text_tags, thing_tags",
        "some.yaml:3: key 'about' is given twice",
    ]
    assert lines_of("about: x\nrules: []\nrules: []\n", MappingFile) == ["some.yaml:3: key 'rules' is given twice"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: [1, 2", 1, "a bracket is never closed; ] is missing"),
        ('a: ["Where" now]\n', 1, "<scalar> in place of , or ]; text with punctuation needs quotes inside brackets"),
        ("a: 1\n\tb: 2\n", 2, "a tab; indent with spaces"),
        ("a: @x\n", 1, "text that begins with @ needs quotes"),
        ("a:\n    b: 1\n  c: 2\n", 3, "the line is not indented like the lines around it"),
        ("a:\n  - b\n  c: 2\n", 3, "the line is not indented like the lines around it"),
        (" a: 1\nb: 2\n", 2, "the line is not indented like the lines around it"),
        ("a: 1\n  b: 2\n", 2, "or a line that is not indented like the lines around it"),
        ("a: x: y\n", 1, "a ': ' in text, which then needs quotes"),
        ("a: 1\nb\nc: 2\n", 2, "the line has no ': ' after a key"),
        ("a: 'open\n", 2, "unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
        ("a: 1\nb: \x00\n", 2, "U+0000"),
        ("? [a, b]\n: 1\n", 1, "a key must be plain text"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "!!python/object/apply:os.system are not allowed"),
        ("a: 1\nb: !!int x\n", 2, "!!int are not allowed"),
        ("a: &x 1\nb: *x\n", 2, "aliases (*name) are not allowed"),
        ("a: x\ntags: **\n", 2, 'text that begins with * needs quotes, as in "**" or "**/scene"'),
        ("ask:\n  **/scene: 1\n", 2, "needs quotes"),
        ("ask: {*/scene: 1}\n", 1, "needs quotes"),
        ("never: [*scene]\n", 1, "a pattern that begins with * needs quotes"),
        ("a: *nobody\n", 1, "aliases (*name) are not allowed"),
        ("a: &x [*x]\n", 1, "aliases (*name) are not allowed"),
    ],
)
def test_invalid_yaml_is_one_line_with_its_place(text: str, line: int, problem: str) -> None:
    message = refusal(text)
    assert message.startswith(f"some.yaml:{line}: invalid YAML: ") and problem in message


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
    assert "some.yaml:1: invalid YAML: a whole number of 5,000 digits" in refusal(f"a: {'9' * 5000}\n")


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab:-[]{}&*!|>'\"#%@ \n?,0.e+~", max_size=60))
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    try:
        check(parse(FILE, text), PackFile)
    except UserMistake as error:
        assert all(line.startswith("some.yaml") for line in str(error).splitlines() if line) and str(error)


# --- values of a file ------------------------------------------------------------------------------------------------


def test_words_and_dates_stay_text_and_numbers_become_numbers() -> None:
    text = "a: [no, on, Yes, 12:30, 0o7, 012, 2024-01-01, 1_000, -3, 1.5, 1e3, true, null, ~]\n"
    read = parse(FILE, text).values["a"]
    assert read == ["no", "on", "Yes", "12:30", "0o7", "012", "2024-01-01", 1000, -3, 1.5, 1000.0, True, None, None]


def test_every_key_is_text() -> None:
    assert parse(FILE, "1: a\ntrue: b\n1.5: c\n").values == {"1": "a", "true": "b", "1.5": "c"}


KEYS = st.sampled_from(["no", "1", "x y", "é", "true", "a:b", "#"])
# PyYAML loses \x85, and writes the text 1e3, which is a number here, without quotes.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x85"), max_size=20).filter(
    lambda text: not re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", text)
)


@given(st.dictionaries(KEYS, TEXTS | st.integers() | st.booleans()))
def test_values_that_pyyaml_writes_are_read_back(values: dict[str, object]) -> None:
    import yaml

    written = yaml.safe_dump(values, allow_unicode=True)
    assert parse(FILE, written).values == values


def test_the_line_of_an_absent_value_is_that_of_the_nearest_key_above_it() -> None:
    document = parse(FILE, "a:\n  b:\n    - x\n    - y\n")
    assert document.where(("a", "b", 1)) == "some.yaml:4"
    assert document.where(("a", "b", 7, "c")) == "some.yaml:2"
    assert document.where(("z",)) == "some.yaml:1"


def test_an_empty_file_lacks_its_required_keys() -> None:
    assert "some.yaml:1: about is missing" in lines_of("# nothing\n")
    assert lines_of("- a\n") == ["some.yaml:1: the file: must be keys with values, not a list"]


# --- the file of a name ----------------------------------------------------------------------------------------------


def test_the_users_file_replaces_the_shipped_one_of_the_same_name(workspace: Path) -> None:
    assert library.shadowed_file("mapping", "everyday") is None
    shipped = library.find("mapping", "everyday")
    own = write(workspace / "pipelines/mappings/everyday.yaml", "about: mine\nrules: []\n")
    assert library.find("mapping", "everyday") == own
    assert library.shadowed_file("mapping", "everyday") == shipped
    assert library.load("mapping", "everyday").values["about"] == "mine"


def test_shipped_files_are_found_from_any_folder(workspace: Path) -> None:
    assert {"everyday", "small"} <= set(library.names("pipeline"))
    assert library.load("taxonomy", "everyday").values["tags"]


def test_an_unknown_name_is_refused_with_the_nearest_known_one(workspace: Path) -> None:
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


def test_names_and_the_names_in_a_file_start_from_the_home_that_is_given(workspace: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    bare = write(home / "pipelines/mappings/small.yaml", "about: theirs\nextends: far/away.yaml\nrules: []\n")
    path = write(home / "far/away.yaml", "about: theirs too\nrules: []\n")
    assert library.find("mapping", "small") == workspace / "pipelines/mappings/small.yaml"
    assert library.find("mapping", "small", home) == bare
    assert library.find("mapping", "far/away.yaml", home) == path
    document = library.load("mapping", "small", home)
    faults: list[str] = []
    assert library.known_names("mapping", document, ("extends",), faults) == ["far/away.yaml"] and not faults
    assert [file.about for _, file in mapping.files("small", home=home)] == ["theirs too", "theirs"]


def test_a_file_that_is_not_text_is_one_line(workspace: Path) -> None:
    (workspace / "pipelines/mappings/bad.yaml").write_bytes(b"about: \xff\xfe\n")
    with pytest.raises(UserMistake, match=r"bad\.yaml: is not UTF-8 text \(invalid start byte at byte 7\)"):
        library.load("mapping", "bad")


def test_a_folder_with_the_name_of_a_file_is_one_line(workspace: Path) -> None:
    (workspace / "pipelines/mappings/folder.yaml").mkdir()
    with pytest.raises(UserMistake, match=r"folder\.yaml: cannot be read"):
        library.load("mapping", "folder")


def test_a_pipe_with_the_name_of_a_file_is_one_line_and_not_waited_for(workspace: Path) -> None:
    os.mkfifo(workspace / "pipelines/mappings/pipe.yaml")
    with pytest.raises(UserMistake, match=r"pipe\.yaml: is not a regular file"):
        library.load("mapping", "pipe")
    assert "is not a regular file" in library.about("mapping", Path("pipelines/mappings/pipe.yaml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_line(workspace: Path) -> None:
    (workspace / "pipelines/mappings/small.yaml").chmod(0)
    with pytest.raises(UserMistake, match="cannot be read: Permission denied"):
        library.load("mapping", "small")


@pytest.mark.parametrize("kind", library.KINDS)
def test_every_shipped_file_is_read_and_has_an_about_line(kind: str) -> None:
    shipped = list((library.shipped_folder() / library.KINDS[kind]).glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert len(library.load(kind, str(path)).values["about"]) > 10


def test_a_list_of_a_fixed_length_with_too_few_items_is_one_mistake(workspace: Path) -> None:
    class Colours(library.Section):
        colours: dict[str, tuple[int, int, int]]

    path = write(workspace / "colours.yaml", "colours:\n  red: [1, 2]\n  blue: [1, 2, 3, 4]\n")
    with pytest.raises(Mistakes) as caught:
        library.check(library.load("tagger", str(path)), Colours)
    assert caught.value.lines[0] == f"{path}:2: colours.red.2 is missing"
    assert len(caught.value.lines) == 2


# --- code ------------------------------------------------------------------------------------------------------------


def test_code_is_imported_by_module_and_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library.import_attribute("pathlib:Path") is Path
    with pytest.raises(UserMistake, match="no_such_module:x: cannot import no_such_module"):
        library.import_attribute("no_such_module:x")
    with pytest.raises(UserMistake, match="pathlib:Nope: module pathlib has no 'Nope'"):
        library.import_attribute("pathlib:Nope")


def test_a_shelf_that_cannot_be_written_is_known_before_the_work(workspace: Path) -> None:
    write(workspace / "empty" / "pipelines", "a file in the place of the folder")
    os.chdir(workspace / "empty")
    with pytest.raises(UserMistake, match=r"pipelines/mappings/ in .*: cannot be written \(Not a directory\); change "):
        library.new_path("mapping", "mine")


def test_a_text_that_cannot_be_written_at_the_end_is_kept_elsewhere(workspace: Path) -> None:
    text = "learnt: " + "x" * 5000
    target = library.new_path("mapping", "mine")
    with full_disk(), pytest.raises(SynthError, match="and neither can a temporary file; free some space"):
        library.write_new(target, text)
    assert not target.exists()
    target.parent.rename(workspace / "elsewhere")
    write(target.parent, "now a file")
    with pytest.raises(SynthError, match=r"cannot be written \(.*\); its text is kept in .*\.yaml: move") as caught:
        library.write_new(target, text)
    kept = Path(str(caught.value).rpartition("kept in ")[2].partition(": move")[0])
    assert kept.read_text() == text
    kept.unlink()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_several_mistakes_keep_their_lines_apart() -> None:
    assert (
        Mistakes(["first", "second"]).lines == ["first", "second"]
        and str(Mistakes(["first", "second"])) == "first\nsecond"
    )
