"""How many replicas a model should have, and on which nodes. Pure, as the scheduler is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

UP, DOWN = 1_000_000_000, 30_000_000_000
"""Nanoseconds for which more or fewer replicas must have been right before their number changes."""


@dataclass(frozen=True)
class NodeState:
    """A node of the cluster: its CPUs, those that nobody has reserved, and whether it is about to leave."""

    id: str
    cpus: float
    free: float
    is_draining: bool = False


class Autoscaler:
    """The number of replicas between `least` and `most`, by how many requests wait and run for each.

    Args:
        each: how many requests in calls or waiting one replica is for.
    """

    def __init__(self, least: int, most: int, each: int) -> None:
        self.least, self.most, self.each = least, max(least, most), max(1, each)
        self.wanted = least
        self._differs_since: int | None = None
        self._way = 0

    def update(self, requests: int, now: int) -> int:
        """The number that is wanted now, with so many requests waiting or running."""
        right = min(self.most, max(self.least, -(-requests // self.each)))
        way = (right > self.wanted) - (right < self.wanted)
        if way != self._way:
            self._way, self._differs_since = way, now
        if way and self._differs_since is not None and now - self._differs_since >= (UP if way > 0 else DOWN):
            self.wanted, self._way = right, 0
        return self.wanted


def placements(nodes: Sequence[NodeState], occupied: Collection[str], wanted: int, cpus: int) -> list[tuple[str, int]]:
    """Nodes for new replicas, with their CPUs: each on the node with the most free CPUs, first on nodes without one.

    Args:
        occupied: the nodes of the replicas there are, each as often as it has replicas.
        wanted: how many replicas there are to be in all; 0: one on each node that has the CPUs.
        cpus: of a replica; 0: all that are free on the node, divided among its replicas.
    """
    free = {node.id: int(node.free) for node in nodes if not node.is_draining}
    taken = [*occupied]
    found: list[tuple[str, int]] = []
    missing = wanted - len(taken) if wanted else len(free)
    while missing > 0:
        fitting = [node for node, left in free.items() if left >= max(1, cpus)]
        if not wanted:
            fitting = [node for node in fitting if node not in taken]
        if not fitting:
            break
        node = min(fitting, key=lambda one: (taken.count(one), -free[one]))
        share = cpus or (max(1, free[node] // -(-missing // len(fitting))) if wanted else free[node])
        free[node] -= share
        taken.append(node)
        found.append((node, share))
        missing -= 1
    return found
