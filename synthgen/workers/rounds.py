"""Which pools run side by side: those whose workers all fit on the cluster at the same time, others one after another.

Two pools never share a GPU: an engine takes what memory a GPU has, and would find it taken.
"""

from collections.abc import Mapping, Sequence

from synthgen.workers.cluster import join_ray
from synthgen.workers.ray_watch import ray_faults
from synthgen.workers.task import PoolSpec

Free = dict[str, float]  # resource → how much of it a node has left


def rounds_on_cluster(specs: Sequence[PoolSpec]) -> list[list[int]]:
    """Return `rounds_of` these pools on the cluster that is joined; one pool alone needs none."""
    if len(specs) < 2:
        return [[number] for number in range(len(specs))]
    join_ray(specs[0].home)
    with ray_faults():
        return rounds_of(specs, _nodes())


def rounds_of(specs: Sequence[PoolSpec], nodes: Sequence[Mapping[str, float]]) -> list[list[int]]:
    """Return the numbers of the pools that run together, round after round, in their order.

    Args:
        specs: The pools; their GPUs are configured.
        nodes: The resources of each node, as Ray counts them.
    """
    rounds: list[list[int]] = []
    for number, spec in enumerate(specs):
        if rounds and do_fit([*(specs[other] for other in rounds[-1]), spec], nodes):
            rounds[-1].append(number)
        else:
            rounds.append([number])
    return rounds


def do_fit(specs: Sequence[PoolSpec], nodes: Sequence[Mapping[str, float]]) -> bool:
    """Return whether the workers of all pools fit on nodes together, no two pools on one GPU.

    Args:
        specs: The pools.
        nodes: The resources of each node, as Ray counts them.
    """
    on_gpus = [spec.gpus or 0 for spec in specs if spec.gpus]
    if len(on_gpus) > 1 and any(gpus % 1 for gpus in on_gpus):
        return False
    free: list[Free] = [{"CPU": node.get("CPU", 0.0), "GPU": node.get("GPU", 0.0)} for node in nodes]
    workers = [(spec.gpus or 0, spec.cpus) for spec in specs for _ in range(spec.size)]
    return all(_place(gpus, cpus, free) for gpus, cpus in sorted(workers, reverse=True))


def _place(gpus: float, cpus: float, free: Sequence[Free]) -> bool:
    """Take the resources of a worker from the first node that has them; return whether one has."""
    node = next((node for node in free if node["GPU"] >= gpus and node["CPU"] >= cpus), None)
    if node is None:
        return False
    node["GPU"] -= gpus
    node["CPU"] -= cpus
    return True


def _nodes() -> list[Mapping[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
