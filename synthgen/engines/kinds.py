"""The kinds of engine, and everything that the rest of the package treats differently between them.

A kind is one record. An installed package adds one through an entry point of the group `synthgen.engines`, which names
an EngineKind; a class in the user's own folder is the kind `module:Class`. Nothing else in the package decides by a
kind's name, but for the earlier spelling of such a class, `kind: scripted` with a `script`.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from synthgen.config.engine import EngineConfig
from synthgen.config.entry_points import added, load, offered
from synthgen.config.generation import GenerateConfig
from synthgen.config.library import Section, import_attribute
from synthgen.config.prompt_file import JudgePrompt
from synthgen.engines.distilled import DistilledEngine, check_distilled, no_options, score_fault
from synthgen.engines.endpoint import CAPABILITIES as ENDPOINT_CAPABILITIES
from synthgen.engines.endpoint import IMAGES_IN_MEMORY, EndpointEngine, served_models
from synthgen.engines.endpoint import settings_fault as endpoint_fault
from synthgen.engines.protocol import ALL_CAPABILITIES, Capability, Engine, ModelName
from synthgen.engines.revision import resolve_own, resolve_unverified, resolve_weights
from synthgen.engines.scripted import Script, ScriptedEngine
from synthgen.engines.vllm import REPLY_OPTIONS, VllmEngine, check_vllm
from synthgen.errors import Failure, ModelUnavailable, SynthError, UserMistake, nearest, one_line

ENTRY_POINTS = "synthgen.engines"
OWN = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True)
class EngineKind:
    """What a run knows of an engine before the engine runs.

    Attributes:
        name: The value of `generate.engine.kind`.
        open: Starts or reaches the engine; raises ModelUnavailable with one line if that fails.
        check: Raises what `open` would, within seconds; None: the engine is opened and closed.
        is_checked_here: The check is of the settings alone, and needs no actor on the machine that the engine is for.
        settings_fault: Returns what is wrong with settings whose types are right; None if nothing is.
        options: Model of `generate.engine.options`; None: the engine itself judges them.
        reply_options: Options that can change a reply, so that an edit of one makes pairs again; None: all of them.
        bounds_images: `image_tokens` of the settings reaches the engine; elsewhere it is left to the server.
        resolve: Returns the exact revision of the configured model; its further arguments are the setting that names
            the model, for messages, and the folder that relative paths start from.
        pins_revision: A folder stays with the hub commit of its first run.
        uses_gpu: The engine occupies the GPUs that the settings ask for, and costs by the GPU-hour; without a GPU it
            costs by the hour of the engine. Prices of tokens apply to every kind.
        images_in_memory: Images that an engine keeps in host memory beside those of its conversations.
        memory_advice: What to change if the engine runs out of memory.
        capabilities: What the engine can serve at best; once it runs, its EngineInfo says what it does serve.
        shows_first_token: The probabilities of labels are those of their first tokens alone, and nothing checks whether
            these differ.
        needs: Modules that must import where the engine runs.
        is_model: The replies come from a model; False marks a data set as meaningless on its card.
        score_fault: Returns why a model of this kind cannot serve a score by its judge prompt, where it serves only
            some; None if it can.
        served: Returns by URL which models are served there, or why nobody knows, within so many seconds; None: the
            model is not served elsewhere.
    """

    name: str
    open: Callable[[ModelName, EngineConfig], Awaitable[Engine]]
    check: Callable[[ModelName, EngineConfig], Awaitable[None]] | None = None
    is_checked_here: bool = False
    settings_fault: Callable[[EngineConfig], str | None] | None = None
    options: type[Section] | None = None
    reply_options: tuple[str, ...] | None = None
    bounds_images: bool = False
    resolve: Callable[[GenerateConfig, str, Path], ModelName] = resolve_own
    pins_revision: bool = False
    uses_gpu: bool = True
    images_in_memory: int = 0
    memory_advice: str = ""
    capabilities: frozenset[Capability] = ALL_CAPABILITIES
    shows_first_token: bool = False
    needs: tuple[str, ...] = ()
    is_model: bool = True
    score_fault: Callable[[ModelName, str, JudgePrompt | None], str | None] | None = None
    served: Callable[[EngineConfig, float], Awaitable[Mapping[str, set[str] | Failure]]] | None = None


async def _open_scripted(name: ModelName, settings: EngineConfig) -> Engine:
    return ScriptedEngine(name, settings)


def _resolve_scripted(settings: GenerateConfig, named_at: str, home: Path) -> ModelName:
    return ModelName(settings.model, "scripted")


ENGINE_KINDS: Mapping[str, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind(
            "vllm",
            VllmEngine.start,
            check=check_vllm,
            reply_options=REPLY_OPTIONS,
            bounds_images=True,
            resolve=resolve_weights,
            pins_revision=True,
            memory_advice="take a smaller model or lower engine.options.gpu_memory_utilization",
            needs=("vllm",),
        ),
        EngineKind(
            "endpoint",
            EndpointEngine.reach,
            settings_fault=endpoint_fault,
            resolve=resolve_unverified,
            uses_gpu=False,
            images_in_memory=IMAGES_IN_MEMORY,
            capabilities=ENDPOINT_CAPABILITIES,
            shows_first_token=True,
            served=served_models,
        ),
        EngineKind(
            "distilled",
            DistilledEngine.start,
            check=check_distilled,
            settings_fault=no_options,
            reply_options=(),
            uses_gpu=False,
            capabilities=frozenset({"labels"}),
            needs=("open_clip", "safetensors"),
            score_fault=score_fault,
        ),
        EngineKind(
            "scripted",
            _open_scripted,
            is_checked_here=True,
            options=Script,
            reply_options=(),
            resolve=_resolve_scripted,
            uses_gpu=False,
            is_model=False,
        ),
    )
}


def engine_kind(name: str) -> EngineKind:
    """Return the kind of that name: one of the table, the user's own class, or one that an installed package adds.

    Raises:
        UserMistake: No kind or more than one has the name, or the package that adds it cannot be loaded.
    """
    point = offered(ENTRY_POINTS, name, "engine kind", name in ENGINE_KINDS)
    if name in ENGINE_KINDS:
        return ENGINE_KINDS[name]
    if OWN.fullmatch(name):
        return EngineKind(name, partial(_open_own, name))
    if point:
        kind: EngineKind = load(point, "engine kind", "an EngineKind", lambda found: isinstance(found, EngineKind))
        return kind
    known = nearest(name, [*ENGINE_KINDS, *added(ENTRY_POINTS), "module:Class"])
    raise UserMistake(f"'{name}' is not a kind of engine: {known}")


def kind_of(settings: EngineConfig) -> EngineKind:
    """Return the kind of engine that the settings describe."""
    if settings.script:
        # The earlier spelling of module:Class. The recipes of folders that were made with it cover these options alone.
        return replace(engine_kind(settings.script), reply_options=REPLY_OPTIONS)
    return engine_kind(settings.kind)


def gpus_of(settings: EngineConfig) -> float:
    """Return the GPUs that one replica occupies."""
    return settings.gpus if kind_of(settings).uses_gpu else 0.0


def first_wait(engines: Iterable[EngineConfig]) -> str:
    """Return what is waited for until the first reply of any of these engines."""
    return "no reply yet" if all(kind_of(engine).served for engine in engines) else "the model is loading"


def reply_options(settings: EngineConfig) -> dict[str, Any]:
    """Return the options that can change a reply, with those of the chat template and of images if there are any."""
    kind = kind_of(settings)
    names = tuple(settings.options) if kind.reply_options is None else kind.reply_options
    shaping = {name: settings.options[name] for name in names if name in settings.options}
    if settings.template:
        shaping["template"] = dict(settings.template)
    if kind.bounds_images and settings.image_tokens is not None:
        shaping["image_tokens"] = settings.image_tokens
    return shaping


def resolve_model(settings: GenerateConfig, named_at: str = "generate.model", home: Path = Path()) -> ModelName:
    """Return the configured model with its exact revision.

    Args:
        settings: Name the model and the engine that serves it.
        named_at: The setting that names the model, for messages.
        home: The folder that relative paths start from.

    Raises:
        UserMistake: There is no such model.
    """
    return kind_of(settings.engine).resolve(settings, named_at, home)


async def _open_own(script: str, name: ModelName, settings: EngineConfig) -> Engine:
    """Create an engine of the user's own class; an error of its code becomes one line."""
    try:
        engine: Engine = import_attribute(script, f"engine {script}")(name, settings)
    except SynthError:
        raise
    except Exception as error:
        raise ModelUnavailable(f"engine {script}: {one_line(error)}") from error
    return engine
