"""The only door to Ray: workers that take partitions and hand back receipts.

Comes in: how to build a worker, and pieces of work (work.py). Goes out: receipts, in the order in which they come. The foreman
(foreman.py) gives out work, watches its actors (actor.py) and replaces them; deaths.py tells a worker that died from one that lost
its machine; strikes.py remembers, in the output folder, what was there when one died, and cuts it in half until the image that
kills stands alone; stop.py hears the signals that ask a run to end; cluster.py joins Ray. Ray's own restarts and retries are
off: they would hide all this.
"""

from synthgen.workers.cluster import keep_to_given_gpus, leave_ray, once
from synthgen.workers.foreman import work_through
from synthgen.workers.stop import listening
from synthgen.workers.work import Crew, Show, Work

__all__ = ["Crew", "Show", "Work", "keep_to_given_gpus", "leave_ray", "listening", "once", "work_through"]
