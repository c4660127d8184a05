"""The only door to Ray: workers that take partitions and hand back receipts.

Comes in: how to build a worker, and pieces of work (task.py). Goes out: receipts, in the order in which they come. The foreman
(pool.py) gives out work, watches its actors (actor.py) and replaces them; failures.py tells a worker that died from one that lost
its machine; bisection.py remembers, in the output folder, what was there when one died, and cuts it in half until the image that
kills stands alone; signals.py hears the signals that ask a run to end; cluster.py joins Ray. Ray's own restarts and retries are
off: they would hide all this.
"""

from synthgen.workers.cluster import keep_to_given_gpus, leave_ray, once
from synthgen.workers.pool import run_pool
from synthgen.workers.signals import listening
from synthgen.workers.task import PoolSpec, Show, Task

__all__ = ["PoolSpec", "Show", "Task", "keep_to_given_gpus", "leave_ray", "listening", "once", "run_pool"]
