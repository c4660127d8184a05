"""Pipeline files and `--set`: valid settings, and the messages for mistakes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthgen.config import library
from synthgen.config import pipeline as pipelines
from synthgen.config.fields import FORMATS
from synthgen.config.selection import SelectConfig
from synthgen.config.strict_yaml import QUOTES
from synthgen.errors import Mistakes, UserMistake
from synthgen.ingest.images import plugins
from synthgen.ingest.images.headers import MAGIC
from synthgen.job import resolve
from tests.fixtures.workspace import DEFINITION_FILES, write

SMALLEST = "about: x\ntag: {tagger: t}\nplan: {mapping: m}\ngenerate: {model: a/b, prompts: p}\n"
NO_FORMAT = "not Pillow's name of a supported format"
NO_URL = "is not a base URL such as http://127.0.0.1:8000/v1"
STORED = "which would be stored; set it in the environment of the run"
pytestmark = pytest.mark.usefixtures("workspace")


def load(text: str = SMALLEST, *overrides: str) -> pipelines.Pipeline:
    write(Path("pipelines/mine.yaml"), text)
    return pipelines.load("mine", overrides)


def mistakes_in(*overrides: str, text: str = SMALLEST) -> list[str]:
    with pytest.raises(UserMistake) as caught:
        load(text, *overrides)
    return str(caught.value).splitlines()


def test_every_number_and_flag_of_a_definition_file_is_taken_as_it_is_written() -> None:
    for section in sections_below(library.Section):
        for place, kind, node in scalars_in(section.__pydantic_core_schema__):
            assert node.get("strict"), f"{section.__name__}: {place}: a {kind} is converted from other types"
            assert kind != "int" or {"le", "lt"} & node.keys(), f"{section.__name__}: {place}: has no upper bound"


def sections_below(section: type[library.Section]) -> list[type[library.Section]]:
    below = section.__subclasses__()
    return [*below, *(deeper for each in below for deeper in sections_below(each))]


def scalars_in(schema: Any, place: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    if isinstance(schema, dict) and schema.get("type") in ("bool", "int", "float"):
        yield place, schema["type"], schema
    parts = (
        schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list | tuple) else ()
    )
    for name, part in parts:
        yield from scalars_in(part, f"{place}.{name}")


# --- --set -----------------------------------------------------------------------------------------------------------


def test_a_setting_is_replaced_and_read_as_in_the_file() -> None:
    pipeline = load(
        SMALLEST,
        "tag.workers=3",
        "plan.forms={short: 1, choice: 2.5}",
        "generate.engine.options.max_model_len=4096",
        "generate.engine.options.dtype=bfloat16",
        "generate.scores=[likelihood, answer]",
        "generate.revision=null",
        "select.keep.answer.min=4.5",
        "source.uri=s3://bucket/a=b",
        'generate.model="a/b: c"',
        "pack.license=",
    )
    assert pipeline.tag.workers == 3 and pipeline.plan.forms == {"short": 1, "choice": 2.5}
    assert pipeline.generate.engine.options == {"max_model_len": 4096, "dtype": "bfloat16"}
    assert pipeline.generate.scores == ("likelihood", "answer") and pipeline.generate.revision is None
    assert pipeline.select.keep["answer"].min == 4.5
    assert pipeline.source.uri == "s3://bucket/a=b"
    assert pipeline.generate.model == "a/b: c" and pipeline.pack.license == ""


def test_the_last_of_two_overrides_counts_and_other_settings_stay() -> None:
    text = SMALLEST + "select: {near_questions: 0.5}\n"
    select = load(text, "select.same_question=1", "select.same_question=2").select
    assert (select.same_question, select.near_questions) == (2, 0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tag.wokers=3", "unknown key 'wokers' in tag: did you mean 'workers'?"),
        ("per_image=3", "unknown key 'per_image': did you mean 'plan.per_image'?"),
        ("generate.top_p=0.5", "unknown key 'top_p' in generate: did you mean 'generate.sampling.top_p'?"),
        (
            "workers=3",
            "unknown key 'workers': known: about, evaluate, generate, images, learn, notice, pack, plan, "
            "reask, score, select, source and 4 more",
        ),
        ("tga.workers=3", "unknown key 'tga': did you mean 'tag'?"),
        ("generate.engine.knd=x", "unknown key 'knd' in generate.engine: did you mean 'kind'?"),
        ("plan.per_image=many", "plan.per_image: must be a whole number, not 'many'"),
        ("plan.per_image=2.5", "plan.per_image: must be a whole number, not 2.5"),
        ("plan.per_image=0", "plan.per_image: must be greater than 0, not 0"),
        (
            "pack.row_group_megabytes=5000",
            "pack.row_group_megabytes: must be less than or equal to 1000, not 5000",
        ),
        ("plan.per_image=", "plan.per_image: must be a whole number, not ''"),
        ("plan.per_image=null", "plan.per_image: must be a whole number, not left empty"),
        ("tag=3", "tag: must be keys with values, not 3"),
        ("tag={}", "tag.tagger is missing"),
        ("generate.scores=likelihood", "generate.scores: must be a list, not 'likelihood'"),
        ("images.formats=[jpg, PNG]", f"images.formats.0: 'jpg' is {NO_FORMAT}: did you mean 'JPEG'?"),
        ("images.formats=[PNG, AVFI]", f"images.formats.1: 'AVFI' is {NO_FORMAT}: did you mean 'AVIF'?"),
        ("images.formats=[]", "images.formats: needs at least 1 entry, not 0"),
        ("plan.forms={shrt: 1}", "plan.forms.shrt: 'shrt' is not an answer form: did you mean 'short'?"),
        ("plan.forms={short: -1}", "plan.forms.short: must be greater than or equal to 0, not -1"),
        ("plan.forms={short: 0}", "plan.forms: at least one share must be above 0"),
        ("plan.languages={}", "plan.languages: at least one share must be above 0"),
        ("pack.images=small", "pack.images: must be 'original' or 'resized', not 'small'"),
        ("select.forbidden=['(']", "select.forbidden: '(' is not a valid RE2 regular expression: missing ): ("),
        (
            r"select.forbidden=['(.)\1']",
            r"select.forbidden: '(.)\\1' is not a valid RE2 regular expression: invalid escape sequence: \1",
        ),
        ("select.keep.answer.mim=1", "unknown key 'mim' in select.keep.answer: did you mean 'min'?"),
        ("source.sidecar=json", "source.sidecar: is no suffix, which has a dot; did you mean '.json'?"),
        ("select.keep={answer: {mim: 1}}", "unknown key 'mim' in select.keep.answer: did you mean 'min'?"),
        (
            "select.keep={blind: {forms: [shrt]}}",
            "select.keep.blind.forms.0: 'shrt' is not an answer form: did you mean 'short'?",
        ),
        ("generate.engine={kind: endpoint, urls: [nohttp]}", f"generate.engine.urls.0: {NO_URL}"),
        ("generate.engine={kind: endpoint, urls: ['http:///v1']}", f"generate.engine.urls.0: {NO_URL}"),
        (
            "generate.engine={kind: endpoint, urls: ['https://host/v1', 'ftp://host/v1']}",
            f"generate.engine.urls.1: {NO_URL}",
        ),
        (
            "generate.engine.template={tokenize: true}",
            "generate.engine.template: tokenize is set for each call and cannot be configured",
        ),
        (
            "generate.engine.environment={MY_TOKEN: x}",
            f"generate.engine.environment: MY_TOKEN looks like a secret, {STORED}",
        ),
        (
            "pack.languages=[en, english]",
            "pack.languages.1: 'english' is not an ISO 639 code of two or three lower-case letters, such as en",
        ),
        (
            "pack.languages=[EN]",
            "pack.languages.0: 'EN' is not an ISO 639 code of two or three lower-case letters, such as en",
        ),
        (
            "select.keep={likelihood: {min: 0.9, max: 0.1}}",
            "select.keep.likelihood: min 0.9 is above max 0.1, so no pair could be kept",
        ),
        ("images.decode_seconds=1e999", "images.decode_seconds: must be a finite number, not inf"),
        ("plan.per_image=true", "plan.per_image: must be a whole number, not true"),
        ("plan.per_image='3'", "plan.per_image: must be a whole number, not '3'"),
        ("plan.caps={a: true}", "plan.caps.a: must be a whole number, not true"),
        ("plan.share=true", "plan.share: must be a number, not true"),
        ("plan.share='0.5'", "plan.share: must be a number, not '0.5'"),
        ("select.earlier_first=1", "select.earlier_first: must be true or false, not 1"),
        ("select.earlier_first='true'", "select.earlier_first: must be true or false, not 'true'"),
        (
            f"plan.per_image={2**63}",
            f"plan.per_image: must be less than or equal to 1000000000000000, not {2**63}",
        ),
        (f"plan.seed=-{2**63}", f"plan.seed: must be greater than or equal to -1000000000000000, not -{2**63}"),
        ("plan.per_type=100000", "plan.per_type: must be less than or equal to 1000, not 100000"),
    ],
)
def test_a_wrong_setting_is_one_line_that_begins_with_the_override(override: str, message: str) -> None:
    assert mistakes_in(override) == [f"--set {override}: {message}"]


def test_another_kind_of_engine_with_the_options_of_the_old_one_is_one_line() -> None:
    text = SMALLEST.replace("prompts: p", "prompts: p, engine: {options: {dtype: bfloat16, max_model_len: 9}}")
    kind = "generate.engine.kind=scripted"
    assert mistakes_in(kind, text=text) == [
        f"--set {kind}: the options beside it (dtype, max_model_len) are of kind vllm; replace the whole section, as "
        "--set 'generate.engine={kind: scripted}'"
    ]
    for others in ((kind, "generate.engine.options={}"), ("generate.engine={kind: scripted}",), (kind[:-8] + "vllm",)):
        load(text, *others)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tag.workers", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("tag..workers=3", "write it as section.key=value"),
        (
            "tag.workers=[1",
            "the value is not valid YAML (a bracket is never closed; ] is missing); put it in quotes if it is text",
        ),
        (
            "tag.workers=*x",
            f"the value is not valid YAML (aliases (*name) are not allowed; a pattern that begins with * {QUOTES}); "
            "put it in quotes if it is text",
        ),
        (
            'notice="\\ud83d"',
            r"the value is not valid YAML (\ud83d is half of a character); put it in quotes if it is text",
        ),
        ("tag.tagger.x=1", "'x' cannot be set, because tag.tagger has no keys"),
        ("generate.scores.0=answer", "'0' cannot be set, because generate.scores has no keys"),
    ],
)
def test_an_override_that_cannot_be_applied_is_one_line(override: str, message: str) -> None:
    text = SMALLEST.replace("prompts: p", "prompts: p, scores: [likelihood]")
    assert mistakes_in(override, text=text) == [f"--set {override}: {message}"]


@pytest.mark.parametrize(
    "override", ["source.uri.x=s3://user:hunter2@bucket", "source.uri=[https://host/list?sig=hunter2"]
)
def test_an_override_is_repeated_without_its_secrets(override: str) -> None:
    (message,) = mistakes_in(override, text=SMALLEST + "source: {uri: s3://bucket}\n")
    assert message.startswith("--set source.uri") and "hunter2" not in message


def test_mistakes_of_the_file_and_of_overrides_are_reported_together() -> None:
    lines = mistakes_in("tag.wokers=3", "plan.seed=x", text=SMALLEST + "pakc: {}\n")
    assert sorted(lines) == sorted(
        [
            "--set tag.wokers=3: unknown key 'wokers' in tag: did you mean 'workers'?",
            "--set plan.seed=x: plan.seed: must be a whole number, not 'x'",
            f"{Path.cwd()}/pipelines/mine.yaml:5: unknown key 'pakc': did you mean 'pack'?",
        ]
    )


@given(
    st.sampled_from(["tag.workers", "plan.seed", "a.b.c", "generate.engine.options.x", "source.uri"]),
    st.text(max_size=20),
)
def test_any_override_is_applied_or_refused_with_a_message(key: str, value: str) -> None:
    try:
        pipelines.load("small", [f"{key}={value}"])
    except UserMistake as error:
        assert str(error).startswith(f"--set {key}=")


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_supported_formats_are_those_that_first_bytes_identify_and_pillow_decodes() -> None:
    Image.init()
    identified = {name for _, name in MAGIC} | {"WEBP", "AVIF", "HEIF", "BMP", "PPM"}
    decoded = (identified & set(Image.OPEN)) - {"EPS", "WMF", "CUR"}
    assert set(FORMATS) == decoded | {"MPO"} | set(plugins.PACKAGES)  # an MPO begins as a JPEG


def test_the_smallest_pipeline_has_a_default_for_everything_else() -> None:
    assert load().model_dump(mode="json")["select"]["near_questions"] == 0.8


def test_a_pipeline_with_every_default_written_out_is_the_same_pipeline() -> None:
    pipeline = load(SMALLEST, "plan.forms={short: 1}", "select.keep={answer: {min: 3}}", "source.suffixes=[.jpg]")
    assert load(yaml.safe_dump(pipeline.model_dump(mode="json"), allow_unicode=True)) == pipeline


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().tag.workers = 9


@pytest.mark.parametrize("name", [path.stem for path in (library.shipped_folder() / "pipelines").glob("*.yaml")])
def test_every_shipped_pipeline_names_definition_files_that_fit_together(name: str) -> None:
    _, definitions = resolve.load(pipelines.read(name))
    assert definitions.rules.rules and definitions.prompts.types and definitions.taxonomy.tree.leaves


def mistakes(*overrides: str, name: str = "small") -> list[str]:
    """Return every mistake in a pipeline and its definition files."""
    with pytest.raises(Mistakes) as caught:
        resolve.load(pipelines.read(name, overrides))
    return [line.replace(f"{Path.cwd()}/", "") for line in caught.value.lines]


def test_the_mistakes_of_all_files_of_a_pipeline_are_reported_together() -> None:
    write(Path("taggers/beside.yaml"), "about: x\nengine: sidecar\ntaxonomy: smal\n")
    write(Path("prompts/small.yaml"), "about: x\nfamilies: [small]\nask: {text: x, parse: jsn}\nanswer: {}\n")
    scores, keep = "generate.scores=[likelyhood]", "select.keep={answer: {min: 1}, blind: {min: 1}}"
    assert mistakes(scores, keep) == [
        "taggers/beside.yaml:3: taxonomy 'smal' is unknown: did you mean 'small'? (`synth list taxonomy` shows all)",
        "prompts/small.yaml:3: ask.parse: must be 'json', 'lines' or 'judged', not 'jsn'",
        "prompts/small.yaml:4: no answer prompt for the form 'short'",
        "prompts/small.yaml:4: no answer prompt for the form 'brief'",
        "prompts/small.yaml:4: no answer prompt for the form 'choice'",
        "mapping 'small': its tags are checked once the taxonomy can be read without mistakes",
        f"--set {scores}: generate.scores: 'likelyhood' is not a score: did you mean 'likelihood'?",
        f"--set {keep}: select.keep: 'answer' is not scored; add it to generate.scores (likelyhood)",
        f"--set {keep}: select.keep: 'blind' is not scored; add it to generate.scores (likelyhood)",
    ]


def edit(name: str, old: str, new: str) -> None:
    text = DEFINITION_FILES[name]
    assert old in text
    write(Path(name), text.replace(old, new))


def test_no_mistake_hides_one_in_another_section_or_file() -> None:
    """Every file of the workspace has a mistake, from the pipeline to the mapping."""
    write(
        Path("pipelines/small.yaml"),
        DEFINITION_FILES["pipelines/small.yaml"]
        .replace("tag: {tagger: beside}", "tag: {tagger: beside, wokers: 2}")
        .replace("scores: [likelihood, answer]", "scores:\n    - likelihood\n    - answre")
        .replace("per_image: 3", "per_image: 3, caps: {coarse/**: 5, corse/**: 5}"),
    )
    edit("taggers/beside.yaml", "engine: sidecar\n", "engine: sidecar\nkye: tags\nnames: {kitty: animal/kat}\n")
    edit("prompts/small.yaml", "Short.", "{{ shrt }}")
    write(Path("prompts/small.yaml"), Path("prompts/small.yaml").read_text() + "judeg: {}\n")
    edit("pipelines/mappings/small.yaml", "ask: {fine/**: 4}", "ask:\n      fine/**: 4\n      fien/**: 4\n    nevr: []")
    assert sorted(mistakes()) == sorted(
        [
            "pipelines/small.yaml:3: unknown key 'wokers' in tag: did you mean 'workers'?",
            "pipelines/small.yaml:4: plan.caps: no instruction type matches 'corse/**': did you mean 'coarse/**'?",
            "pipelines/small.yaml:11: generate.scores: 'answre' is not a score: did you mean 'answer'?",
            "pipelines/small.yaml:12: select.keep: 'answer' is not scored; "
            "add it to generate.scores (likelihood, answre)",
            "taggers/beside.yaml:3: unknown key 'kye': did you mean 'key'?",
            "taggers/beside.yaml:4: no tag of 'small' is 'animal/kat': did you mean 'animal/cat'?",
            "prompts/small.yaml:7: answer.short.text: unknown variable 'shrt': "
            "known: language, options, previous, question",
            "prompts/small.yaml:25: unknown key 'judeg': did you mean 'judge'?",
            "pipelines/mappings/small.yaml:8: no instruction type matches 'fien/**': did you mean 'fine/**'?",
            "pipelines/mappings/small.yaml:9: unknown key 'nevr' in rules.1: did you mean 'never'?",
        ]
    )


def test_a_mistake_in_a_file_does_not_make_names_in_other_files_unknown() -> None:
    """A wrong taxonomy and a wrong family make no tag or type of the mapping unknown; its other mistakes stay."""
    edit("taggers/taxonomies/small.yaml", "  document:\n    means: a page\n", "  Document:\n    maens: a page\n")
    edit("prompts/families/small.yaml", "fine:\n    about: details", "fine:\n    abuot: details")
    edit("pipelines/mappings/small.yaml", "tags: document/**", "tags: document/**\n    whne: {}")
    assert sorted(mistakes()) == sorted(
        [
            "taggers/taxonomies/small.yaml:9: 'Document' is not a valid name; use lower-case letters, digits and _",
            "taggers/taxonomies/small.yaml:10: unknown key 'maens' in tags.Document: did you mean 'means'?",
            "prompts/families/small.yaml:9: unknown key 'abuot' in types.fine: did you mean 'about'?",
            "pipelines/mappings/small.yaml:6: unknown key 'whne' in rules.1: did you mean 'when'?",
            "mapping 'small': its tags are checked once the taxonomy can be read without mistakes",
            "mapping 'small': its instruction types are checked once the families can be read without mistakes",
        ]
    )


def test_the_mistakes_of_one_file_come_in_the_order_of_its_lines() -> None:
    """Wrong values and unknown names are found separately and reported together."""
    text = (
        DEFINITION_FILES["pipelines/mappings/small.yaml"]
        + "  - tags: animal/kat\n    ask: {fine/**: -5}\n  - tags: animal/cat\n    ask: {fien/**: 1}\n"
    )
    write(Path("pipelines/mappings/small.yaml"), text + "abot: x\n")
    lines = mistakes()
    assert [int(line.split(":")[1]) for line in lines] == [7, 8, 10, 11]
    assert {line.split(":")[0] for line in lines} == {"pipelines/mappings/small.yaml"}


def test_a_repeated_key_and_a_wrong_override_hide_no_other_mistake() -> None:
    edit("pipelines/small.yaml", "tag: {tagger: beside}", "tag: {tagger: beside, workers: 1, workers: 2, bach: 3}")
    edit("taggers/beside.yaml", "taxonomy: small", "taxonomy: smal")
    assert sorted(mistakes("tag.workers", "tag.gpus=x")) == sorted(
        [
            "pipelines/small.yaml:3: key 'workers' is given twice",
            "pipelines/small.yaml:3: unknown key 'bach' in tag: did you mean 'batch'?",
            "--set tag.workers: write it as section.key=value",
            "--set tag.gpus=x: tag.gpus: must be a number, not 'x'",
            "mapping 'small': its tags are checked once the taxonomy can be read without mistakes",
            "taggers/beside.yaml:3: taxonomy 'smal' is unknown: did you mean 'small'? "
            "(`synth list taxonomy` shows all)",
        ]
    )


def test_a_score_that_pack_or_engine_cannot_serve_is_refused() -> None:
    write(
        Path("prompts/small.yaml"),
        Path("prompts/small.yaml").read_text().replace('blind: {text: "{{ question }} Blind."}\n', ""),
    )
    scores = "generate.scores=[blind, image_gain]"
    assert mistakes(scores, "select.keep={}", "generate.engine={kind: endpoint, urls: ['http://x/v1']}") == [
        f"--set {scores}: generate.scores: 'blind' needs the prompt blind, which pack 'small' does not have",
        f"--set {scores}: generate.scores: 'image_gain' needs prompt log-probabilities, "
        "which engine kind endpoint does not give; take it out of the scores and select.keep, or "
        "use engine kind vllm",
    ]


def test_a_line_that_declines_is_refused_where_replies_are_json() -> None:
    edit(
        "prompts/small.yaml",
        '{{ language }}.", parse: json}\nask_choice',
        '{{ language }}.", parse: json, none: none}\nask_choice',
    )
    assert mistakes() == [
        "prompts/small.yaml:4: ask: `none` needs `parse: lines`; with json the model declines in its JSON"
    ]


def test_labels_with_equal_beginnings_are_refused_for_an_endpoint_and_left_to_vllm_to_check() -> None:
    digits = "[" + ", ".join(f"'{number}'" for number in range(1, 11)) + "]"
    edit("prompts/small.yaml", 'answer: {text: "Rate {{ question }} {{ answer }}", labels: ["1", "2", "3"]}', (
        f'answer: {{text: "Rate {{{{ question }}}} {{{{ answer }}}}", labels: {digits}}}'
    ))  # fmt: skip
    scores = "generate.scores=[question, answer]"
    assert mistakes(scores, "generate.engine={kind: endpoint, urls: ['http://x/v1']}") == [
        f"--set {scores}: generate.scores: 'answer' needs labels with distinct first tokens, "
        "which is all that engine kind endpoint shows; "
        "in pack 'small' '1' begins '10'; use other labels, or engine kind vllm",
    ]
    assert resolve.load(pipelines.read("small", [scores, "generate.engine={kind: vllm}"]))


def test_unknown_options_of_the_scripted_engine_are_reported_without_starting_it() -> None:
    options = "engine: {kind: scripted, options: {dtype: float32, junk: 0.5, secnds: 1}}"
    edit("pipelines/small.yaml", "engine: {kind: scripted}", options)
    wrong = "pipelines/small.yaml:8: unknown key"
    lines = mistakes("generate.engine.options.late=much")
    assert lines[0].startswith(f"{wrong} 'dtype' in generate.engine.options: known: decline, die_on, ")
    assert lines[1:] == [
        f"{wrong} 'secnds' in generate.engine.options: did you mean 'seconds'?",
        "--set generate.engine.options.late=much: generate.engine.options.late: must be a number, not 'much'",
    ]


@pytest.mark.parametrize("engine", ["{kind: 'mine:Engine', options: {dtype: x}}", "{options: {dtype: x}}"])
def test_options_of_other_engines_are_for_them_to_judge(engine: str) -> None:
    assert resolve.load(pipelines.read("small", [f"generate.engine={engine}"]))


def test_a_forbidden_pattern_may_use_all_of_re2() -> None:
    patterns = (r"[[:digit:]]+", r"\pL", r"\x{1F600}")
    assert SelectConfig(forbidden=patterns).forbidden == patterns


def test_a_stored_pipeline_is_checked_like_a_file() -> None:
    pipeline = pipelines.load("small")
    assert resolve.load_definitions(pipeline) == resolve.load(pipelines.read("small"))[1]
    with pytest.raises(Mistakes, match=r"^pipeline: select\.keep: 'answer' is not scored"):
        resolve.load_definitions(
            pipeline.model_copy(update={"generate": pipeline.generate.model_copy(update={"scores": ("likelihood",)})})
        )
