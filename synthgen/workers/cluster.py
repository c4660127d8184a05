"""Joining and leaving Ray.

Comes in: RAY_ADDRESS, or nothing. Goes out: this process as a driver of that cluster, or of one on this machine. What a cluster
cannot give is told in one line before anything waits for it.
"""

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthgen.config.pipeline import EngineConfig
from synthgen.console import pluralize
from synthgen.engines import EngineDied
from synthgen.engines.kinds import gpus_of, kind_of
from synthgen.errors import JobFailing, ModelUnavailable, SynthError, UserMistake
from synthgen.workers import signals
from synthgen.workers.failures import cause_of

KNOCK_SECONDS = 10.0  # for the machine of a cluster to answer at all
NOTE_SECONDS = 60.0  # between two words on why nothing happens
WORKERS_A_GPU = 4  # at least, where the user does not say what a tagging worker takes: one alone would leave a GPU idle
PLACE_SECONDS = 3600.0  # that a cluster which grows by itself may take to give a machine to anybody


def once(do: Callable[[Any], Any], task: Any, engine: EngineConfig) -> Any:
    """The result of the coroutine `do(task)`, run in an actor of its own with an engine's resources."""
    join_ray()
    import ray

    gpus = gpus_of(engine)
    afford(engine.cpus, gpus)
    waiting = Waiting(engine.cpus, gpus)
    waiting.begin()
    actor = ray.remote(_Once).options(num_cpus=engine.cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0).remote()
    try:
        placed = actor.here.remote()
        while not ray.wait([placed], timeout=NOTE_SECONDS / 2)[0]:
            waiting.see(False)
        return ray.get(actor.do.remote(do, task))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EngineDied | MemoryError):
            raise _ended(
                f"the engine died: {error.cause}" if str(error.cause) else "it ran out of memory", engine
            ) from None
        raise (error.cause if isinstance(error.cause, SynthError) else error) from None
    except ray.exceptions.RayError as error:
        raise _ended(cause_of(error), engine) from None


def _ended(why: str, engine: EngineConfig) -> ModelUnavailable:
    """What to say of a model whose process did not live to the end of a task; there is no second try, as a run makes."""
    told = " ".join(why.split()).partition(" Some common causes")[0]  # Ray guesses on
    advice = kind_of(engine).memory_advice
    if_memory = f"if it was for memory, {advice}; " if advice else ""
    return ModelUnavailable(
        f"the worker with the model ended before it was done: {told[:300].rstrip('.')}; {if_memory}"
        "SYNTH_RAY_LOGS=1 before the command shows all it said"
    )


def leave_ray() -> None:
    """Ends this process's part in Ray, if it took one."""
    if ray := sys.modules.get("ray"):
        ray.shutdown()


def join_ray() -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts one on this machine; once a process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    # Workers import what the user's shelf names as module:attribute from the folder that `synth` was started in.
    path = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    address = os.environ.get("RAY_ADDRESS")
    try:
        _knock(address or "")
        with signals.held_back():
            ray.init(
                address=address
                or "local",  # without an address Ray would join whatever cluster it finds on this machine
                include_dashboard=False,
                log_to_driver="SYNTH_RAY_LOGS" in os.environ,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": path}},
            )
    except (
        OSError,
        RuntimeError,
        ValueError,
        ray.exceptions.RayError,
    ) as error:  # RuntimeError: of another version of Ray or Python
        if not address:
            raise
        told = " ".join(str(error).split())[:400] or type(error).__name__
        raise UserMistake(
            f"RAY_ADDRESS={address}: cannot be joined ({told}); start that cluster, set RAY_AUTH_MODE=token if it asks for one, "
            "or unset RAY_ADDRESS to work on this machine"
        ) from error


def _knock(address: str) -> None:
    """Raises OSError where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def share(gpus: float | None, workers: int) -> float:
    """GPUs of each worker: as many as are asked for; where that is left open, a part of one if Ray sees any, so that all find room."""
    import ray

    if gpus is not None:
        return gpus
    seen = ray.cluster_resources().get("GPU", 0)
    return (
        math.floor(1e4 / max(WORKERS_A_GPU, math.ceil(workers / seen))) / 1e4 if seen else 0.0
    )  # Ray counts ten-thousandths


def keep_to_given_gpus() -> None:
    """Called in an actor before it loads a model: without a GPU of its own it sees none. Ray leaves all of them visible to it."""
    import ray

    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def afford(cpus: float, gpus: float) -> None:
    """Raises if Ray can never place a worker; a cluster that grows by itself is given the time to."""
    import ray

    have = ray.cluster_resources()
    needs = (("GPU", gpus), ("CPU", cpus))
    lacking = [f"{need:g} {kind} (Ray sees {have.get(kind, 0):g})" for kind, need in needs if need > have.get(kind, 0)]
    if lacking and not os.environ.get("RAY_ADDRESS"):
        raise UserMistake(
            f"a worker needs {' and '.join(lacking)}; lower tag.gpus, generate.engine.gpus or generate.engine.cpus, or run elsewhere"
        )


class Waiting:
    """No worker answers yet: that is told once a minute, and it ends the run in the end, since a cluster may be too small for ever.

    Ray takes a worker's share of a node from what is free before the worker's process has started. So there is no room only if
    there was none before the first worker was asked for, either.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        self._needs = {kind: need for kind, need in (("GPU", gpus), ("CPU", cpus)) if need}
        self._since = self._told = time.monotonic()
        self._had_room = False

    def begin(self) -> None:
        """To be called before workers are asked for; a Ray of our own has room for one, or `afford` had refused."""
        self._had_room = not os.environ.get("RAY_ADDRESS") or self._has_room()

    def see(self, is_placed: bool) -> None:
        """Whether any worker has answered by now."""
        now = time.monotonic()
        if is_placed:
            self._since = self._told = now
        elif now - self._since >= PLACE_SECONDS:
            raise JobFailing(
                f"no worker has answered within {PLACE_SECONDS / 60:.0f} min: {self._why()}; start again when that is mended"
            )
        elif now - self._told >= NOTE_SECONDS:
            self._told = now
            print(self._why(), file=sys.stderr, flush=True)

    def _why(self) -> str:
        import ray

        self._had_room = self._had_room or self._has_room()
        if self._had_room:
            return "a worker is starting: Ray has room for it, and its process has not answered yet"
        have, free = ray.cluster_resources(), ray.available_resources()
        needs = " and ".join(f"{need:g} {kind}" for kind, need in self._needs.items())
        told = ", ".join(f"{have.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind in self._needs)
        nodes = pluralize(sum(one["Alive"] for one in ray.nodes()), "node")
        return f"waiting for a machine: a worker needs {needs} on one node; Ray sees {told} on {nodes}"

    def _has_room(self) -> bool:
        """Whether one node has all that a worker needs free now."""
        from ray._private.state import available_resources_per_node

        return any(
            all(node.get(kind, 0) >= need for kind, need in self._needs.items())
            for node in available_resources_per_node().values()
        )


class _Once:
    """An actor for one task."""

    async def here(self) -> None:
        """It has a machine."""

    async def do(self, do: Callable[[Any], Any], task: Any) -> Any:
        sys.path.insert(0, str(Path.cwd()))
        return await do(task)
