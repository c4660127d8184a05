"""A whole run with the scripted engine: its results, and that a later run adds only new rows.

The runs are real processes with real Ray; only the model is a script.
"""

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from synthgen.config import pipeline as pipelines
from synthgen.job import changes, job
from synthgen.job.request import RunRequest
from synthgen.store import RunFolder
from synthgen.store.opening import open_folder
from synthgen.tables import GENERATE, image_id
from tests.fixtures.runs import Rows, adds_up, assert_complete, assignments, funnel_of, pairs, rows, run, synth
from tests.fixtures.workspace import make_images

pytestmark = pytest.mark.usefixtures("workers_here")


def add_images(folder: Path, count: int) -> None:
    """Add images without touching the others, which would make them new versions."""
    for image in make_images(folder.parent / "more", count):
        for path in (image, image.with_suffix(".json")):
            path.rename(folder / f"more-{path.name}")


def test_a_run_makes_shards_for_datasets_and_a_second_run_has_nothing_to_do(workspace: Path) -> None:
    make_images(workspace / "photos", 40)
    first = run()
    adds_up(workspace / "out")
    assert "Q: " in first.stdout and "kept" not in first.stderr
    page = workspace / "out" / "5-shards" / "report.html"
    assert first.stdout.splitlines()[-1] == f"report: {page}" and "data:image/webp" in page.read_text()

    shards = str(workspace / "out" / "5-shards" / "data" / "*.parquet")
    samples = datasets.load_dataset("parquet", data_files=shards, split="train", cache_dir=str(workspace / "cache"))
    assert samples[0]["images"][0].size == (64, 48)
    assert samples[0]["messages"][0]["role"] == "user"
    kept = sum(len(row["pair_ids"]) for row in samples)
    assert kept and kept == funnel_of(workspace / "out", "pack").passed

    before = assignments(workspace / "out"), pairs(workspace / "out")
    second = run()
    assert "nothing to do" in second.stderr and second.stdout.splitlines()[-1] == f"report: {page}"
    third = synth("run", "--out", "out")
    assert third.stderr.splitlines() == [
        f"using the settings of the last run of out: {workspace}/photos --pipeline small "
        "(--pipeline replaces all but the source)",
        "nothing to do: everything listed has been done",
    ]
    assert (assignments(workspace / "out"), pairs(workspace / "out")) == before


def test_a_limit_holds_until_a_request_names_another(workspace: Path) -> None:
    make_images(workspace / "photos", 10)
    run("out", "--limit", "4", "--until", "tag")
    again = synth("run", "--out", "out", "--until", "plan")
    assert f"using the settings of the last run of out: {workspace}/photos --pipeline small --limit 4 (" in again.stderr
    assert len(assignments(workspace / "out")) == 4 * 3
    fewer = run("out", "--limit", "3", "--until", "plan")
    assert "4 objects are listed already: --limit 3 adds none, and leaves none of them out" in fewer.stderr.splitlines()
    run("out", "--limit", "4", "--until", "plan")
    more = run("out", "--until", "plan")
    assert more.stderr.startswith("the last run of out also had --limit 4; this command drops it\n")
    assert len(assignments(workspace / "out")) == 10 * 3


def test_files_that_are_no_images_by_their_names_are_told_at_the_listing_and_in_the_status(workspace: Path) -> None:
    make_images(workspace / "photos", 4)
    for name in ("a.pdf", "b.pdf", "c"):
        (workspace / "photos" / name).write_bytes(b"x")
    hint = "--set source.suffixes='[\"*\"]' takes every file, whatever its name"
    message = f"the listing left out 3: 2 .pdf, 1 no suffix; {hint}"
    assert message in run("out", "--until", "tag").stderr.splitlines()
    assert message in synth("status", "out").stdout.splitlines()
    assert json.loads(synth("status", "out", "--json").stdout)["not_listed"] == {".pdf": 2, "no suffix": 1}


def test_new_images_add_rows_and_change_no_others(workspace: Path) -> None:
    make_images(workspace / "photos", 10)
    run()
    old_plan, old_pairs = assignments(workspace / "out"), pairs(workspace / "out")
    old_shards = set((workspace / "out" / "5-shards" / "data").iterdir())
    add_images(workspace / "photos", 6)
    run()
    adds_up(workspace / "out")
    assert old_plan.items() <= assignments(workspace / "out").items()
    assert old_pairs.items() <= pairs(workspace / "out").items()
    assert len(assignments(workspace / "out")) == 16 * 3
    assert old_shards < set((workspace / "out" / "5-shards" / "data").iterdir())


def test_a_changed_image_retires_the_questions_about_its_old_bytes(workspace: Path) -> None:
    photo = make_images(workspace / "photos", 6)[2]
    run()
    image = image_id(photo.read_bytes())
    old = {key for key, row in assignments(workspace / "out").items() if row["image_id"] == image}
    Image.new("RGB", (80, 60), "red").save(photo)
    run()
    assert_complete(workspace / "out")
    assert funnel_of(workspace / "out", "plan").dropped == {"changed": 1}
    assert funnel_of(workspace / "out", "select").dropped["retired"] == len(old) == 3
    assert old.isdisjoint(assignments(workspace / "out"))


def test_only_retry_asks_failed_calls_again(workspace: Path) -> None:
    make_images(workspace / "photos", 10)
    run("out", "--set", "generate.engine.options.fail=0.4")
    before = pairs(workspace / "out")
    failed = {key for key, row in before.items() if row[1] == "call_failed"}
    assert failed
    run("out", "--set", "generate.engine.options.fail=0")
    assert pairs(workspace / "out") == before
    add_images(workspace / "photos", 2)  # which retry does not list
    synth("retry", "out", "--reason", "call_failed")
    adds_up(workspace / "out")
    after = pairs(workspace / "out")
    assert {key for key, row in after.items() if row != before[key]} == failed
    assert not [row for row in after.values() if row[1] == "call_failed"]


def test_two_runs_of_one_job_make_the_same_rows(workspace: Path) -> None:
    make_images(workspace / "photos", 12)
    run("one", "--set", "generate.engine.in_flight=1")
    run("two", "--set", "generate.engine.replicas=2")
    assert assignments(workspace / "one") == assignments(workspace / "two")
    assert pairs(workspace / "one") == pairs(workspace / "two")


def test_other_settings_are_refused_and_update_recomputes_the_rows_that_they_touch(workspace: Path) -> None:
    make_images(workspace / "photos", 8)
    run()
    before = pairs(workspace / "out")
    stopped = run("out", "--set", "plan.per_image=4", check=False)
    assert stopped.returncode == 2
    assert "plan.per_image was 3 and is 4" in stopped.stderr
    assert pairs(workspace / "out") == before

    updated = run("out", "--set", "plan.per_image=4", "--update")
    touched = "the update recomputes what these changes touch: plan.per_image was 3 and is 4"
    assert touched in updated.stderr.splitlines()
    adds_up(workspace / "out")
    after = pairs(workspace / "out")
    assert len(after) == 32 and before.items() <= after.items()


def edit_brief_prompt(workspace: Path) -> None:
    pack = workspace / "prompts" / "small.yaml"
    pack.write_text(pack.read_text().replace("Brief.", "Be brief."))


def assert_only_brief_pairs_differ(before: Rows, after: Rows) -> None:
    """Assert that the pairs of the form brief are others, and all others the same."""
    assert before.keys() == after.keys() and len(after) == 24 * 3
    differing = {key for key, row in after.items() if row["pair_id"] != before[key]["pair_id"]}
    brief = {key for key, row in after.items() if row["form"] == "brief"}
    assert differing == brief and 0 < len(brief) < len(after)


def test_an_edited_prompt_redoes_only_the_pairs_of_its_form(workspace: Path) -> None:
    make_images(workspace / "photos", 24)
    run()
    before = rows(workspace / "out", GENERATE, "pairs")
    edit_brief_prompt(workspace)
    run("out", "--update")
    adds_up(workspace / "out")
    after = rows(workspace / "out", GENERATE, "pairs")
    assert_only_brief_pairs_differ(before, after)


def write_settings(*settings: str, redraws: bool = False) -> None:
    """Leave the folder as a run does that is killed right after it recorded its settings."""
    pipeline, folder = pipelines.load("small", ["source.uri=photos", *settings]), RunFolder(open_folder("out"))
    opened = job.open_job(folder.out, pipeline, record=folder.record)
    changes.write_settings(folder, opened, RunRequest(), ("tag", "pack"), redraws)


def test_an_update_that_was_cut_short_is_finished_by_the_next_run(workspace: Path) -> None:
    make_images(workspace / "photos", 24)
    run()
    before = rows(workspace / "out", GENERATE, "pairs")
    edit_brief_prompt(workspace)
    write_settings()
    refused = run("out", "--from", "select", "--set", "plan.per_image=4", check=False)
    assert "plan.per_image was 3 and is 4. --from select would leave out what that touches" in refused.stderr
    assert "an update of generate was cut short; a run without --from" in run("out", "--from", "select").stderr
    assert "an update of generate was cut short; this run finishes it" in run().stderr
    after = rows(workspace / "out", GENERATE, "pairs")
    assert_only_brief_pairs_differ(before, after)
    assert "cut short" not in run().stderr


def test_a_replan_that_was_cut_short_is_finished_by_the_next_run(workspace: Path) -> None:
    make_images(workspace / "photos", 8)
    run()
    before = assignments(workspace / "out")
    write_settings("plan.seed=5", redraws=True)
    run("out", "--set", "plan.seed=5")
    run("other", "--set", "plan.seed=5", "--until", "plan")
    after = set(assignments(workspace / "out"))
    assert after == set(assignments(workspace / "other")) != set(before) and after <= set(pairs(workspace / "out"))


def test_a_plan_with_other_settings_keeps_those_of_the_run(workspace: Path) -> None:
    """Pricing another share must not stop `retry` and `purge` on the folder."""
    photos = make_images(workspace / "photos", 8)
    run()
    before = assignments(workspace / "out")
    synth("plan", "photos", "--out", "out", "-p", "small", "--set", "plan.share=0.5", "--set", "select.keep={}")
    synth("retry", "out")
    assert assignments(workspace / "out") == before
    synth("purge", "out", photos[0].name)
    assert "nothing to do" in run().stderr


def test_a_source_has_one_spelling(workspace: Path) -> None:
    make_images(workspace / "photos", 4)
    run()
    for spelling in ("photos/", "./photos", str(workspace / "photos")):
        assert "nothing to do" in synth("run", spelling, "--out", "out", "-p", "small").stderr


def test_retry_judges_images_again_that_a_limit_dropped(workspace: Path) -> None:
    make_images(workspace / "photos", 4)
    run("out", "--set", "images.max_pixels=100", check=False)
    assert "nothing to do" in run("out", "--set", "images.max_pixels=100000", check=False).stderr
    synth("retry", "out", "--reason", "too_many_pixels")
    assert len(pairs(workspace / "out")) == 4 * 3


def test_select_and_pack_run_again_on_another_threshold_without_a_model(workspace: Path) -> None:
    make_images(workspace / "photos", 8)
    run()
    again = run("out", "--from", "select", "--set", "select.keep.answer.min=2.99", check=False)
    assert "score:answer" in again.stdout
    adds_up(workspace / "out")


def test_gc_deletes_orphans_and_replaced_files_and_no_current_ones(workspace: Path) -> None:
    make_images(workspace / "photos", 6)
    run()
    run("out", "--from", "select", "--set", "select.keep.answer.min=2.99", check=False)
    before = assignments(workspace / "out"), pairs(workspace / "out")
    orphan = workspace / "out" / "3-generated" / "pairs" / "e001-00000.r9.abc.parquet"
    orphan.write_bytes(b"half a file")
    report = synth("gc", "out").stdout
    assert not orphan.exists() and not report.startswith("0 files")
    assert (assignments(workspace / "out"), pairs(workspace / "out")) == before
    adds_up(workspace / "out")
    assert synth("gc", "out").stdout.startswith("0 files deleted")


def test_status_of_a_folder_prints_sums_as_json(workspace: Path) -> None:
    make_images(workspace / "photos", 6)
    (workspace / "photos" / "broken.jpg").write_text("no image")
    run()
    status = json.loads(synth("status", "out", "--json").stdout)
    assert status["at_work"] is None
    [tag] = [funnel for funnel in status["stages"] if funnel["stage"] == "tag"]
    assert (tag["received"], tag["passed"], tag["dropped"]) == (7, 6, {"quarantined.not_an_image": 1})
    nothing = run("out", "--from", "select", "--set", "select.keep.answer.min=99", check=False)
    assert nothing.returncode == 1
    [line] = [line for line in nothing.stderr.splitlines() if line.startswith("synth: 0 pairs were kept")]
    assert "nothing came out of select, mostly for score:answer (" in line
