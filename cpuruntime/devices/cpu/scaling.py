"""How one inference scales with cores: the program planned for each number of threads, and each thread's share timed.

Nothing but this machine's one core is needed: shares run one after the other, and the slowest one is what a step takes.
"""

from __future__ import annotations

import numpy as np

from cpuruntime.devices.cpu.pipeline import optimise
from cpuruntime.devices.cpu.shares import BARRIER_NS, time_shares
from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.host.caches import Caches, caches
from cpuruntime.host.topology import Topology
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.program import Instance
from cpuruntime.program.report.roofs import LARGEST, ReadRoof
from cpuruntime.program.report.work import constant_bytes, tensor_bytes
from cpuruntime.program.whole import assemble
from cpuruntime.records import record

COUNTS = (1, 2, 4, 8, 16, 32, 64, 96)
"""Numbers of cores that are predicted, as far as a machine has them."""

SATURATING = 8
"""Cores that together read as fast as memory delivers: about that many on servers of several channels."""


@record
class Timed:
    """A program whose steps were timed: for each step its shares in ns, its constants and its tensors in bytes."""

    shares: list[list[float]]
    constants: list[int]
    tensors: list[int]
    arena: int


@record
class Row:
    """Nanoseconds of one inference by a stream of `cores` threads, and (`busy`) by one of as many streams of one.

    `uneven`, `barriers` and `memory` are what the former takes beyond an even split of the work.
    """

    cores: int
    latency: float
    busy: float
    uneven: float
    barriers: float
    memory: float


@record
class Scaling:
    """What is predicted for each number of cores, and on what assumptions. `print` it."""

    rows: tuple[Row, ...]
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = []
        lines.append(("cores", "latency ms", "speed-up", "requests/s", "speed-up", "uneven", "barriers", "memory"))
        one = self.rows[0]
        for row in self.rows:
            shares = (f"{part / row.latency:.0%}" for part in (row.uneven, row.barriers, row.memory))
            rate = row.cores * 1e9 / row.busy
            lines.append((
                str(row.cores), f"{row.latency / 1e6:.3f}", f"{one.latency / row.latency:.2f}", f"{rate:.1f}",
                f"{row.cores * one.busy / row.busy:.2f}", *shares,
            ))  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*lines)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines]
        return "\n".join([*table, "assumed:", *(f"- {each}" for each in self.assumptions)])


def scaling_of(graph: Graph, topology: Topology | None) -> Scaling:
    """The scaling of a graph before the passes, on up to the described machine's cores or else on those of COUNTS.

    Compiles kernels, and runs some inferences on inputs of zeros.

    Raises:
        UnsupportedError: the model has open shapes, or steps without a kernel.
    """
    if not all(value.is_static for value in graph.inputs):
        raise UnsupportedError("--scaling needs a model with fixed shapes; give them with -shape.")
    graph = optimise(graph)
    for node in graph.nodes:
        if isinstance(reason := find_lowering(node), str):
            raise UnsupportedError(f"--scaling times kernels, and {node.where} has none: {reason}.")
    cores = max(COUNTS) if topology is None else len({cpu.core for cpu in topology.cpus})
    last = (caches() if topology is None else Caches.of(topology.caches)).last
    bandwidth = ReadRoof().measure(LARGEST, 1, 3) * 1e-9
    weights = WeightStore()
    one = run_timed(graph, weights, 1)
    rows = []
    for count in sorted({*(count for count in COUNTS if count < cores), cores}):
        timed = one if count == 1 else run_timed(graph, weights, count)
        rows.append(predict(timed, one, count, last, bandwidth))
    return Scaling(tuple(rows), _assumptions(last, bandwidth))


def _assumptions(last: int, bandwidth: float) -> tuple[str, ...]:
    return (
        "cores are like one of this machine, one thread each, all as fast as one alone; slower cores and siblings are "
        "not counted",
        "kernels and the split of their work are those planned for each number of threads, tiles chosen by estimates; "
        "a step takes as long as its slowest share, timed alone on this machine with data in its caches",
        f"a barrier takes {BARRIER_NS} ns for each doubling of threads; steps too small to share have none",
        f"constants and values come from memory where all of them outgrow the last cache, {last / 2**20:.0f} MiB: "
        f"{bandwidth:.1f} GB/s for one core, as measured here, {SATURATING} times that for {SATURATING} and more",
        "requests/s are those of a stream of one thread on each core; their values share the last cache",
        "data moves between the caches of cores at no cost, and all cores are of one NUMA node",
    )


def run_timed(graph: Graph, weights: WeightStore, count: int) -> Timed:
    """The program for `count` threads, each share of which is run a few times in the order of the program."""
    planner = Planner(graph, weights, count)
    planner.plan()
    program = assemble(planner)
    instance, memory = Instance(program), []
    for place, values in ((Place.INPUT, graph.inputs), (Place.OUTPUT, graph.outputs)):
        for index, value in enumerate(values):
            memory.append(np.zeros(max(1, value.nbytes), np.uint8))
            instance.bind(place, index, memory[-1].ctypes.data)
    steps, shares = program.steps, time_shares(instance.table, count)
    return Timed(shares, [*map(constant_bytes, steps)], [*map(tensor_bytes, steps)], program.arena_size)


def predict(timed: Timed, one: Timed, count: int, last: int, bandwidth: float) -> Row:
    """The prediction for `count` cores, of the program planned for them and of the one for one thread."""
    pace = bandwidth * min(count, SATURATING)
    slowest = [max(shares) for shares in timed.shares]
    waits = [max(0.0, far / pace - time) for far, time in zip(_far(timed, 1, last), slowest)]
    shared = sum(len(shares) > 1 for shares in timed.shares)
    even = sum(sum(shares) / len(shares) for shares in timed.shares)
    barriers = float(BARRIER_NS * (count - 1).bit_length() * shared)
    far = _far(one, count, last)
    busy = sum(max(shares[0], size * count / pace) for shares, size in zip(one.shares, far))
    uneven, memory = sum(slowest) - even, sum(waits)
    return Row(count, even + uneven + barriers + memory, busy, uneven, barriers, memory)


def _far(timed: Timed, streams: int, last: int) -> list[int]:
    """The bytes of each step that come from memory while so many streams run the program."""
    values = streams * timed.arena
    weights_far, values_far = sum(timed.constants) + values > last, values > last
    return [weights_far * c + values_far * t for c, t in zip(timed.constants, timed.tensors)]
