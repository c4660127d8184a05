"""Checks of the models of a pipeline: served, in a folder, in the local cache of the hub, or still to be downloaded."""

import asyncio
import importlib.util
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from synthgen.commands.doctor.finding import Finding, Level, python
from synthgen.config.engine import EngineConfig
from synthgen.config.generation import GenerateConfig
from synthgen.errors import Failure, SynthError, guess, listed

ANSWER_SECONDS = 5.0  # for an endpoint to list its models
NAMED_MODELS = 5  # of an endpoint, in a finding


def models_of(pipeline: str, importable: Collection[str]) -> Iterator[Finding]:
    """Check the models of a pipeline that generate and score, and those of its taggers.

    Args:
        pipeline: Its name.
        importable: Libraries that were imported without an error.
    """
    from synthgen.config import library
    from synthgen.config import pipeline as pipelines
    from synthgen.taggers import kind_of

    loaded = pipelines.load(pipeline)
    if loaded.generate.is_split:
        yield from _model("model that asks", loaded.generate.asker)
        yield from _model("model that answers", loaded.generate.answerer)
    else:
        yield from _model("model", loaded.generate.answerer)
    for name, judge in loaded.passes.items():
        yield from _model(f"model of pass {name}", judge, f"--set score.{name}.model=")
    for name in loaded.tag.taggers:
        document = library.load("tagger", name)
        file = library.check(document, kind_of(document))
        if served := file.served_model():
            yield from _model(f"tagger {name}", served)
        elif file.local_model(Path()) or file.local_weights(Path()):
            yield Finding(f"tagger {name}", "ok", "its model is here")
        elif "open_clip" in importable and (download := file.download()):
            copy = f"synth copy tagger {name} mine   (and name a local folder or file there)"
            fix = copy if "://" in download.name else f"hf download {download.name}"
            yield _to_download(f"tagger {name}", download.name, download.is_cached, download.fault(), fix)


def _model(name: str, settings: GenerateConfig, naming: str = "--model ") -> Iterator[Finding]:
    """Check one model, by what its kind of engine does with the name.

    Args:
        name: Of the finding.
        settings: Name the model and the engine that serves it.
        naming: The option of `synth run` that names another model, up to the name.
    """
    from synthgen.engines.kinds import kind_of

    kind = kind_of(settings.engine)
    if kind.served:
        yield from _served(name, settings, naming)
    elif kind.pins_revision:
        yield _weights(name, settings, naming)
    if kind.bounds_images and (found := _images(name, settings)):
        yield found


def _images(name: str, settings: GenerateConfig) -> Finding | None:
    """Return how many tokens an image takes; None if the model's files are not here."""
    from synthgen.engines.image_tokens import bound_images
    from synthgen.engines.model_files import read_model_files
    from synthgen.engines.protocol import ModelName
    from synthgen.engines.revision import local_path

    folder = local_path(settings.model, Path())
    model = str(folder) if folder.is_dir() else settings.model
    files = read_model_files(ModelName(model, settings.revision or "main"))
    if files is None or not files.family:
        return None
    bound = bound_images(files, settings.engine)
    context = settings.engine.options.get("max_model_len") or files.context
    room = f" of a context of {context:,}" if isinstance(context, int) else ""
    level: Level = "note" if bound.note else "ok"
    return Finding(f"{name}: images", level, bound.note or f"an image takes up to {bound.most:,} tokens{room}")


def _weights(name: str, settings: GenerateConfig, naming: str) -> Finding:
    """Check that the weights of a model are in a folder or in the local cache, or can be downloaded."""
    from huggingface_hub import try_to_load_from_cache

    from synthgen.engines.hub import hub_fault
    from synthgen.engines.revision import WEIGHTS, folder_fault, is_hub_name, local_path

    model, folder = settings.model, local_path(settings.model, Path())
    if folder.is_dir():
        fault = folder_fault(folder)
        return Finding(name, "missing" if fault else "ok", f"{model}: {fault or 'the folder is here'}")
    if not is_hub_name(model):
        return Finding(name, "missing", f"{model}: no such folder here", f"synth run … {naming}FOLDER")
    config = try_to_load_from_cache(model, "config.json", revision=settings.revision)
    is_cached = isinstance(config, str) and any(path.suffix in WEIGHTS for path in Path(config).parent.iterdir())
    fault = None if is_cached else hub_fault(model, settings.revision)
    return _to_download(name, model, is_cached, fault, f"hf download {shlex.quote(model)}")


INSTEAD = {  # of a model that cannot be downloaded, for the generating model and for a tagger
    False: "serve it elsewhere, docs/served_models.md",
    True: "take a tagger without a model, such as everyday-sidecar",
}


def _to_download(name: str, model: str, is_cached: bool, fault: str | None, fix: str) -> Finding:
    if is_cached:
        return Finding(name, "ok", f"{model}: in the local cache")
    if fault:
        where = f"{fix}   (where the hub can be reached, then name its folder); or {INSTEAD[name.startswith('tagger')]}"
        return Finding(name, "missing", f"{model}: not in the local cache, and not from the hub ({fault})", where)
    return Finding(name, "note", f"{model}: not in the local cache; it is downloaded on first use", fix)


def _served(name: str, settings: GenerateConfig, naming: str) -> Iterator[Finding]:
    """Check each address of a served model, the key, and that the model is served."""
    from synthgen.engines.endpoint_client import KEY_SOURCE

    try:
        answers = asyncio.run(_ask(settings.engine))
    except SynthError as error:
        yield Finding(name, "missing", str(error))
        return
    served = sorted({model for answer in answers.values() if not isinstance(answer, Failure) for model in answer})
    is_any = any(not isinstance(answer, Failure) for answer in answers.values())
    for url, answer in answers.items():
        yield _endpoint(name, url, answer, settings, "note" if is_any else "missing")
    if not any(isinstance(answer, Failure) and KEY_SOURCE in answer.detail for answer in answers.values()):
        yield _key(name, settings.engine)  # the line of one that refused it says the same, and what to do
    if is_any and settings.model not in served:
        near = guess(settings.model, served) or (served[0] if served else "NAME")
        detail = f"{settings.model}: is not served there; served: {listed(served, NAMED_MODELS) or 'nothing'}"
        yield Finding(name, "missing", detail, f"synth run … {naming}{shlex.quote(near)}")


async def _ask(engine: EngineConfig) -> Mapping[str, set[str] | Failure]:
    from synthgen.engines.kinds import kind_of

    served = kind_of(engine).served
    return await served(engine, ANSWER_SECONDS) if served else {}


def _endpoint(name: str, url: str, answer: set[str] | Failure, settings: GenerateConfig, level: Level) -> Finding:
    """Return whether an endpoint lists its models and has this one; `level` is that of one which lists none."""
    if not isinstance(answer, Failure):
        if settings.model in answer or not answer:
            return Finding(name, "ok", f"{url} serves {listed(sorted(answer), NAMED_MODELS) or 'nothing'}")
        return Finding(name, "note", f"{url} does not serve {settings.model}, and gets no calls")
    return Finding(name, level, answer.detail, _way_back(url, answer, settings))


def _way_back(url: str, answer: Failure, settings: GenerateConfig) -> str:
    """Return the command that gets an answer, or shows why there is none."""
    from synthgen.engines.endpoint_client import KEY_SOURCE, is_here

    if KEY_SOURCE in answer.detail:
        return f"export {settings.engine.key_env}=…"
    if is_here(url) and importlib.util.find_spec("vllm"):
        server = f"{python()} -m vllm.entrypoints.openai.api_server"
        address = urlsplit(url)  # without a host vLLM listens on all interfaces
        where = f"--host {shlex.quote(address.hostname or '')} --port {address.port or 80}"
        return f"{server} {_model_options(settings.model)} {where}"
    return f"curl -sS {shlex.quote(url.rstrip('/'))}/models   (shows what is there)"


def _model_options(model: str) -> str:
    """Return the options by which vLLM serves a model under the name that the pipeline has for it."""
    from synthgen.engines.revision import is_hub_name, local_path

    if is_hub_name(model) or local_path(model, Path()).is_dir():
        return f"--model {shlex.quote(model)}"
    return f"--model FOLDER --served-model-name {shlex.quote(model)}"


def _key(name: str, engine: EngineConfig) -> Finding:
    is_set = bool(os.environ.get(engine.key_env, "").strip())
    state = "is set (not read)" if is_set else "is not set; it is needed only where the endpoint asks for a key"
    return Finding(name, "ok", f"the key's variable {engine.key_env} {state}")
