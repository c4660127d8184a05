"""What Ray says of a death: why, and whether the worker died by itself or only lost the machine under it.

Comes in: the error that stands where an answer was expected. Goes out: a Death, or its cause alone. A node that was lost,
preempted or cut off says nothing about the images that were there, however often it happens on preemptible machines; only the
death of the worker itself can be theirs. Where Ray knows no more than that an actor cannot be reached, it is asked again until
it does.
"""

import time
from dataclasses import dataclass
from typing import Any

REACH_SECONDS = 20.0  # for Ray to find out what became of an actor that cannot be reached
OF_A_NODE = (
    "its node has died",
    "node it was running on is dead",
)  # how Ray words it; ActorDiedError has no field for it


@dataclass(frozen=True)
class WorkerDeath:
    """Of an actor."""

    why: str
    is_own: bool = True  # False where its node was lost, so that what it held is not to blame


def death_of(error: Exception, handle: Any, node: str | None) -> WorkerDeath:
    """The death behind an error of Ray's; `node` is where the actor was, once that is known."""
    import ray

    known = _last_word(error, handle) if isinstance(error, ray.exceptions.ActorUnavailableError) else error
    unseen = ray.exceptions.NodeDiedError, ray.exceptions.ActorUnavailableError
    is_of_node = (
        isinstance(known, unseen)
        or bool(getattr(known, "preempted", False))
        or any(words in str(known) for words in OF_A_NODE)
    )
    return WorkerDeath(cause_of(known), not (is_of_node or (node is not None and _is_gone(node))))


def _last_word(error: Exception, handle: Any) -> Exception:
    """What Ray says of an actor after a while; the error that is there already if it says nothing else."""
    import ray

    give_up = time.monotonic() + REACH_SECONDS
    while (left := give_up - time.monotonic()) > 0:
        try:
            ray.get(handle.progress.remote(), timeout=left)
            return error  # it can be reached again, but what it was asked before is lost
        except ray.exceptions.ActorUnavailableError:
            time.sleep(0.5)
        except ray.exceptions.GetTimeoutError:
            return error
        except ray.exceptions.RayError as later:
            known: Exception = later
            return known
    return error


def _is_gone(node: str) -> bool:
    """Whether a node is no longer part of the cluster: its workers can be ended a moment before Ray says that it died."""
    import ray

    return not any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def cause_of(error: Exception) -> str:
    """What Ray says of a death, in one line: of its many the one that gives a reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "because" in line), lines[0])[:300]
