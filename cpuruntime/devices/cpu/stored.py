"""Models that were stored: what is stored of a CPU model, and its programs as they are read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpuruntime.compiler import build, isa, pool
from cpuruntime.compiler.sources import package_digest
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.devices.cpu.workforce import workforce
from cpuruntime.devices.interface import Exported
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.graph import Kind, PartialShape, Type
from cpuruntime.hints import StreamPlan
from cpuruntime.host.memory import check_fits
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand, NodeDemand
from cpuruntime.program import file
from cpuruntime.program.program import Program
from cpuruntime.properties import Settings
from cpuruntime.store import SectionFile
from cpuruntime.streams.native.needed import KERNELS

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.programs import Programs


@dataclass(frozen=True)
class StoredModel:
    """What of a stored model its streams depend on; the counterpart of a `Compilation`.

    Attributes:
        threads: those of a stream for which the program has room.
    """

    name: str
    settings: Settings
    topology: Topology
    demand: Demand
    threads: int
    is_static = True

    @classmethod
    def of(cls, facts: Mapping[str, Any], settings: Settings, topology: Topology) -> StoredModel:
        """The model of `exported` facts, on the processors of `topology`.

        Raises ValueError where it was made by other sources, or for another instruction set.
        """
        if facts["environment"] != build.environment().hex():
            raise ValueError(f"it was made for {facts['isa']}; this process compiles for {isa.current().name}")
        if facts["sources"] != package_digest():
            raise ValueError("it was made by other sources of cpuruntime")
        nodes, unknown = facts["demand"]
        demand = Demand(tuple(NodeDemand(*row) for row in nodes), unknown)
        return cls(facts["name"], settings, topology, demand, facts["threads"])


def exported(programs: Programs | StoredPrograms, demand: Demand, threads: int) -> Exported:
    """The facts and sections of a model whose streams have `threads` threads.

    Raises UnsupportedError where it is not one program, all of it on kernels.
    """
    if isinstance(programs, StoredPrograms):
        return programs.exported
    name = printable(programs.name)
    if not programs.is_static:
        raise UnsupportedError(f"Model '{name}' cannot be stored: shapes in it depend on its inputs.")
    program = programs.cached()[0]
    own, sections = file.stored(program)
    facts = {
        "sources": package_digest(),
        "environment": build.environment().hex(),
        "isa": isa.current().name,
        "name": programs.name,
        "inputs": list(map(_port, programs.inputs)),
        "outputs": list(map(_port, programs.outputs)),
        "demand": [[[*vars(node).values()] for node in demand.nodes], demand.unknown],
        "notes": programs.notes,
        "threads": threads,
        "packed": programs.weights_nbytes(),
        "streams": {kernel.name: kernel.symbol for kernel in KERNELS},
        "program": own,
    }
    return facts, sections


def _port(info: PortInfo) -> list[str]:
    return [info.name, info.element_type.get_type_name(), str(info.partial_shape), info.kind.name]


def _info(row: Sequence[str]) -> PortInfo:
    name, element_type, shape, kind = row
    return PortInfo(name, Type(element_type), PartialShape(shape), Kind[kind])


@dataclass(frozen=True)
class _Stage:
    """The only stage."""

    program: Program
    known: tuple[int, ...] = ()

    @property
    def whole(self) -> Program:
        return self.program


class StoredPrograms:
    """The program of a stored model, whose kernels are loaded; has what models and requests need of `Programs`.

    The sections of `file` that are not weights must have been checked. Kernels that are missing are compiled if that
    `may_compile`.

    Raises:
        ValueError: the file does not fit together, or a kernel is not compiled and cannot or may not be.
    """

    is_static, is_open = True, False

    def __init__(
        self, facts: Mapping[str, Any], sections: SectionFile, model: StoredModel, plan: StreamPlan, may_compile: bool
    ) -> None:
        self.name = model.name
        self.inputs, self.outputs = list(map(_info, facts["inputs"])), list(map(_info, facts["outputs"]))
        self.profiled: bool = model.settings.times_steps
        self.notes: list[str] = list(facts["notes"])
        self._packed: int = facts["packed"]
        self.exported: Exported = dict(facts), {name: [sections[name]] for name in file.SECTIONS}
        for kernel in KERNELS:
            build.set_symbol(kernel, facts["streams"][kernel.name])
        missing = [*file.missing_kernels(facts["program"]), *(kernel for kernel in KERNELS if not pool.load(kernel))]
        if missing and not may_compile:
            raise ValueError(f"kernel {missing[0].name} is not compiled; others can compute until it is")
        if missing:
            with CompileProgress() as progress:
                pool.compile_all(missing, workforce(model.topology), progress)
        program = file.load(facts["program"], sections)
        check_fits(program.arena_size * max(1, len(plan.streams)), f"the streams of model '{printable(self.name)}'")
        self._stage = _Stage(program)

    def of(self, values: Sequence[Any]) -> _Stage:
        """The only stage."""
        return self._stage

    def shown(self) -> list[_Stage]:
        """The only stage."""
        return [self._stage]

    def cached(self) -> list[Program]:
        """The program."""
        return [self._stage.program]

    def weights_nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self._packed
