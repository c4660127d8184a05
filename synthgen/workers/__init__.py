"""The only door to Ray: pools of actors that take tasks and yield receipts.

`pool` hands out tasks, watches its actors (`actor`) and replaces them; `rounds` says which pools run side by side;
`failures` tells a worker that died from one that lost its machine; `bisection` finds the image that kills its worker;
`signals` hears the signals that ask a run to end; `circuit_breaker` stops a job in which nothing works; `cluster` joins
Ray, `metrics` has Ray serve those of a run, and `ray_watch` ends a run whose Ray is gone; `home` brings an actor to the
folder that the run was started in; `notes` brings what an actor notes to the user, and `gpus` looks how busy its GPUs
are; `serial` is a worker for a function that blocks. Ray's own restarts and retries are off: they would hide all this.
"""

from synthgen.workers.circuit_breaker import CircuitBreaker
from synthgen.workers.cluster import check_command_line, check_room, keep_to_given_gpus, leave_ray, run_in_actor
from synthgen.workers.metrics import recording
from synthgen.workers.pool import PoolWork, run_pool, run_pools
from synthgen.workers.rounds import do_fit, rounds_of, rounds_on_cluster
from synthgen.workers.serial import SerialWorker
from synthgen.workers.signals import StopSignals, listening
from synthgen.workers.task import TASKS_PER_ACTOR, PoolSpec, Show, Talk, Task

__all__ = [
    "TASKS_PER_ACTOR", "CircuitBreaker", "PoolSpec", "PoolWork", "SerialWorker", "Show", "StopSignals", "Talk",
    "Task", "check_command_line", "check_room", "do_fit", "keep_to_given_gpus", "leave_ray", "listening", "recording",
    "rounds_of", "rounds_on_cluster", "run_in_actor", "run_pool", "run_pools",
]  # fmt: skip
