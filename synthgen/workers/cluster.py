"""Joining a Ray cluster and leaving it.

This process becomes a driver of the cluster that RAY_ADDRESS names, or of a new one on this machine. Resources that a
cluster can never offer are reported in one line before anything waits for them.
"""

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthgen.config.engine import EngineConfig
from synthgen.console import Loading, note, pluralize
from synthgen.engines.kinds import gpus_of, kind_of
from synthgen.engines.vllm_metrics import VARIABLE, are_wanted
from synthgen.errors import JobFailing, ModelUnavailable, SynthError, UserMistake, is_whole_text, one_line
from synthgen.workers import signals
from synthgen.workers.actor import TURN_SECONDS, options_of_actor
from synthgen.workers.failures import cause_of, engine_death
from synthgen.workers.home import enter
from synthgen.workers.metrics import endpoint_port
from synthgen.workers.notes import collect_notes, pass_on
from synthgen.workers.ray_watch import check_ray, kill_local_ray, ray_fault, ray_faults, stop_watching, watched

CONNECT_SECONDS = 10.0  # for the machine of a cluster to accept a connection
NOTE_SECONDS = 60.0  # between two notes on why nothing happens
WORKERS_PER_GPU = 4  # at least, where tag.gpus is not configured: one tagging worker alone would leave a GPU idle
STARTS = 3  # of Ray, before its giving up counts as a failure
SOON_SECONDS = 30.0  # a cluster that refuses to be joined within this time may have just started
PLACE_SECONDS = 3600.0  # for a cluster that grows by itself to place a first worker


def run_in_actor(
    function: Callable[[Any], Any], task: Any, engine: EngineConfig, home: Path = Path(), doing: str = ""
) -> Any:
    """Return the result of the coroutine `function(task)`, run in an actor with the resources of an engine.

    Args:
        function: A coroutine function.
        task: Its argument; it is pickled.
        engine: Says which resources.
        home: The folder that the actor imports code of the user from.
        doing: What the user waits for, such as "checking that the model loads"; noted where it takes long.

    Raises:
        ModelUnavailable: The process of the actor ended before it was done.
        SynthError: Whatever the coroutine raised.
    """
    loading = Loading(doing or "at work")
    join_ray(home)
    with ray_faults():
        return _run_in_actor(function, task, engine, home, loading)


def check_room(engine: EngineConfig, home: Path) -> None:
    """Join Ray, and check that it can ever place a worker with the engine; the arguments are those of `run_in_actor`.

    Raises:
        UserMistake: This machine has too few CPUs or GPUs, or the cluster cannot be joined.
        SynthError: Ray does not start.
    """
    join_ray(home)
    with ray_faults():
        check_resources(engine.cpus, gpus_of(engine))


def _run_in_actor(function: Callable[[Any], Any], task: Any, engine: EngineConfig, home: Path, loading: Loading) -> Any:
    import ray

    gpus = gpus_of(engine)
    check_resources(engine.cpus, gpus)
    waiting = Waiting(engine.cpus, gpus)
    waiting.begin()
    actor = ray.remote(_Runner).options(**options_of_actor(engine.cpus, gpus)).remote(home.absolute())
    try:
        placed = actor.ping.remote()
        while not ray.wait([placed], timeout=TURN_SECONDS)[0]:
            check_ray()
            waiting.see(False)
            loading.note_now_and_then()
        result = actor.run.remote(function, task)
        while not ray.wait([result], timeout=TURN_SECONDS)[0]:
            check_ray()
            loading.note_now_and_then()
        value, notes = ray.get(result)
        pass_on(notes)
        return value
    except ray.exceptions.RayTaskError as error:
        raise _ended(engine_death(error), engine) from None
    except ray.exceptions.RayError as error:
        check_ray()
        raise _ended(cause_of(error), engine) from None


def _ended(why: str, engine: EngineConfig) -> ModelUnavailable:
    """Return the error for a model whose process ended within a task; unlike in a run, there is no second attempt."""
    reason = one_line(" ".join(why.split()).partition(" Some common causes")[0])  # Ray adds guesses
    advice = kind_of(engine).memory_advice
    if_memory = f"if it was for memory, {advice}; " if advice else ""
    return ModelUnavailable(
        f"the worker with the model ended before it was done: {reason.rstrip('.')}; {if_memory}"
        "SYNTH_RAY_LOGS=1 before the command shows its whole log"
    )


def leave_ray() -> None:
    """Leave the cluster, if this process joined one. The watch ends a leave that Ray does not finish."""
    if ray := sys.modules.get("ray"):
        if ray_fault():
            kill_local_ray()
        with suppress(ray.exceptions.RayError):  # it is left all the same
            ray.shutdown()
    stop_watching()


def check_command_line() -> None:
    """Raise UserMistake if Ray would not start for a word on the command line: it stores all of them as UTF-8."""
    for word in sys.argv:
        if not is_whole_text(word):
            raise UserMistake(
                f"{word}: is not UTF-8 text, and Ray takes no such command line; rename it, or link to it"
            )


def join_ray(home: Path = Path()) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine; a second call does nothing.

    Args:
        home: The folder that workers import code of the user from.

    Raises:
        UserMistake: The cluster cannot be joined.
        SynthError: None can be started here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        return
    check_command_line()
    # A definition file can name code of the user as module:attribute.
    path = os.pathsep.join([str(home.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])])
    address = os.environ.get("RAY_ADDRESS")
    try:
        _connect(address or "")
        _start(address, path)
    except Exception as error:
        # Another version of Ray or Python is a RuntimeError, and a start that takes too long a plain Exception.
        if type(error) is not Exception and not isinstance(error, (OSError, RuntimeError, ValueError, RayError)):
            raise
        causes = [str(cause) for cause in (error, error.__cause__) if cause]
        reason = one_line(": ".join(causes), 400) or type(error).__name__
        if not address:
            raise SynthError(
                f"Ray cannot start on this machine: {reason}; its logs are in {_ray_folder()}/session_latest/logs, and "
                "RAY_TMPDIR names another folder for its files"
            ) from error
        raise UserMistake(
            f"RAY_ADDRESS={address}: cannot be joined ({reason}); start that cluster, "
            "set RAY_AUTH_MODE=token if it asks for one, or unset RAY_ADDRESS to work on this machine"
        ) from error


def _start(address: str | None, path: str) -> None:
    """Join a cluster or start one; what Ray gives up for the load of the machine is tried again."""
    import ray

    for attempt in range(1, STARTS + 1):
        began = time.monotonic()
        try:
            with signals.held_back(), watched():
                ray.init(
                    address=address or "local",  # without an address, Ray would join any cluster on this machine
                    include_dashboard=False,
                    log_to_driver="SYNTH_RAY_LOGS" in os.environ,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": {"PYTHONPATH": path, **_wanted_metrics()}},
                    **({"_metrics_export_port": port} if (port := endpoint_port()) else {}),
                )
            return
        except Exception as error:
            ray.shutdown()  # what of it did start
            if attempt == STARTS or not _may_start_later(error, time.monotonic() - began):
                raise
            doing = "could not be joined" if address else "did not start in the time that it gives itself"
            note(f"Ray {doing}, as on a busy machine; try {attempt + 1}")


def _may_start_later(error: Exception, seconds: float) -> bool:
    """Return whether an error, raised after some seconds, comes of a machine that is busy."""
    gave_up = type(error) is Exception and "timed out" in str(error)
    return gave_up or (isinstance(error, ConnectionError) and seconds < SOON_SECONDS)


def _wanted_metrics() -> dict[str, str]:
    """Return the variable that asks for metrics, for the environment of workers."""
    return {VARIABLE: os.environ[VARIABLE]} if are_wanted() else {}


def _ray_folder() -> str:
    return os.path.join(os.environ.get("RAY_TMPDIR", "/tmp"), "ray")  # noqa: PTH118 - where Ray puts it


def _connect(address: str) -> None:
    """Check that a host accepts connections at an address; Ray itself would try for minutes.

    Raises:
        OSError: It does not.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def gpus_per_worker(gpus: float | None, workers: int) -> float:
    """Return the GPUs of each worker: the configured number, or else a fraction of one with room for all workers.

    Without a configured number it is 0 if Ray sees no GPU.
    """
    import ray

    if gpus is not None:
        return gpus
    available: float = ray.cluster_resources().get("GPU", 0)
    if not available:
        return 0.0
    workers_per_gpu = max(WORKERS_PER_GPU, math.ceil(workers / available))
    return math.floor(1e4 / workers_per_gpu) / 1e4  # Ray counts in steps of a ten-thousandth


def keep_to_given_gpus() -> None:
    """Hide all GPUs from an actor that was given none, since Ray does not; called before it loads a model."""
    import ray

    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def check_resources(cpus: float, gpus: float) -> None:
    """Check that Ray can ever place a worker; a cluster at RAY_ADDRESS may grow, so it is not checked.

    Raises:
        UserMistake: This machine has too few CPUs or GPUs.
    """
    import ray

    have = ray.cluster_resources()
    needs = (("GPU", gpus), ("CPU", cpus))
    lacking = [f"{need:g} {kind} (Ray sees {have.get(kind, 0):g})" for kind, need in needs if need > have.get(kind, 0)]
    if lacking and not os.environ.get("RAY_ADDRESS"):
        raise UserMistake(
            f"a worker needs {' and '.join(lacking)}; "
            "lower tag.gpus, generate.engine.gpus or generate.engine.cpus, or run elsewhere"
        )


class Waiting:
    """The wait for a first worker: its cause is reported once a minute, and after PLACE_SECONDS it ends the run.

    Ray subtracts a worker's share from the free resources of a node before the process of the worker has started. So
    there is no room only if there was none before the first worker was requested, either.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        self._needs = {kind: need for kind, need in (("GPU", gpus), ("CPU", cpus)) if need}
        self._since = self._noted = time.monotonic()
        self._had_room = False

    def begin(self) -> None:
        """Look for room, before workers are requested; after `check_resources`, a local Ray has room for one."""
        self._had_room = not os.environ.get("RAY_ADDRESS") or self._has_room()

    def see(self, is_placed: bool) -> None:
        """Note whether any worker has answered by now.

        Raises:
            JobFailing: None has for PLACE_SECONDS.
        """
        now = time.monotonic()
        if is_placed:
            self._since = self._noted = now
        elif now - self._since >= PLACE_SECONDS:
            minutes = f"{PLACE_SECONDS / 60:.0f} min"
            raise JobFailing(f"no worker has answered within {minutes}: {self._why()}; start again when that is fixed")
        elif now - self._noted >= NOTE_SECONDS:
            self._noted = now
            note(self._why())

    def _why(self) -> str:
        import ray

        self._had_room = self._had_room or self._has_room()
        if self._had_room:
            return "a worker is starting: Ray has room for it, and its process has not answered yet"
        have, free = ray.cluster_resources(), ray.available_resources()
        needs = " and ".join(f"{need:g} {kind}" for kind, need in self._needs.items())
        seen = ", ".join(f"{have.get(kind, 0):g} {kind} ({free.get(kind, 0):g} free)" for kind in self._needs)
        nodes = pluralize(sum(node["Alive"] for node in ray.nodes()), "node")
        return f"waiting for a machine: a worker needs {needs} on one node; Ray sees {seen} on {nodes}"

    def _has_room(self) -> bool:
        """Return whether one node has everything that a worker needs free now."""
        from ray._private.state import available_resources_per_node

        return any(
            all(node.get(kind, 0) >= need for kind, need in self._needs.items())
            for node in available_resources_per_node().values()
        )


class _Runner:
    """An actor for one task."""

    def __init__(self, home: Path) -> None:
        enter(home)
        self._notes = collect_notes()

    async def ping(self) -> None:
        """Return once the actor is placed."""

    async def run(self, function: Callable[[Any], Any], task: Any) -> tuple[Any, list[str]]:
        return await function(task), self._notes.take()
