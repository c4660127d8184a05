"""Engines that keep a record of the calls on their way to the real one.

A preview shows the calls, a profile counts them, and every score has what it cost.
"""

from synthgen.engines.protocol import Engine, EngineInfo, Reply, Request, add_tokens


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


class Meter:
    """A real engine whose calls are counted; a count of tokens is None from the first call that does not tell it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.facts: EngineInfo = engine.facts
        self.calls = 0
        self.prompt_tokens: int | None = 0
        self.cached_tokens: int | None = 0
        self.output_tokens: int | None = 0

    async def generate(self, request: Request) -> Reply:
        """Return the real engine's reply."""
        reply = await self._engine.generate(request)
        self.calls += 1
        self.prompt_tokens = add_tokens(self.prompt_tokens, reply.prompt_tokens)
        self.cached_tokens = add_tokens(self.cached_tokens, reply.cached_tokens)
        self.output_tokens = add_tokens(self.output_tokens, reply.output_tokens)
        return reply

    async def close(self) -> None:
        """Close the real engine."""
        await self._engine.close()
