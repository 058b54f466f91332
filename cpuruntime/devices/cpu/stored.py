"""Models that were stored: what is stored of a CPU model, and its programs as they are read from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cpuruntime.compiler import build, isa
from cpuruntime.compiler.sources import package_digest
from cpuruntime.devices.interface import NEEDS_SOURCE, Exported
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.graph import Kind, PartialShape, Type
from cpuruntime.hints import StreamPlan
from cpuruntime.host.memory import check_fits
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand, NodeDemand
from cpuruntime.program import file, native
from cpuruntime.program.common_sections import RECIPES, WEIGHTS, Parts, Pool, Sections
from cpuruntime.program.program import Program
from cpuruntime.properties import Settings
from cpuruntime.properties.declaration import Group
from cpuruntime.records import record
from cpuruntime.store import SectionFile
from cpuruntime.streams.native.needed import KERNELS

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.programs import Programs, StoredParts
    from cpuruntime.program.template import Template

BY_DATA = "shapes in it depend on data."

NEEDED = (*KERNELS, native.evaluate, native.fill)
"""Kernels that run others, and those of plans for many shapes."""


@record
class StoredModel:
    """What of a stored model its streams depend on; the counterpart of a `Compilation`.

    Attributes:
        threads: those of a stream for which the programs have room.
    """

    name: str
    settings: Settings
    topology: Topology
    demand: Demand
    threads: int
    is_static: bool

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
        return cls(facts["name"], settings, topology, demand, facts["threads"], facts["is_static"])


def stream_settings(settings: Settings) -> dict[str, str]:
    """The text of each setting that decides about streams."""
    known = settings.known
    names = [name for name in settings if known[name].group is Group.STREAMS or name.startswith("PERFORMANCE_HINT")]
    return {name: known[name].values.text(settings[name]) for name in names}


def with_stream_settings(settings: Settings, facts: Mapping[str, Any]) -> Settings:
    """The settings with those about streams that a model was exported with, unless they have such themselves."""
    if stream_settings(settings):
        return settings
    its = {name: settings.known[name].parse(text) for name, text in facts["settings"].items()}
    return Settings(settings.known, {**settings, **its})


def exported(programs: Programs | Stored, demand: Demand, threads: int) -> Exported:
    """The facts and sections of a model whose streams have `threads` threads.

    Raises UnsupportedError where it is not of programs alone, all of them on kernels.
    """
    if isinstance(programs, Stored):
        return programs.exported()
    needed = {}
    try:
        parts, sections, own = with_plans(programs, programs.stored)
    except UnsupportedError as error:
        raise UnsupportedError(f"Model '{printable(programs.name)}' cannot be stored: {error}") from None
    if programs.is_in_stages:
        needed = {NEEDS_SOURCE: f"Model '{printable(programs.name)}' cannot be exported: {BY_DATA}"}
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
        "is_static": programs.is_static,
        "packed": programs.weights_nbytes(),
        "streams": {kernel.name: kernel.symbol for kernel in NEEDED},
        "program": parts.facts() | own,
        **needed,
    }
    return facts, sections | parts.sections()


def with_plans(programs: Programs, stored: StoredParts | None) -> tuple[Pool, Sections, dict[str, list[Any]]]:
    """What is stored of a model's programs and templates, behind those that were `stored` before.

    Raises UnsupportedError where the reference evaluator runs a node of them, and nothing of them is left.
    """
    parts = Pool(programs.recipes(), stored and stored.parts)
    sections, own = ({}, {"programs": [], "templates": []}) if stored is None else stored.plans()

    def add_program(key: Any, program: Program) -> None:
        number = len(own["programs"])
        own["programs"].append((key, file.add(program, f"program {number}", parts, sections)))

    def add_template(key: Any, template: Template, extents: Sequence[int]) -> None:
        from cpuruntime.program import template_file  # not above: models of static shapes do without

        number = len(own["templates"])
        own["templates"].append((key, template_file.add(template, extents, f"template {number}", parts, sections)))

    if not programs.is_in_stages:
        for shapes, program in programs.planned():
            add_program(shapes, program)
        for pattern, template in programs.templates():
            add_template(pattern.facts(), template, pattern.extents)
        return parts, sections, own
    for key, (made, extents) in [*programs.made.items()]:  # a copy: others may be planned meanwhile
        with suppress(UnsupportedError):
            if isinstance(made, Program):
                add_program(key, made)
            else:
                add_template(key, made, extents)
    if not any(own.values()):
        raise UnsupportedError(BY_DATA)
    return parts, sections, own


def _port(info: PortInfo) -> list[str]:
    return [info.name, info.element_type.get_type_name(), str(info.partial_shape), info.kind.name]


def _info(row: Sequence[str]) -> PortInfo:
    name, element_type, shape, kind = row
    return PortInfo(name, Type(element_type), PartialShape(shape), Kind[kind])


@record
class WholeStage:
    """A stage that is one program."""

    program: Program
    known: tuple[int, ...] = ()

    @property
    def whole(self) -> Program:
        """The program."""
        return self.program


class Stored:
    """The programs of a stored model, whose kernels are loaded; has what models and requests need of `Programs`.

    The sections of `sections` that are not weights must have been checked. Kernels that are missing are compiled if
    that `may_compile`. `programs` are those for certain shapes of inputs, `parts` what templates are made from,
    `facts` those of the file; `when_planned` is called when `exported` gives more than before.

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
        self._arenas = max(1, len(plan.streams))
        self.parts = Parts(facts["program"], sections, model.topology.usable)
        self._load_kernels(facts, model, may_compile)
        self.programs = {
            self.key(shapes): self.checked(file.load(own, f"program {number}", self.parts, sections))
            for number, (shapes, own) in enumerate(facts["program"]["programs"])
        }
        self.facts, self._sections = dict(facts), sections
        self.when_planned: Callable[[], None] | None = None

    def exported(self) -> Exported:
        """The facts and sections of the model."""
        own = {name: [self._sections[name]] for name in [*_sections(self.facts["program"]), RECIPES]}
        return self.facts, own | {WEIGHTS: self.parts.section()}

    def plans(self) -> tuple[Sections, dict[str, list[Any]]]:
        """The sections of programs and templates, and the facts about them, in new lists."""
        program = self.facts["program"]
        sections: Sections = {name: [self._sections[name]] for name in _sections(program)}
        return sections, {key: [*program[key]] for key in ("programs", "templates")}

    def _load_kernels(self, facts: Mapping[str, Any], model: StoredModel, may_compile: bool) -> None:
        needed = KERNELS if self.is_static else NEEDED
        for kernel in needed:
            build.set_symbol(kernel, facts["streams"][kernel.name])
        missing = file.missing_kernels(facts["program"]["kernels"])
        missing += [kernel for kernel in needed if build.find(kernel.symbol) is None]
        if missing and not may_compile:
            raise ValueError(f"kernel {missing[0].name} is not compiled; others can compute until it is")
        if missing:
            from cpuruntime.compiler.pool import compile_all  # not above: few processes need them
            from cpuruntime.devices.cpu.progress import CompileProgress
            from cpuruntime.devices.cpu.workforce import workforce

            with CompileProgress() as progress:
                compile_all(missing, workforce(model.topology), progress)

    @staticmethod
    def key(stored: Any) -> Any:
        """What a program is for, by what JSON makes of it."""
        return tuple(map(tuple, stored))

    def checked(self, program: Program) -> Program:
        """The program; OutOfMemoryError when the machine has no memory for it."""
        check_fits(program.arena_size * self._arenas, f"the streams of model '{printable(self.name)}'")
        return program

    def weights_nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self._packed


def _sections(program: Mapping[str, Any]) -> list[str]:
    kinds = {"programs": ("program", "words", "relocations", "steps"), "templates": ("template", "numbers", "steps")}
    return [
        f"{kind} {number} {name}"
        for key, (kind, *names) in kinds.items()
        for number in range(len(program[key]))
        for name in names
    ]


class StoredPrograms(Stored):
    """The program of a stored model of static shapes."""

    def __init__(
        self, facts: Mapping[str, Any], sections: SectionFile, model: StoredModel, plan: StreamPlan, may_compile: bool
    ) -> None:
        super().__init__(facts, sections, model, plan, may_compile)
        (program,) = self.programs.values()
        self._stage = WholeStage(program)

    def of(self, values: Sequence[Any]) -> WholeStage:
        """The only stage."""
        return self._stage

    def shown(self) -> list[WholeStage]:
        """The only stage."""
        return [self._stage]

    def cached(self) -> list[Program]:
        """The program."""
        return [self._stage.program]
