"""Deaths of actors: their cause, and whether the worker itself died or only lost its machine.

A node that was lost, preempted or cut off says nothing about the images that were there, however often that happens on
preemptible machines; only the death of the worker itself can be an image's fault. Where Ray knows no more than that an
actor cannot be reached, it is asked again until it does.
"""

import time
from dataclasses import dataclass
from typing import Any

from synthgen.engines import EngineDied
from synthgen.errors import SynthError, one_line

REACH_SECONDS = 20.0  # for Ray to find out what became of an actor that cannot be reached
CREATION = "error raised in its creation task"  # Ray's words above a traceback, of which the last line is the error
NODE_DEATH = (  # in Ray's words; ActorDiedError has no field for it
    "its node has died",
    "node it was running on is dead",
)


@dataclass(frozen=True)
class WorkerDeath:
    """The death of an actor.

    Attributes:
        why: Its cause in one line of limited length.
        is_own: False where its node was lost, so that its tasks are not to blame.
    """

    why: str
    is_own: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", one_line(self.why))


def death_of(error: Exception, handle: Any, node: str | None) -> WorkerDeath:
    """Return the death behind one of Ray's errors.

    Args:
        error: Raised in place of the actor's answer.
        handle: Of the actor.
        node: The id of its node, once that is known.
    """
    import ray

    known = _final_error(error, handle) if isinstance(error, ray.exceptions.ActorUnavailableError) else error
    unseen = ray.exceptions.NodeDiedError, ray.exceptions.ActorUnavailableError
    is_of_node = (
        isinstance(known, unseen)
        or bool(getattr(known, "preempted", False))
        or any(words in str(known) for words in NODE_DEATH)
    )
    return WorkerDeath(cause_of(known), not (is_of_node or (node is not None and _is_gone(node))))


def engine_death(error: Exception) -> str:
    """Return why a worker cannot go on, from Ray's error around what was raised in its task.

    Raises:
        Exception: What the task raised, a SynthError or one that nobody foresaw; the worker did not die.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, EngineDied | MemoryError):
        return f"the engine died: {cause}" if str(cause) else "it ran out of memory"
    if isinstance(cause, SynthError):
        raise cause from None
    raise (cause or error) from error  # Ray's has the traceback of the worker


def _final_error(error: Exception, handle: Any) -> Exception:
    """Return Ray's verdict on an actor after a while, or `error` if it has none."""
    import ray

    give_up = time.monotonic() + REACH_SECONDS
    while (remaining := give_up - time.monotonic()) > 0:
        try:
            ray.get(handle.progress.remote(), timeout=remaining)
            return error  # it can be reached again, but its earlier answer is lost
        except ray.exceptions.ActorUnavailableError:
            time.sleep(0.5)
        except ray.exceptions.GetTimeoutError:
            return error
        except ray.exceptions.RayError as later:
            known: Exception = later
            return known
    return error


def _is_gone(node: str) -> bool:
    """Return whether a node has left the cluster: its workers can end a moment before Ray reports its death."""
    import ray

    return not any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())


def cause_of(error: Exception) -> str:
    """Return the line of one of Ray's long errors that gives a reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if CREATION in lines[0]:
        return f"it could not start: {lines[-1]}"
    return next((line for line in lines if "because" in line), lines[0])
