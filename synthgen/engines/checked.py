"""The check of every reply, whatever engine it comes from: a server, or code of a user, may put anything into one.

What a row cannot hold costs the call. A number that is none is unknown: tokens become None, and log-probabilities or
labels are left out, with the reason in the detail. An exception of an engine's code costs the call too, and its place
is in the detail.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from synthgen.engines.protocol import MOST_TOKENS, Engine, EngineDied, EngineInfo, Reply, Request
from synthgen.errors import Failure, ModelUnavailable, SynthError, code_failure, one_line, whole_text
from synthgen.tables.reasons import FAILURE_REASONS

LONGEST_DETAIL = 500  # characters
ROUNDING = 1e-3  # by which a logarithm may exceed 0, and a probability 1
JOB_ERRORS = (SynthError, EngineDied, MemoryError)  # that no call is to blame for


class CheckedEngine:
    """An engine whose replies can be stored, and whose errors cost one call each."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self.wrapped, self._kind = engine, kind
        self.facts = _checked_facts(engine, kind)

    async def generate(self, request: Request) -> Reply:
        """Return the engine's reply, checked.

        Raises:
            EngineDied: The engine can serve no further call.
        """
        if request.more and "more" not in self.facts.capabilities:
            return Reply.failed(Failure("call_failed", f"engine {self._kind} takes one image a call, and not a set"))
        try:
            reply: object = await self.wrapped.generate(request)
        except JOB_ERRORS:
            raise
        except (Exception, SystemExit) as error:
            return Reply.failed(code_failure(error))
        if not isinstance(reply, Reply):
            detail = f"engine {self._kind} returned {type(reply).__name__} in place of a Reply"
            return Reply.failed(Failure("code_failed", detail))
        return checked_reply(reply)

    async def close(self) -> None:
        """Close the engine."""
        await self.wrapped.close()


@dataclass(frozen=True)
class _Numbers:
    """Numbers of a reply that can be used, and why there are none if there are none."""

    logprobs: tuple[float, ...] = ()
    labels: Mapping[str, float] | None = None
    fault: str | None = None


def checked_reply(reply: Reply) -> Reply:
    """Return a reply as a row can hold it; one without text that can be stored is a failed call."""
    if not isinstance(reply.text, str) or not isinstance(reply.finish, str):
        kinds = f"{type(reply.text).__name__} as text and {type(reply.finish).__name__} as finish"
        return Reply.failed(Failure("call_failed", f"the reply has {kinds}; both must be text"))
    logprobs, labels = _checked_logprobs(reply.logprobs), _checked_labels(reply.labels)
    failure, detail = _checked_failure(reply)
    notes = [note for note in (detail, logprobs.fault, labels.fault) if note]
    return Reply(
        text=whole_text(reply.text),
        finish=reply.finish,
        failure=failure,
        detail=one_line("; ".join(notes), LONGEST_DETAIL) or None,
        logprobs=logprobs.logprobs,
        labels=labels.labels or {},
        prompt_tokens=token_count(reply.prompt_tokens),
        cached_tokens=token_count(reply.cached_tokens),
        output_tokens=token_count(reply.output_tokens),
        seconds=_number(reply.seconds, 0.0, math.inf) or 0.0,
        reasoning=whole_text(reply.reasoning) if isinstance(reply.reasoning, str) else "",
    )


def token_count(value: Any) -> int | None:
    """Return a number of tokens; None, which is unknown, for anything that cannot be one."""
    number = _number(value, 0.0, MOST_TOKENS)
    return int(number) if number is not None and number.is_integer() else None


def logprob(value: Any) -> float | None:
    """Return the natural logarithm of a probability, -inf for none; None for anything that cannot be one."""
    if isinstance(value, Real) and value == -math.inf:
        return -math.inf
    number = _number(value, -math.inf, ROUNDING)
    return None if number is None else min(number, 0.0)


def _checked_logprobs(values: Iterable[Any]) -> _Numbers:
    try:
        given = tuple(values)
    except TypeError:
        return _Numbers(fault=f"its log-probabilities are {type(values).__name__}")
    checked = [logprob(value) for value in given]
    usable = [value for value in checked if value is not None]
    if len(usable) < len(given):
        odd = given[checked.index(None)]
        return _Numbers(fault=f"a token has the log-probability {one_line(repr(odd), 40)}, so none is used")
    return _Numbers(logprobs=tuple(usable))


def _checked_labels(labels: Any) -> _Numbers:
    if not isinstance(labels, Mapping):
        return _Numbers(fault=f"its labels are {type(labels).__name__}")
    checked = {label: _number(value, 0.0, 1.0 + ROUNDING) for label, value in labels.items() if isinstance(label, str)}
    usable = {label: value for label, value in checked.items() if value is not None}
    if len(usable) < len(labels):
        return _Numbers(fault=f"its labels have no probabilities: {one_line(repr(dict(labels)), 80)}")
    return _Numbers(labels=usable)


def _checked_failure(reply: Reply) -> tuple[str | None, str | None]:
    """Return reason and detail, the reason one of those that rows may have."""
    detail = None if reply.detail is None else str(reply.detail)
    if reply.failure is None or (isinstance(reply.failure, str) and reply.failure in FAILURE_REASONS):
        return reply.failure, detail
    return "call_failed", f"{reply.failure}: {detail}" if detail else str(reply.failure)


def _checked_facts(engine: Engine, kind: str) -> EngineInfo:
    facts: object = getattr(engine, "facts", None)
    if not isinstance(facts, EngineInfo) or not callable(getattr(engine, "generate", None)):
        raise ModelUnavailable(f"engine {kind}: has no `facts` that are an EngineInfo, or no `generate`")
    for name in ("kv_tokens", "sequences"):
        value = getattr(facts, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            fault = f"engine {kind}: its facts give {name} as {one_line(repr(value), 40)}"
            raise ModelUnavailable(f"{fault}, which must be a number from 1 on, or None")
    return facts


def _number(value: Any, low: float, high: float) -> float | None:
    """Return a finite number from `low` to `high`; None for anything else, truth values among it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) and low <= number <= high else None
