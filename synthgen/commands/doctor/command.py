"""All checks of `synth doctor`, in the order of the report.

Modules that need a package are imported inside functions, so the checks also run where packages are missing.
"""

from pathlib import Path

from synthgen.commands.doctor import libraries, machine
from synthgen.commands.doctor.finding import Finding
from synthgen.commands.doctor.probe import probe


def examine(pipeline: str | None = None) -> list[Finding]:
    """Check everything that a run of a pipeline needs; takes as long as importing vLLM does."""
    optional = libraries.TRAINING if needs_engine(pipeline) else libraries.TRAINING | {"vllm"}
    probes = {result.name: result for result in probe(tuple(libraries.USES))}
    return [
        machine.interpreter(),
        *libraries.required_packages(),
        *libraries.imports(probes, optional),
        *libraries.builds(probes["torch"], probes["vllm"], machine.gpu_names()),
        machine.memory(),
        machine.shared_memory(),
        machine.disk(Path.cwd()),
        machine.open_files(),
        machine.cluster(),
        *machine.stores(),
        machine.credentials(),
        machine.model_hub(),
    ]


def needs_engine(pipeline: str | None) -> bool:
    """Whether a pipeline needs vLLM on this machine; without a pipeline yes, as most do."""
    if pipeline is None:
        return True
    # Imported here: where packages are missing these fail, and the checks above are to report it.
    from synthgen import taggers as tagging
    from synthgen.config import library
    from synthgen.config import pipeline as pipelines

    loaded = pipelines.load(pipeline)
    documents = [library.load("tagger", name) for name in loaded.tag.taggers]  # their models need not be here yet
    served = [
        library.check(document, tagging.VlmTaggerFile).serve
        for document in documents
        if document.at(("engine",)) == "vlm"
    ]
    return any(engine.kind == "vllm" for engine in (loaded.generate.engine, *served))
