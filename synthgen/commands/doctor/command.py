"""All checks of `synth doctor`, in the order of the report.

Modules that need a package are imported inside functions, so the checks also run where packages are missing.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from synthgen.commands.doctor import libraries, machine
from synthgen.commands.doctor.finding import Finding
from synthgen.commands.doctor.probe import find, probe


def examine(pipeline: str | None = None) -> list[Finding]:
    """Check everything that a run of a pipeline needs; without one, all that any run may need.

    It takes as long as importing the libraries does, vLLM among them where it is needed.
    """
    needed = needed_packages(pipeline)
    uses = {**libraries.USES, **{name: "a tagger of the pipeline" for name in needed if name not in libraries.USES}}
    optional = (libraries.TRAINING | {"vllm"}) - set(needed)
    unused = optional if pipeline else frozenset[str]()
    imported, found = probe([name for name in uses if name not in unused]), find([*unused])
    probes = {result.name: result for result in [*imported, *found]}
    gpus = machine.gpu_names()
    return [
        machine.interpreter(),
        *libraries.required_packages(),
        *libraries.imports(probes, gpus, optional, uses),
        *(libraries.builds(probes["torch"], probes["vllm"], gpus) if gpus or "vllm" in needed else ()),
        machine.memory(),
        machine.shared_memory(),
        machine.disk(Path.cwd()),
        machine.open_files(),
        machine.cluster(),
        *machine.stores(),
        machine.credentials(),
        machine.model_hub(),
        *(_models(pipeline, [name for name, result in probes.items() if not result.error]) if pipeline else ()),
    ]


def _models(pipeline: str, importable: Sequence[str]) -> Iterator[Finding]:
    """Check the models of a pipeline, where the packages that know of them are installed."""
    absent = [name for name in ("openai", "huggingface_hub") if not importlib.util.find_spec(name)]
    if not absent:
        from synthgen.commands.doctor.models import models_of

        yield from models_of(pipeline, importable)


def needed_packages(pipeline: str | None) -> list[str]:
    """Return the packages that the engine and the taggers of a pipeline need.

    Without a pipeline this is vllm, which most pipelines need.
    """
    if pipeline is None:
        return ["vllm"]
    # Imported here: where packages are missing these fail, and the checks above are to report it.
    from synthgen.config import library
    from synthgen.config import pipeline as pipelines
    from synthgen.engines.kinds import kind_of as engine_kind_of
    from synthgen.taggers import kind_of

    loaded = pipelines.load(pipeline)
    documents = [library.load("tagger", name) for name in loaded.tag.taggers]  # their models need not be here yet
    packages = [name for each in documents for name in library.check(each, kind_of(each)).packages()]
    engines = [part.engine for part in loaded.parts.values()]
    return list(dict.fromkeys([*(name for engine in engines for name in engine_kind_of(engine).needs), *packages]))
