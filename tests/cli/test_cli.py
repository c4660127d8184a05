"""The command line under bad use: one clear line on stderr, the right exit status, and not a byte written anywhere.

A process that has imported everything forks one child for each command, so that a test costs milliseconds; a test that
needs Ray or the console script itself starts a new process.
"""

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import huggingface_hub
import pytest
import typer

import synthgen
from synthgen import cli
from synthgen.cli.options import OnFolder
from synthgen.commands import preview, show
from synthgen.config import library
from synthgen.config import pipeline as pipelines
from synthgen.engines import ModelName
from synthgen.errors import SettingsChanged, UserMistake
from synthgen.job import changes, job
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Change, Job
from synthgen.store import Lease, Receipt, RunFolder, TablePart
from synthgen.store.opening import open_folder
from synthgen.tables import LIST, OBJECTS, object_row, table
from tests.fixtures.noise import grey_noise
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write

FORKING = """
import json, os, sys, traceback
from synthgen import cli, run
from synthgen.console import progress
from synthgen.commands import preview, show
from synthgen.job import funnel
progress.PATIENCE_SECONDS = float("inf")
for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(case["folder"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT), number)
        sys.argv, code = ["synth", *case["arguments"]], 0
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
HEAVY = (
    "ray",
    "torch",
    "pyarrow",
    "pandas",
    "numpy",
    "open_clip",
    "transformers",
    "vllm",
    "fsspec",
    "pydantic",
    "yaml",
    "PIL",
)


@dataclass(frozen=True)
class Done:
    """The exit status and the output of a command."""

    status: int
    stdout: str
    stderr: str


Synth = Callable[..., Done]


@pytest.fixture(scope="module")
def forking() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def synth(forking: subprocess.Popen[str], workspace: Path, tmp_path: Path) -> Synth:
    """Return a function that runs a command in the workspace."""

    def run(*arguments: str) -> Done:
        files = {name: str(tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}") for name in ("stdout", "stderr")}
        stdin, stdout = _pipes(forking)
        stdin.write(json.dumps({"folder": str(workspace), "arguments": arguments, **files}) + "\n")
        stdin.flush()
        status = int(stdout.readline())
        return Done(status, Path(files["stdout"]).read_text(), Path(files["stderr"]).read_text())

    return run


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin and process.stdout
    return process.stdin, process.stdout


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str | None, str]:
    """Return the commits of a model hub by revision; None is the newest."""
    commits: dict[str | None, str] = {None: "a" * 40, "main": "a" * 40}

    class Api:
        def model_info(self, model: str, revision: str | None = None) -> Any:
            return SimpleNamespace(sha=commits[revision])

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return commits


@pytest.fixture
def photos(workspace: Path) -> Path:
    folder = workspace / "photos"
    make_images(folder, 3)
    return folder


def contents(folder: Path) -> Mapping[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refusal(synth: Synth, *arguments: str, status: int = 2) -> str:
    """Return the one line with which a command is refused, having changed nothing in the working folder."""
    before = contents(Path.cwd())
    done = synth(*arguments)
    assert contents(Path.cwd()) == before
    assert done.status == status, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("synth: ")
    return line.removeprefix("synth: ")


RUN = ("run", "photos", "--out", "out", "--pipeline", "small")


# --- arguments and options --------------------------------------------------------------------------------------------


def test_an_unknown_pipeline_is_refused_with_the_nearest_one(synth: Synth, photos: Path) -> None:
    message = refusal(synth, "run", "photos", "--out", "out", "-p", "smal")
    assert message == "pipeline 'smal' is unknown: did you mean 'small'? (`synth list pipeline` shows all)"


def test_an_unknown_setting_is_refused_with_the_nearest_one(synth: Synth, photos: Path) -> None:
    assert (
        refusal(synth, *RUN, "--set", "tag.wokers=2")
        == "--set tag.wokers=2: unknown key 'wokers' in tag: did you mean 'workers'?"
    )


def test_an_unknown_reason_is_refused_with_the_nearest_one_and_the_place_of_the_list(synth: Synth) -> None:
    lists = "`synth status` shows those of a folder, docs/security.md explains all"
    for typed, meant in (
        ("failed.declnied", "failed.declined"),
        ("failed.corrupt", "quarantined.corrupt"),
        ("faild", "failed"),
    ):
        assert (
            refusal(synth, "retry", "out", "--reason", typed)
            == f"--reason {typed}: no row fails for that; did you mean '{meant}'? {lists}"
        )
    assert refusal(synth, "retry", "out", "--reason", "zzz") == f"--reason zzz: no row fails for that; {lists}"


IMAGES, OUT = (
    "the images (a folder, a glob, s3://…, gs://…, Parquet files or urls:FILE)",
    "--out, the folder for the results",
)


@pytest.mark.parametrize(
    ("given", "missing"),
    [(("photos",), OUT), ((), f"{IMAGES}, and {OUT}"), (("--set", "source.uri=photos"), OUT)],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_everything_missing_is_reported_at_once(
    synth: Synth, photos: Path, command: str, given: tuple[str, ...], missing: str
) -> None:
    message = refusal(synth, command, *given, "-p", "small")
    assert message == f"missing: {missing}; for example: synth {command} photos --out data"


FOLDER_MISSING = "status: FOLDER is missing (the output folder of a run: a path, s3://… or gs://…)"
NAME_MISSING = "NAME is missing (the name of the file, as `synth list KIND` prints it, or a .yaml file)"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "run photos --modle x",
            "run: option '--modle' is unknown: did you mean '--model'? (`synth run --help` shows all)",
        ),
        ("run photos -x", "run: option '-x' is unknown (`synth run --help` shows all)"),
        ("--verion", "option '--verion' is unknown: did you mean '--version'? (`synth --help` shows all)"),
        ("rnu photos", "command 'rnu' is unknown: did you mean 'run'? (`synth --help` shows all)"),
        ("zzz", "command 'zzz' is unknown (`synth --help` shows all)"),
        ("status", f"{FOLDER_MISSING}; write `synth status FOLDER`"),
        ("status out more", "status: got unexpected extra argument(s) (more); write `synth status FOLDER`"),
        ("status out --json=3", "option '--json' does not take a value"),
        ("purge", f"{FOLDER_MISSING.replace('status', 'purge')}; write `synth purge FOLDER [ID]…`"),
        ("show taxonomy", f"show: {NAME_MISSING}; write `synth show KIND NAME`"),
        ("copy taxonomy", f"copy: {NAME_MISSING}; write `synth copy KIND NAME NEW`"),
        ("run photos --limit 0", "run: --limit: must be greater than or equal to 1"),
        ("run photos --limit x", "run: --limit: must be a whole number"),
        ("run photos --limit", "option '--limit' requires an argument"),
        (
            "train out",
            "train: --model is missing (the model to start from: a hub name or a folder); "
            "write `synth train --model MODEL --out OUT [SHARDS]`",
        ),
    ],
)
def test_words_unknown_to_the_command_line_are_one_line_as_every_mistake_is(
    synth: Synth, photos: Path, typed: str, message: str
) -> None:
    assert refusal(synth, *typed.split()) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "photos", "--out", "out", "--from", "tga"), "--from 'tga' is unknown: did you mean 'tag'?"),
        (
            ("run", "photos", "--out", "out", "--replan", "--from", "select"),
            "--replan draws the plan again, but --from and --until leave it out; leave them out",
        ),
        (
            ("run", "photos", "--out", "out", "--until", "zzz"),
            "--until 'zzz' is unknown: known: generate, pack, plan, score, select, tag",
        ),
        (
            ("run", "photos", "--out", "out", "--from", "it's"),
            "--from 'it's' is unknown: known: generate, pack, plan, score, select, tag",
        ),
        (("copy", "taxonomi", "x", "y"), "kind 'taxonomi' is unknown: did you mean 'taxonomy'?"),
        (("list", "famly"), "kind 'famly' is unknown: did you mean 'family'?"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_nearest_one(
    synth: Synth, photos: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert refusal(synth, *arguments) == message


# --- sources and output folders ---------------------------------------------------------------------------------------


def test_a_missing_image_folder_is_reported(synth: Synth) -> None:
    assert refusal(synth, "run", "nowhere", "--out", "out", "-p", "small") == "nowhere: no such file or folder"


def test_a_missing_image_folder_of_the_pipeline_is_reported_with_its_line(synth: Synth, workspace: Path) -> None:
    pipeline = write(
        workspace / "pipelines/mine.yaml",
        DEFINITION_FILES["pipelines/small.yaml"].replace("sidecar: .json", "uri: nowhere"),
    )
    assert (
        refusal(synth, "run", "--out", "out", "-p", "mine")
        == f"{pipeline}:2: source.uri: nowhere: no such file or folder"
    )
    assert refusal(synth, "run", "elsewhere", "--out", "out", "-p", "mine") == "elsewhere: no such file or folder"


def test_a_folder_without_images_is_reported(synth: Synth, workspace: Path) -> None:
    write(workspace / "texts/readme.txt", "no image")
    (workspace / "empty").mkdir()
    for name in ("empty", "texts", "texts/*.png"):
        assert refusal(synth, "run", name, "--out", "out", "-p", "small").startswith(
            f"0 images under {name}; suffixes looked for: .jpg"
        )


def test_an_output_that_is_a_file_is_refused(synth: Synth, photos: Path, workspace: Path) -> None:
    write(workspace / "out", "mine")
    assert refusal(synth, *RUN) == "out: is a file; give a folder"


def test_an_output_with_other_content_is_refused(synth: Synth, photos: Path, workspace: Path) -> None:
    write(workspace / "out/thesis.txt", "years of work")
    assert refusal(synth, *RUN) == f"{workspace}/out: is not empty and holds no synth run; give a new folder"


LONG = "long" * 65  # more than a file's name may have


def test_an_output_that_cannot_be_made_is_reported(synth: Synth, photos: Path) -> None:
    line = refusal(synth, "run", "photos", "--out", "/proc/out", "-p", "small")
    assert line.startswith("/proc/out/lease: writing there is impossible (FileNotFoundError: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("run", "photos", "--out", "notes.txt/out", "-p", "small"),
            "{home}/notes.txt/out: listing there is impossible (NotADirectory",
        ),
        (("status", "notes.txt/out"), "{home}/notes.txt/out: listing there is impossible (NotADirectory"),
        (
            ("run", "photos", "--out", "~nobody_at_all/out", "-p", "small"),
            "~nobody_at_all/out: there is no user ~nobody_at_all; ",
        ),
        (
            ("run", "~nobody_at_all/photos", "--out", "out", "-p", "small"),
            "~nobody_at_all/photos: there is no user ~nobody_at_all; ",
        ),
        # As a folder that may not be entered; but root, as whom tests may run, enters all of them.
        (("run", "photos", "--out", f"{LONG}/out", "-p", "small"), f"{LONG}/out: cannot be read (OSError: "),
        (("run", f"{LONG}/photos", "--out", "out", "-p", "small"), f"{LONG}/photos: cannot be read (OSError: "),
    ],
)
def test_an_impossible_path_is_reported(
    synth: Synth, photos: Path, workspace: Path, words: tuple[str, ...], message: str
) -> None:
    write(workspace / "notes.txt", "mine")
    assert refusal(synth, *words).startswith(message.format(home=workspace))


@pytest.mark.parametrize(
    "name",
    [
        "photos \U0001f4f7",
        "\U00020bb7野",
        "é\\ud83d\\ude00",
        'a "b" # c: d',
        "tab\t\x7f\u00a0",
        os.fsdecode(b"\xff\xe9"),
    ],
)
def test_a_folder_of_images_or_a_model_may_have_any_name(
    synth: Synth, photos: Path, workspace: Path, name: str
) -> None:
    (workspace / name).mkdir()
    assert refusal(synth, "run", name, "--out", "out", "-p", "small").startswith("0 images under ")
    engine = ("--set", "generate.engine={kind: vllm}", "--set", "generate.scores=[]", "--set", "select.keep={}")
    assert refusal(synth, *RUN, *engine, "--model", name).endswith(
        ": is a folder without config.json; give a model folder or a hub name"
    )


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            ("--from", "pack", "--until", "tag"),
            "--from pack comes after --until tag; the stages are tag, plan, generate, score, select, pack",
        ),
        (("--from", "select"), "--from select: there is nothing from 'generate' in"),
    ],
)
def test_a_range_of_stages_that_does_nothing_is_refused(
    synth: Synth, photos: Path, stages: tuple[str, ...], message: str
) -> None:
    assert refusal(synth, "run", "photos", "--out", "out", "-p", "small", *stages).startswith(message)
    assert not Path("out").exists()


def test_an_output_in_memory_is_refused(synth: Synth, photos: Path) -> None:
    assert refusal(synth, "run", "photos", "--out", "memory://x", "-p", "small").startswith(
        "memory://x: memory is lost"
    )


ENGINE = "{kind: scripted, script: 'mine:Engine', options: {dtype: float32}}"


def open_small(*settings: str) -> Job:
    """Return a job of the small pipeline on `photos` and the folder `out`, with the record that this has."""
    folder = RunFolder(open_folder("out"))
    return job.open_job(folder.out, pipelines.load("small", ["source.uri=photos", *settings]), record=folder.record)


def start(opened: Job, last: str = "pack") -> None:
    """Write the settings of a job into its folder, as a run does before its first stage."""
    changes.write_settings(RunFolder(opened.out), opened, RunRequest(), ("tag", last), is_redraw=False)


def is_new(opened: Job, change: Change = "growth") -> bool:
    """Return whether the folder of a job is new; raise SettingsChanged if it was made with other settings."""
    return changes.check_folder(RunFolder(opened.out), opened, RunRequest(), ("tag", "pack"), change)


@pytest.fixture
def started(workspace: Path, photos: Path) -> Path:
    """Return the output folder of a run that was only started."""
    start(open_small())
    return workspace / "out"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("elsewhere",), "source.uri was '{home}/photos' and is '{home}/elsewhere'"),
        (("photos", "--set", "plan.per_image=5"), "plan.per_image was 3 and is 5"),
        (("photos", "--set", "generate.scores=[answer]"), "the score 'likelihood' is gone"),
        (("photos", "--model", "other"), "generate.model changed"),
        (("photos", "--set", "images.model_pixels=9000"), "images.model_pixels was 1003520 and is 9000"),
        (("photos", "--set", "source.sidecar=.txt"), "source.sidecar was '.json' and is '.txt'"),
        (("photos", "--set", "generate.sampling.top_p=0.5"), "generate.sampling.top_p was 1.0 and is 0.5"),
        (("photos", "--set", "tag.tagger=other"), "the tagger 'beside' is gone; the tagger 'other' is new. Run"),
        (("photos", "--set", f"generate.engine={ENGINE}"), "generate.engine.options.dtype is new"),
    ],
)
def test_the_output_of_a_run_with_other_settings_is_refused(
    synth: Synth, started: Path, change: tuple[str, ...], message: str
) -> None:
    make_images(started.parent / "elsewhere", 1)
    write(started.parent / "taggers/other.yaml", DEFINITION_FILES["taggers/beside.yaml"])
    line = refusal(synth, "run", *change, "--out", "out", "-p", "small")
    assert line.startswith(f"{started}: was made with other settings: {message.format(home=started.parent)}")
    then = (
        "add the images of this source to those of the other"
        if change == ("elsewhere",)
        else "recompute what that touches"
    )
    assert line.endswith(f"Run with --update to {then}, or use another --out")


def test_another_image_column_is_refused_even_as_an_update_once_rows_are_listed(synth: Synth, started: Path) -> None:
    opened = open_small("source.image_column=img")
    assert is_new(opened, "edit") is False, "no row is listed"
    folder = RunFolder(opened.out)
    listed = table([object_row(f"{started}/p.parquet", "v", 0)], OBJECTS)
    with Lease.take(opened.out) as lease:
        file = folder.stage(LIST).write("objects", "e001-00000", 1, listed)
        folder.commit(LIST, Receipt("e001-00000", 1, {"objects": TablePart((file,), "f")}), lease)
    assert refusal(synth, *RUN, "--set", "source.image_column=img", "--update") == (
        f"{started}: source.image_column was 'image' and is 'img': the rows already listed are read "
        "from the old column; use another --out"
    )


def test_a_folder_keeps_the_hub_commit_of_the_model_that_it_was_started_with(
    workspace: Path, hub: dict[str | None, str]
) -> None:
    settings = ["generate.engine={kind: vllm}", "generate.model=some/model"]
    start(open_small(*settings))
    hub.update({None: "b" * 40, "main": "b" * 40})
    again = open_small(*settings)
    assert again.model.revision == "a" * 40 and not is_new(again)
    with pytest.raises(SettingsChanged, match=r"generate\.model changed"):
        is_new(open_small(*settings, "generate.revision=main"))


def test_a_folder_keeps_the_hub_commit_of_the_model_that_tagged_its_images(
    workspace: Path, hub: dict[str | None, str]
) -> None:
    file = write(workspace / "taggers/chooser.yaml", "about: x\nengine: vlm\ntaxonomy: small\nmodel: some/model\n")
    setting = "tag.tagger=[beside, chooser]"
    start(open_small(setting), last="tag")
    hub.update({None: "b" * 40, "main": "b" * 40})
    again = open_small(setting)
    assert again.definitions.taggers[1].model == ModelName("some/model", "a" * 40)
    assert not is_new(again)
    start(again)
    assert job.reopen(RunFolder(again.out)).definitions.taggers == again.definitions.taggers
    for edit in ("model: some/model\nrevision: main\n", "model: some/other\n"):
        write(file, f"about: x\nengine: vlm\ntaxonomy: small\n{edit}")
        edited = open_small(setting)
        model = edited.definitions.taggers[1].model
        assert model and model.revision == "b" * 40
        with pytest.raises(SettingsChanged, match="the tagger 'chooser' changed"):
            is_new(edited)


def test_an_edit_of_a_definition_file_is_a_change_and_one_of_its_comments_is_none(
    synth: Synth, started: Path, workspace: Path
) -> None:
    mapping = workspace / "pipelines/mappings/small.yaml"
    write(mapping, DEFINITION_FILES["pipelines/mappings/small.yaml"].replace("fine/**: 4", "fine/**: 5"))
    assert "the mapping changed" in refusal(synth, "run", "photos", "--out", "out", "-p", "small")
    write(mapping, "# a note\n" + DEFINITION_FILES["pipelines/mappings/small.yaml"])
    assert is_new(open_small()) is False


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("taggers/beside.yaml", "engine: sidecar", "engine: sidecar\nkey: names", "the tagger 'beside' changed"),
        (
            "prompts/families/small.yaml",
            "needs: text, forms: [short]",
            "needs: words, forms: [brief]",
            "the instruction type 'fine/reading' changed",
        ),
        ("prompts/small.yaml", "Be good", "Be bad", "system of the prompts was 'Be good.' and is 'Be bad.'"),
        (
            "prompts/small.yaml",
            "{{ question }} Short.",
            "{{ question }} In short.",
            "answer.short.text of the prompts was",
        ),
        (
            "prompts/small.yaml",
            "Rate {{ question }} {{ answer }}",
            "{{ question }} {{ answer }}",
            "the score 'answer' changed",
        ),
    ],
)
def test_a_difference_in_a_definition_file_has_the_name_that_the_user_gave_it(
    synth: Synth, started: Path, workspace: Path, name: str, old: str, new: str, message: str
) -> None:
    assert old in DEFINITION_FILES[name]
    write(workspace / name, DEFINITION_FILES[name].replace(old, new))
    line = refusal(synth, "run", "photos", "--out", "out", "-p", "small")
    assert line.startswith(f"{started}: was made with other settings: {message}") and line.count(message) == 1


def test_another_seed_is_reported_by_its_own_name(synth: Synth, started: Path) -> None:
    line = refusal(synth, *RUN, "--set", "plan.seed=3")
    assert line.startswith(
        f"{started}: plan.seed was 0 and is 3: every question would be drawn again; run with --replan"
    )


def test_the_output_of_another_format_is_refused(synth: Synth, started: Path) -> None:
    write(started / "run.json", json.dumps({"format": 99}))
    assert refusal(synth, *RUN) == f"{started}: has format 99; this synth reads format 1; use another folder"


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", "{}", '{"format": "x"}', '{"format": null}', '{"format": true}', "[" * 100_000, "\udcff"]
)
def test_a_run_json_of_another_program_is_no_run(synth: Synth, photos: Path, workspace: Path, text: str) -> None:
    (workspace / "out").mkdir()
    (workspace / "out/run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refusal(synth, *RUN).endswith("/out: is not empty and holds no synth run; give a new folder")
    for command in (["gc", "out"], ["retry", "out"], ["purge", "out", "x"]):
        assert refusal(synth, *command).endswith("/out: holds no synth run")


def test_the_output_of_a_run_with_settings_of_an_older_version_is_refused(synth: Synth, started: Path) -> None:
    (record,) = (started / "frozen").iterdir()
    write(record, record.read_text().replace('"languages": []', '"languages": ["english"]'))
    where = f"{started}: the pipeline of its last run (another `synth run` replaces it)"
    line = f"{where}: pack.languages.0: 'english' is not an ISO 639 code"
    assert refusal(synth, "retry", "out").startswith(line)


def test_a_folder_without_a_run_has_no_status(synth: Synth, workspace: Path) -> None:
    assert refusal(synth, "status", "out") == f"{workspace}/out: holds no synth run"


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("status --out out --json", "synth status out --json"),
        ("retry --reason poison --out=out", "synth retry out --reason poison"),
        ("purge --out out photo.jpg", "synth purge out photo.jpg"),
        ("purge photo.jpg --out out", "synth purge out photo.jpg"),
        ("gc --out", "synth gc FOLDER"),
    ],
)
def test_a_command_on_a_folder_refuses_out_and_shows_the_right_line(synth: Synth, typed: str, right: str) -> None:
    assert refusal(synth, *typed.split()) == f"{typed.split()[0]} takes its folder without --out: {right}"


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("data --out target", "takes its target without --out: synth export data target"),
        ("--out=target data --plain", "takes its target without --out: synth export data --plain target"),
        ("data --out", "takes its target without --out: synth export data TARGET"),
        ("--out data", "takes its folder without --out: synth export data"),
    ],
)
def test_a_command_with_a_target_beside_its_folder_takes_out_for_the_target(typed: str, right: str) -> None:
    app = typer.Typer()
    app.command("other")(lambda: None)

    @app.command("export", cls=OnFolder)
    def export(out: str, target: str, plain: bool = False) -> None: ...

    with pytest.raises(UserMistake) as refused:
        typer.main.get_command(app).main(["export", *typed.split()], standalone_mode=False)
    assert str(refused.value) == f"export {right}"


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("run photos data", "run takes its output folder with --out: synth run photos --out data"),
        ("plan photos data --diff", "plan takes its output folder with --out: synth plan photos --out data"),
        ("run a.jpg b.jpg c.jpg --out data", "run takes one SOURCE, and got b.jpg c.jpg too; put a glob in quotes"),
    ],
)
def test_a_second_argument_shows_the_right_line(synth: Synth, typed: str, right: str) -> None:
    assert refusal(synth, *typed.split()) == right


# --- definition files -------------------------------------------------------------------------------------------------


def test_an_unknown_key_in_the_pipeline_is_reported_with_its_line(synth: Synth, photos: Path, workspace: Path) -> None:
    file = write(
        workspace / "pipelines/small.yaml", DEFINITION_FILES["pipelines/small.yaml"].replace("per_image", "per_imgae")
    )
    assert refusal(synth, *RUN) == f"{file}:4: unknown key 'per_imgae' in plan: did you mean 'per_image'?"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "generate.scores=[likelyhood]",
            "{}: generate.scores: 'likelyhood' is not a score: did you mean 'likelihood'?",
        ),
        (
            "select.keep={blind: {min: 1}}",
            "{}: select.keep: 'blind' is not scored; add it to generate.scores (likelihood, answer)",
        ),
        ("plan.mapping=smal", "{}: mapping 'smal' is unknown: did you mean 'small'? (`synth list mapping` shows all)"),
        (
            "tag.tagger=besides",
            "{}: tagger 'besides' is unknown: did you mean 'beside'? (`synth list tagger` shows all)",
        ),
        (
            "generate.prompts=smal",
            "{}: prompts 'smal' is unknown: did you mean 'small'? (`synth list prompts` shows all)",
        ),
    ],
)
def test_an_unknown_name_is_reported(synth: Synth, photos: Path, setting: str, message: str) -> None:
    extra = ("--set", "select.keep={}") if "scores=" in setting else ()
    assert refusal(synth, *RUN, "--set", setting, *extra) == message.replace("{}", f"--set {setting}", 1)


def test_several_mistakes_are_one_line_each(synth: Synth, photos: Path) -> None:
    before = contents(Path.cwd())
    done = synth(*RUN, "--set", "tag.wokers=2", "--set", "plan.per_image=x")
    assert done.status == 2 and contents(Path.cwd()) == before
    assert sorted(done.stderr.removeprefix("synth: ").splitlines()) == [
        "--set plan.per_image=x: plan.per_image: must be a whole number, not 'x'",
        "--set tag.wokers=2: unknown key 'wokers' in tag: did you mean 'workers'?",
    ]


def test_a_missing_model_is_reported(synth: Synth, photos: Path, workspace: Path) -> None:
    vllm = ("--set", "generate.engine={kind: vllm, gpus: 0}")
    message = refusal(synth, *RUN, *vllm, "--model", "./gone")
    assert message == f"generate.model ./gone: no such folder in {Path.cwd()}, and a hub name reads organisation/model"
    message = refusal(synth, *RUN, *vllm, "--model", "organisation/model")
    assert message.startswith(
        "generate.model organisation/model: no such folder here, not in the local cache, and not from the hub "
        "(HF_HUB_OFFLINE is set); name a local folder, or serve the model and take kind: endpoint"
    )
    write(workspace / "half/config.json", '{"architectures": ["X"]}')
    assert (
        refusal(synth, *RUN, *vllm, "--model", "half")
        == "generate.model half: holds no weights (*.safetensors or *.bin)"
    )


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("run", "nowhere"), "nowhere: no such file or folder"),
        (("plan", "nowhere"), "nowhere: no such file or folder"),
        (("run", "photos", "--from", "pack", "--until", "tag"), "--from pack comes after --until tag; the stages are"),
        (
            ("run", "nowhere", "--from", "plan"),
            "generate.model organisation/model: no such folder here",
        ),  # nobody looks there
    ],
)
def test_other_mistakes_are_reported_before_the_model_is_looked_for(
    synth: Synth, photos: Path, typed: tuple[str, ...], message: str
) -> None:
    far = ("--set", "generate.engine={kind: vllm, gpus: 0}", "--model", "organisation/model")
    assert refusal(synth, *typed, "--out", "out", "-p", "small", *far).startswith(message)


def test_a_tagger_without_its_model_is_reported(synth: Synth, photos: Path, workspace: Path) -> None:
    file = write(
        workspace / "taggers/beside.yaml", "about: x\nengine: open_clip\ntaxonomy: small\nmodel: models/gone\n"
    )
    assert refusal(synth, *RUN) == f"{file}:4: model models/gone: no such folder"


# --- preview, list, show, copy, check ---------------------------------------------------------------------------------


def test_preview_needs_an_image(synth: Synth, workspace: Path) -> None:
    assert refusal(synth, "preview", "gone.jpg", "-p", "small") == "gone.jpg: no such image file"
    write(workspace / "text.jpg", "this is no image")
    assert refusal(synth, "preview", "text.jpg", "-p", "small").startswith(
        "text.jpg: would be quarantined: not_an_image ("
    )


def test_preview_does_not_look_into_the_working_folder(
    workspace: Path, hub: dict[str | None, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(workspace / "photos", 1)
    write(workspace / "run.json", json.dumps({"format": 99}))
    tasks: list[preview.PreviewTask] = []

    def run_in_actor(report: object, task: preview.PreviewTask, engine: object, home: Path, doing: str) -> list[str]:
        tasks.append(task)
        return []

    monkeypatch.setattr(preview, "run_in_actor", run_in_actor)
    preview.preview_image(
        "photos/0000.jpg",
        pipelines.load("small", ["generate.engine={kind: vllm}", "generate.model=some/model"]),
    )
    assert tasks[0].job.model.revision == "a" * 40


def test_preview_decodes_in_a_child_that_may_be_killed(synth: Synth, workspace: Path) -> None:
    grey_noise((3000, 3000), 90).save(workspace / "slow.png")
    line = refusal(synth, "preview", "slow.png", "-p", "small", "--set", "images.decode_seconds=0.001")
    assert line == "slow.png: would be quarantined: decode_timeout (not decoded within 0.001 s on a core)"


def test_copy_never_overwrites_and_stays_in_the_folder_of_its_kind(synth: Synth, workspace: Path) -> None:
    assert (
        refusal(synth, "copy", "mapping", "everyday", "small")
        == "pipelines/mappings/small.yaml: already exists; choose another name"
    )
    for name in ("../x", "a/b", "", "..", "x.yaml"):
        assert (
            refusal(synth, "copy", "mapping", "everyday", name)
            == f"{name}: is not a valid file name; use letters, digits, - and _"
        )
    for target in ("mine", "small"):
        assert refusal(synth, "copy", "mapping", "everyda", target).startswith(
            "mapping 'everyda' is unknown: did you mean 'everyday'?"
        )


def test_a_copy_of_a_shipped_file_onto_itself_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(library.shipped_folder())
    file = "taggers/taxonomies/everyday.yaml"
    before = Path(file).read_bytes()
    with pytest.raises(
        UserMistake,
        match=f"^{file}: is the shipped file itself; edit it in place, or copy it from a working folder of your own$",
    ):
        cli.library.copy("taxonomy", "everyday", "everyday")
    assert Path(file).read_bytes() == before


@pytest.mark.parametrize(
    "command", [("show", "prompts", "odd"), ("copy", "prompts", "odd", "mine"), ("show", "mapping", "odd")]
)
def test_a_definition_file_that_is_no_text_is_reported(synth: Synth, workspace: Path, command: tuple[str, ...]) -> None:
    for kind in ("prompts", "pipelines/mappings"):
        (workspace / kind / "odd.yaml").write_bytes(b"about: \xff\n")
    assert refusal(synth, *command).endswith("odd.yaml: is not UTF-8 text (invalid start byte at byte 7)")


def test_a_copy_is_the_file_itself_under_its_new_name(synth: Synth, workspace: Path) -> None:
    done = synth("copy", "mapping", "everyday", "my-own_2")
    assert (done.status, done.stdout, done.stderr) == (0, "pipelines/mappings/my-own_2.yaml\n", "")
    assert "extends" not in (workspace / "pipelines/mappings/my-own_2.yaml").read_text()[:200]
    assert (workspace / "pipelines/mappings/my-own_2.yaml").read_bytes() == (
        library.shipped_folder() / "pipelines/mappings/everyday.yaml"
    ).read_bytes()


def test_list_shows_every_file_and_what_is_wrong_with_one(synth: Synth, workspace: Path) -> None:
    write(workspace / "pipelines/mappings/broken.yaml", "about: [\n")
    write(workspace / "pipelines/mappings/odd.yaml", "- a\n")
    done = synth("list", "mapping")
    assert done.status == 0 and done.stderr == ""
    names = [line.split()[1] for line in done.stdout.splitlines()]
    assert {"broken", "odd", "small", "everyday"} <= set(names)
    assert "broken.yaml:2: invalid YAML" in done.stdout
    assert {line.split()[0] for line in synth("list").stdout.splitlines()} == set(library.KINDS)


def test_show_draws_trees_and_refuses_files_without_one(synth: Synth, workspace: Path) -> None:
    shown = synth("show", "taxonomy", "small").stdout
    assert shown == "animal: a living creature\n├─ cat: a small furry pet\n└─ red_panda: a small furry climber\n" + (
        "document: a page\n├─ invoice: a bill\n└─ letter: a message\n"
    )
    assert "└─ reading: what is written" in synth("show", "family", "small").stdout
    file = write(workspace / "taggers/taxonomies/small.yaml", "about: x\n")
    done = synth("show", "taxonomy", "small")
    assert done.status == 2
    assert done.stderr.splitlines() == [f"synth: {file}:1: templates is missing", f"{file}:1: tags is missing"]


def test_a_long_tree_ends_on_a_terminal_with_how_to_narrow_it(workspace: Path) -> None:
    own, terminal = pty.openpty()

    def shown(*options: str, stdout: int = subprocess.PIPE) -> str:
        command = [sys.executable, "-m", "synthgen", "show", "taxonomy", *options]
        with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as process:
            while stdout == terminal and process.poll() is None:
                if select.select([own], [], [], 0.1)[0]:
                    os.read(own, 2**16)  # a terminal that nobody reads holds up what writes to it
            return process.communicate()[1]

    try:
        hint = shown("everyday", stdout=terminal)
        assert hint.endswith(" lines; --depth 2 draws the two highest levels, --under PATH only what is below a path\n")
        assert int(hint.split()[0].replace(",", "")) > show.MANY_LINES and len(hint.splitlines()) == 1
        assert shown("everyday", "--depth", "2", stdout=terminal) == shown("small", stdout=terminal) == ""
        assert shown("everyday") == "", "a program that reads the tree wants no hint"
    finally:
        os.close(own)
        os.close(terminal)


def test_check_counts_and_reports_the_files_of_the_user(synth: Synth, workspace: Path) -> None:
    done = synth("check", "-p", "small")
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "note: 2 tags that no rule of mapping 'small' names: animal/cat, animal/red_panda",
        "small: 4 leaf tags, 3 instruction types, 2 mapping rules: no mistakes",
    ]
    write(workspace / "taggers/taxonomies/everyday.yaml", DEFINITION_FILES["taggers/taxonomies/small.yaml"])
    write(workspace / "taggers/beside.yaml", DEFINITION_FILES["taggers/beside.yaml"].replace("small", "everyday"))
    write(workspace / "pipelines/demo.yaml", DEFINITION_FILES["pipelines/small.yaml"])
    notes = synth("check", "-p", "demo").stderr.splitlines()
    assert [note.partition(": yours is used, not ")[0] for note in notes] == [
        "note: pipeline 'demo'",
        "note: taxonomy 'everyday'",
    ]


# --- help -------------------------------------------------------------------------------------------------------------

GROUP = typer.main.get_command(cli.app)
assert isinstance(GROUP, typer.core.TyperGroup)
COMMANDS = sorted(GROUP.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(synth: Synth, command: str) -> None:
    done = synth(command, "--help")
    assert done.status == 0 and done.stderr == "" and f"Usage: synth {command}" in done.stdout
    assert len(done.stdout.splitlines()) > 4


def test_help_loads_nothing_heavy() -> None:
    lines = [
        "import sys",
        "from synthgen.cli import main",
        "sys.argv = ['synth', '--help']",
        "try: main()",
        "except SystemExit: pass",
    ]
    code = "\n".join([*lines, f"print([name for name in {HEAVY!r} if name in sys.modules])"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {command} " in done.stdout for command in COMMANDS)


def test_the_version_is_printed(synth: Synth) -> None:
    done = synth("--version")
    assert (done.status, done.stdout, done.stderr) == (0, f"synthgen {synthgen.__version__}\n", "")


def test_synth_alone_shows_its_help(synth: Synth) -> None:
    done = synth()
    assert "Commands:" in done.stdout + done.stderr


# --- a model that does not load ---------------------------------------------------------------------------------------


def alone(*arguments: str) -> Done:
    """Run a command in a process of its own, with Ray."""
    done = subprocess.run(
        [sys.executable, "-m", "synthgen", *arguments], capture_output=True, text=True, check=False, env=os.environ
    )
    return Done(done.returncode, done.stdout, done.stderr)


def refusals(done: Done) -> list[str]:
    """Return the lines on stderr but those that say what is waited for, as a slow machine has them."""
    return [line for line in done.stderr.splitlines() if not line.startswith("checking model ")]


def test_an_engine_that_does_not_load_stops_a_new_run_before_it_writes(photos: Path, workspace: Path) -> None:
    write(workspace / "broken.py", "def Engine(name, settings):\n    raise RuntimeError('no such device\\nand more')\n")
    before = contents(workspace)
    done = alone(*RUN, "--set", "generate.engine={kind: 'broken:Engine', gpus: 0}")
    assert (done.status, done.stdout) == (1, "")
    assert refusals(done) == ["synth: engine broken:Engine: RuntimeError: no such device and more"]
    assert {name: data for name, data in contents(workspace).items() if "__pycache__" not in name} == before


def test_an_engine_that_needs_more_than_the_machine_has_stops_a_new_run_before_it_writes(
    photos: Path, workspace: Path
) -> None:
    before = contents(workspace)
    done = alone(*RUN, "--set", "generate.engine.cpus=1000")
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("synth: a worker needs 1000 CPU (Ray sees ") and len(done.stderr.splitlines()) == 1
    assert contents(workspace) == before


@pytest.mark.engine
def test_a_model_that_vllm_refuses_stops_a_new_run_before_it_writes(photos: Path, workspace: Path) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    write(workspace / "model/config.json", json.dumps({"architectures": ["SmallModel"], "model_type": "llama"}))
    (workspace / "model/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    before = contents(workspace)
    done = alone(*RUN, "--model", "model", "--set", "generate.engine={kind: vllm, gpus: 0}")
    assert (done.status, done.stdout) == (1, "")
    (line,) = refusals(done)
    assert line.startswith(
        f"synth: model {workspace}/model: vLLM does not load it: Value error, Model architectures ['SmallModel']"
    )
    assert contents(workspace) == before
