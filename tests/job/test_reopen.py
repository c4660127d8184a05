"""A folder is opened again from anywhere: names mean what they meant where its run was started."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from synthgen.config import pipeline as pipelines
from synthgen.errors import Mistakes, SettingsChanged, UserMistake
from synthgen.job import job, run_record
from synthgen.job.changes import check_folder, write_settings
from synthgen.job.request import RunRequest
from synthgen.stages.contract import Job
from synthgen.store import Folder, RunFolder
from tests.fixtures.workspace import DEFINITION_FILES, make_images, write, write_definition_files

ALL_STAGES = ("tag", "pack")
# Every definition file that a run can name, under a path or a name that only the home of the run has.
OWN_FILES = {
    "own/tree.yaml": DEFINITION_FILES["taggers/taxonomies/small.yaml"],
    "taggers/beside.yaml": "about: x\nengine: sidecar\ntaxonomy: own/tree.yaml\n",
    "own/folder.yaml": "about: x\nengine: open_clip\ntaxonomy: own/tree.yaml\nmodel: models/clip\n",
    "own/weights.yaml": (
        "about: x\nengine: open_clip\ntaxonomy: own/tree.yaml\nmodel: ViT-B-32\npretrained: models/w.bin\n"
    ),
    "own/chooser.yaml": "about: x\nengine: vlm\ntaxonomy: own/tree.yaml\nmodel: models/vlm\n",
    "own/code.yaml": "about: x\nengine: no_such_module_here:Tagger\ntaxonomy: own/tree.yaml\n",
    "prompts/families/kinds.yaml": DEFINITION_FILES["prompts/families/small.yaml"],
    "own/pack.yaml": DEFINITION_FILES["prompts/small.yaml"].replace("families: [small]", "families: [kinds]"),
    "pipelines/mappings/first.yaml": DEFINITION_FILES["pipelines/mappings/small.yaml"],
    "own/rules.yaml": 'about: x\nextends: first\nrules: [{tags: "**", ask: {fine/**: 1}}]\n',
}
TAGGERS = ("beside", "own/folder.yaml", "own/weights.yaml", "own/chooser.yaml", "own/code.yaml")
SETTINGS = (
    "source.uri=photos",
    f"tag.tagger=[{', '.join(TAGGERS)}]",
    "plan.mapping=own/rules.yaml",
    "generate.prompts=own/pack.yaml",
    "generate.model=models/vlm",
    "generate.engine={kind: vllm}",
)


def put_models(folder: Path, salt: str) -> None:
    """Write what looks like three small models; two folders have the same ones only by the same salt."""
    write(folder / "clip/open_clip_config.json", "{}")
    write(folder / "clip/weights.bin", salt)
    write(folder / "w.bin", salt)
    write(folder / "vlm/config.json", json.dumps({"architectures": ["SmallModel"], "salt": salt}))
    header = json.dumps({"w": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    (folder / "vlm/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def start(out: Path, settings: tuple[str, ...] = SETTINGS) -> Job:
    """Write the record of a new folder as `synth run` does, without running anything."""
    opened = job.open_job(Folder(str(out)), pipelines.load("small", settings))
    write_settings(RunFolder(opened.out), opened, RunRequest("small", settings), ALL_STAGES, is_redraw=False)
    return opened


@pytest.fixture
def home(workspace: Path) -> Path:
    """Return the workspace, which is the current folder, with a file of every kind and three models."""
    for name, text in OWN_FILES.items():
        write(workspace / name, text)
    put_models(workspace / "models", "of the run")
    make_images(workspace / "photos", 1)
    return workspace


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path) -> Path:
    """Return another folder, in which the same names mean other files."""
    folder = write_definition_files(tmp_path / "elsewhere")
    put_models(folder / "models", "of another")
    write(folder / "taggers/beside.yaml", "about: x\nengine: sidecar\nkey: other\ntaxonomy: small\n")
    write(folder / "own/rules.yaml", 'about: x\nrules: [{tags: "**", ask: {coarse/**: 7}}]\n')
    return folder


def test_a_folder_is_opened_from_elsewhere_and_the_process_stays_as_it_is(
    home: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = start(tmp_path / "out")
    record = run_record.record_of(RunFolder(made.out))
    monkeypatch.chdir(elsewhere)
    before = [os.getcwd(), *sys.path]  # noqa: PTH109 - beside strings
    folder = RunFolder(made.out)
    again = job.reopen(folder)
    assert [os.getcwd(), *sys.path] == before  # noqa: PTH109
    assert again.home == home and again.shape == made.shape and again.model == made.model
    assert again.definitions.taggers == made.definitions.taggers
    request = RunRequest.of(record)
    assert not check_folder(folder, again, request, ALL_STAGES)
    write_settings(folder, again, request, ALL_STAGES, is_redraw=False)
    assert run_record.record_of(RunFolder(made.out)) == record, "it was started in the same folder still"


def test_what_workers_get_starts_from_the_root(home: Path, elsewhere: Path, tmp_path: Path) -> None:
    made = start(tmp_path / "out")
    _, folder, weights, chooser, _ = made.definitions.taggers
    assert folder.folder == f"{home}/models/clip" and weights.weights == f"{home}/models/w.bin"
    assert chooser.model and chooser.model.model == made.model.model == f"{home}/models/vlm"
    assert made.home == home
    reopened = job.reopen(RunFolder(made.out))
    assert reopened.pipeline.source.uri == f"{home}/photos"


def test_the_list_of_urls_of_a_folder_is_found_from_elsewhere(
    home: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / "urls.txt", "https://example.org/a.png\n")
    made = start(tmp_path / "out", ("source.uri=urls:urls.txt", "source.hosts=[example.org]"))
    monkeypatch.chdir(elsewhere)
    write(elsewhere / "taggers/beside.yaml", "about: nothing that is read\nengine: x\ntaxonomy: y\n")
    assert job.reopen(RunFolder(made.out)).pipeline.source.uri == f"urls:{home}/urls.txt"


@pytest.mark.parametrize("name", ["own/rules.yaml", "pipelines/mappings/first.yaml"])
def test_an_edit_at_home_is_noticed_from_elsewhere(
    home: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = start(tmp_path / "out")
    monkeypatch.chdir(elsewhere)
    write(home / name, (home / name).read_text().replace("fine/**: ", "fine/**: 3"))
    with pytest.raises(SettingsChanged) as caught:
        job.reopen(RunFolder(made.out))
    message = f"was made with other files: the mapping changed. It was started in {home}; restore these files, or run"
    assert message in str(caught.value)


def test_where_the_home_of_a_run_is_gone_names_start_from_the_current_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = start(tmp_path / "out", SETTINGS[:-2])  # the record spells a model folder in full
    moved = home.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    again = job.reopen(RunFolder(made.out))
    assert again.home == moved and again.shape == made.shape
    assert again.definitions.taggers[1].folder == f"{moved}/models/clip"


def test_a_folder_of_a_synth_that_read_images_otherwise_is_refused_in_one_line(home: Path, tmp_path: Path) -> None:
    folder = RunFolder(start(tmp_path / "out").out)
    record = run_record.record_of(folder)
    del record["shape"]["images"]["decoding"]  # as before it was recorded
    folder.write_record(record)
    with pytest.raises(SettingsChanged) as caught:
        job.reopen(folder)
    assert str(caught.value) == (
        f"{tmp_path}/out: was made by another version of synth: the way synth reads images is new; "
        f"run `synth run --out {tmp_path}/out --update` first"
    )
    opened = job.open_job(folder.out, pipelines.load("small", SETTINGS))
    with pytest.raises(SettingsChanged, match=r"the way synth reads images is new\. Run with --update"):
        check_folder(folder, opened, RunRequest("small", SETTINGS), ALL_STAGES)
    assert not check_folder(folder, opened, RunRequest("small", SETTINGS), ALL_STAGES, "edit")


def test_where_no_model_is_needed_the_one_of_the_record_stands_in(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = start(tmp_path / "out", (*SETTINGS, "tag.tagger=beside"))
    shutil.rmtree(home / "models/vlm")
    folder = RunFolder(made.out)
    with pytest.raises(UserMistake, match=r"generate\.model"):
        job.reopen(folder)
    again = job.reopen(folder, needed=())
    assert again.shape == made.shape
    assert caplog.records[-1].message.endswith("; this command does not need that model, and goes on")


JUDGE = "score.second={model: models/judge, scores: [answer], engine: {kind: vllm}}"


def put_judge(home: Path) -> None:
    """Write a model beside that which answers."""
    shutil.copytree(home / "models/vlm", home / "models/judge")
    write(home / "models/judge/config.json", json.dumps({"architectures": ["SmallModel"], "salt": "judge"}))


def test_the_model_of_a_pass_is_on_record_and_found_from_elsewhere(
    home: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_judge(home)
    made = start(tmp_path / "out", (*SETTINGS, JUDGE))
    record = run_record.record_of(RunFolder(made.out))
    (judge,) = made.passes
    assert judge.model.revision.startswith("files:") and judge.model != made.model
    assert record["shape"]["passes"]["second"]["model"] == judge.model.revision
    assert record["pipeline"]["score"]["second"]["model"] == str(home / "models/judge")
    monkeypatch.chdir(elsewhere)
    again = job.reopen(RunFolder(made.out))
    assert again.passes[0].model == judge.model and again.shape == made.shape
    write(home / "models/judge/config.json", json.dumps({"architectures": ["SmallModel"], "salt": "newer"}))
    with pytest.raises(SettingsChanged, match=r"score\.second\.model"):
        job.reopen(RunFolder(made.out))


def test_a_run_of_passes_alone_does_not_need_the_model_that_answered(home: Path, tmp_path: Path) -> None:
    put_judge(home)
    made = start(tmp_path / "out", (*SETTINGS, JUDGE, "tag.tagger=beside"))
    folder = RunFolder(made.out)
    shutil.rmtree(home / "models/vlm")
    assert job.reopen(folder, needed=("score",)).shape == made.shape
    shutil.rmtree(home / "models/judge")
    with pytest.raises(UserMistake, match=r"score\.second\.model .*/models/judge"):
        job.reopen(folder, needed=("score",))
    assert job.reopen(folder, needed=()).shape == made.shape, "the ones of the record stand in"


def test_a_hub_model_of_a_pass_keeps_the_commit_of_the_first_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = iter("abcdef")
    monkeypatch.setattr("synthgen.engines.revision._hub_commit", lambda *_: next(commits) * 40)
    judge = "score.second={model: organisation/judge, scores: [answer], engine: {kind: vllm}}"
    made = start(tmp_path / "out", (*SETTINGS, judge, "tag.tagger=beside"))
    assert made.passes[0].model.revision == "a" * 40
    assert job.reopen(RunFolder(made.out)).passes[0].model.revision == "a" * 40
    renamed = [*SETTINGS, judge.replace("second", "other"), "tag.tagger=beside"]
    again = job.open_job(made.out, pipelines.load("small", renamed), record=RunFolder(made.out).record)
    assert again.passes[0].model.revision == "a" * 40, "also under another name of the pass"


MISSING = (
    "source.uri=photos",
    "tag.tagger=own/chooser.yaml",
    "generate.engine={kind: vllm}",
    "generate.ask={model: models/asks}",
    "generate.answer={model: models/answers}",
    "score={judge: {model: models/judges, scores: [answer]}}",
)


def test_all_models_that_are_missing_are_told_together(workspace: Path) -> None:
    for name in ("own/tree.yaml", "own/chooser.yaml"):
        write(workspace / name, OWN_FILES[name])
    pipeline = pipelines.load("small", MISSING)
    with pytest.raises(Mistakes) as caught:
        job.open_job(Folder("out"), pipeline)
    for name in ("models/vlm", "models/asks", "models/answers", "models/judges"):
        assert sum(name in line for line in caught.value.lines) == 1, name
    with pytest.raises(UserMistake, match="models/vlm"):
        job.open_job(Folder("out"), pipeline, needed=())


def test_a_job_with_other_settings_of_its_plan_is_opened_without_its_models(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ("source.uri=photos", "generate.engine={kind: vllm}", "generate.model=models/gone")
    opened = job.open_job(Folder("out"), pipelines.load("small", settings), needed=())
    caplog.clear()
    changed = job.with_plan_settings(opened, share=0.5)
    assert not caplog.messages and changed.pipeline.plan.share == 0.5
    whole = job.open_job(Folder("out"), pipelines.load("small", (*settings, "plan.share=0.5")), needed=())
    assert changed == whole
