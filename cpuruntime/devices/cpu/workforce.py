"""The compile workers of a model: on the processors that the process may use, as many as memory suffices for."""

from __future__ import annotations

from cpuruntime.compiler.pool import Workforce
from cpuruntime.host.affinity import allowed_cpus
from cpuruntime.host.memory import available_memory
from cpuruntime.host.topology import Topology


def workforce(topology: Topology) -> Workforce:
    """The workers on a machine like `topology`."""
    return Workforce(topology.usable, allowed_cpus(), available_memory)
