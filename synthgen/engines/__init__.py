"""The only door to a vision-language model: a Request goes in, a Reply comes out.

kinds.py lists the kinds of engine and everything that the rest of the package treats differently between them. Engines
live inside Ray actors; only `synth learn` runs the engine of a tagger in its own process.
"""

from pydantic import ValidationError

from synthgen.config.engine import EngineConfig
from synthgen.engines.checked import JOB_ERRORS, CheckedEngine
from synthgen.engines.kinds import kind_of
from synthgen.engines.protocol import (
    Capability,
    Engine,
    EngineDied,
    EngineInfo,
    ModelName,
    Purpose,
    Reply,
    Request,
    add_tokens,
)
from synthgen.errors import ModelUnavailable, UserMistake, one_line

__all__ = [
    "JOB_ERRORS",
    "Capability",
    "Engine",
    "EngineDied",
    "EngineInfo",
    "ModelName",
    "Purpose",
    "Reply",
    "Request",
    "add_tokens",
    "check_engine",
    "open_engine",
]


async def open_engine(name: ModelName, settings: EngineConfig) -> Engine:
    """Start or reach an engine.

    Raises:
        ModelUnavailable: It cannot be started or reached; one line says why.
        UserMistake: The settings describe no engine.
    """
    kind = kind_of(settings)
    if kind.settings_fault and (fault := kind.settings_fault(settings)):
        raise UserMistake(f"engine: {fault}")
    try:
        if kind.options:
            kind.options.model_validate(dict(settings.options))
        return CheckedEngine(await kind.open(name, settings), kind.name)
    except ValidationError as error:
        first = error.errors()[0]
        known = f"; known: {', '.join(kind.options.model_fields)}" if kind.options else ""
        place = ".".join(["options", *map(str, first["loc"])])
        raise ModelUnavailable(f"engine kind {kind.name}: {place}: {one_line(first['msg'])}{known}") from error


async def check_engine(task: tuple[ModelName, EngineConfig]) -> None:
    """Raise the error that `open_engine` would, as far as it can be known in seconds."""
    name, settings = task
    if check := kind_of(settings).check:
        await check(name, settings)
        return
    engine = await open_engine(name, settings)
    await engine.close()
