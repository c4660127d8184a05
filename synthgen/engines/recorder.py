"""An engine that records every call on its way to the real one: a preview shows the calls, a profile counts them."""

from synthgen.engines.protocol import Engine, EngineInfo, Reply, Request


class Recorder:
    """A real engine whose calls are recorded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.facts: EngineInfo = engine.facts
        self.calls: list[tuple[Request, Reply]] = []

    async def generate(self, request: Request) -> Reply:
        """Return the real engine's reply."""
        reply = await self._engine.generate(request)
        self.calls.append((request, reply))
        return reply

    async def close(self) -> None:
        """Close the real engine."""
        await self._engine.close()
