"""An engine that notes every call on its way to the real one: for a preview, which shows them, and a profile, which counts them.

Comes in: an engine. Goes out: the same engine, and the calls that it served.
"""

from synthgen.engines import Engine, EngineInfo, Reply, Request


class Recorder:
    """A real engine with its calls noted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.facts: EngineInfo = engine.facts
        self.calls: list[tuple[Request, Reply]] = []

    async def generate(self, request: Request) -> Reply:
        """The real engine's reply."""
        reply = await self._engine.generate(request)
        self.calls.append((request, reply))
        return reply

    async def close(self) -> None:
        """Closes the real engine."""
        await self._engine.close()
