"""The processor of the threads that submit to a GPU, in the ledger."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize, ref

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.host.assignment import ProcessorRequest
from cpuruntime.host.ledger import Lease, Ledger
from cpuruntime.host.topology import Topology

if TYPE_CHECKING:
    from cpuruntime.gpu_runtime.interface import Facts, GpuRuntime


class _Processor:
    """The lease of a processor for the threads that submit to a GPU, while models hold this."""

    def __init__(self, lease: Lease) -> None:
        finalize(self, lease.release)


_lock = threading.Lock()
_processors: WeakKeyDictionary[GpuRuntime, ref[_Processor]] = WeakKeyDictionary()


def host_processors(facts: Facts) -> int:
    """How many processors the threads that submit to a device are to have: none where the driver itself takes them."""
    return int(facts.kind == "gpu" and len(Topology.read().cpus) > 1)


def processor_of(runtime: GpuRuntime, name: str) -> _Processor | None:
    """That of a device, for all its models, if it is to have one: streams of the CPU take other processors first."""
    if not host_processors(runtime.facts):
        return None
    with _lock:
        known = _processors.get(runtime)
        found = known() if known is not None else None
        if found is None:
            lease = _lease(name)
            if lease is None:
                return None
            found = _Processor(lease)
            _processors[runtime] = ref(found)
        return found


def _lease(name: str) -> Lease | None:
    cpus = [cpu.index for cpu in Topology.read().cpus]
    try:
        with Ledger().open() as snapshot:
            return snapshot.lease([ProcessorRequest(tuple(reversed(cpus)), 1)], name)
    except DeviceUnavailableError:  # all are reserved
        return None
