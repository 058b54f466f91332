"""Stored models of dynamic shapes: plans for many shapes as they are read from a file."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpuruntime.devices.cpu.stored import Stored, StoredModel, WholeStage, with_plans
from cpuruntime.devices.interface import Exported
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Graph, settle
from cpuruntime.hints import StreamPlan
from cpuruntime.program.pattern import Pattern
from cpuruntime.program.program import Program
from cpuruntime.program.template_file import StoredTemplate
from cpuruntime.properties import Settings
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.programs import Programs
    from cpuruntime.program.stages.stage import Stages

log = logging.getLogger("cpuruntime")

Shapes = tuple[tuple[int, ...], ...]


class StoredShapes(Stored):
    """The programs of a stored model of dynamic shapes: one that no stored plan holds for has the model compiled.

    `source` reads its graph again, for that; None where nobody can.

    Attributes:
        ran, latest: as those of `Programs`.
    """

    is_static = False

    def __init__(
        self, source: Callable[[], Graph] | None, facts: Mapping[str, Any], sections: SectionFile, model: StoredModel,
        plan: StreamPlan, may_compile: bool,
    ) -> None:  # fmt: skip
        super().__init__(facts, sections, model, plan, may_compile)
        self.notes.append("it was stored: what is said of its steps is for the shapes that they were planned for")
        self._templates = [
            (Pattern.restored(pattern), StoredTemplate(own, f"template {number}", self.parts, sections))
            for number, (pattern, own) in enumerate(facts["program"]["templates"])
        ]
        self._model, self._plan = model, plan
        self._cached: OrderedDict[Shapes, WholeStage] = OrderedDict()
        self._room: int = model.settings.value("PROGRAM_CACHE_MB") << 20
        self._lock = threading.Lock()
        self._compiled: Programs | None = None
        self._source = source
        self.ran: Sequence[Any] = ()
        self.latest: Sequence[Any] | None = None

    def of(self, values: Sequence[Any]) -> Any:
        """The first stage for inputs of the shapes of `values`. Thread-safe.

        Raises:
            InvalidArgumentError: the model does not take them, or no plan holds for them and it cannot be compiled.
            Error: as compiling the model raises.
        """
        shapes = tuple([value.shape for value in values])
        try:  # without the lock, which is held while the model is compiled
            self._cached.move_to_end(shapes)
            return self._cached[shapes]
        except KeyError:
            pass
        with self._lock:
            stage = self._planned(shapes)
            if stage is not None:
                return stage
            if self._compiled is None:
                self._compiled = self._compile(shapes)
        return self._compiled.of(values)

    def exported(self) -> Exported:
        compiled = self._compiled
        if compiled is None or compiled.is_in_stages:
            return super().exported()
        parts, sections, own = with_plans(compiled, self)
        facts = {**self.facts, "packed": self.weights_nbytes(), "program": parts.facts() | own}
        return facts, sections | parts.sections()

    def _planned(self, shapes: Shapes) -> WholeStage | None:
        """The stage by what was stored, which is cached; the lock is held."""
        program = self.programs.get(shapes)
        for pattern, template in self._templates:
            extents = None if program is not None else pattern.match(shapes)
            if extents is not None:
                program = template.at(extents)
        if program is None:
            return None
        stage = self._cached[shapes] = WholeStage(self.checked(program))
        self._room -= program.nbytes
        while self._room < 0 and len(self._cached) > 1:
            self._room += self._cached.popitem(last=False)[1].program.nbytes
        return stage

    def _compile(self, shapes: Shapes) -> Programs:
        from cpuruntime.devices.cpu.compilation import Compilation
        from cpuruntime.devices.cpu.programs import Programs

        name, given = printable(self.name), ", ".join(str(list(shape)) for shape in shapes)
        if self._source is None:
            raise InvalidArgumentError(
                f"Model '{name}' was imported, and has no plan for inputs of shapes {given}; compile it with these "
                "shapes among WARMUP_SHAPES, and export it again."
            )
        log.info("model '%s' is compiled: no plan of it that was stored is for inputs of shapes %s", name, given)
        settings = self._model.settings
        settings = Settings(settings.known, {**settings, "WARMUP_SHAPES": "NONE", "CACHE_DIR": ""})
        compilation = Compilation.of(self._source(), settings, self._model.topology)
        settle(compilation.graph)
        programs = Programs(compilation, self._plan)
        programs.when_planned = self.when_planned
        return programs

    @property
    def stages(self) -> Stages:
        """Those of the compiled model: a stored one has none."""
        assert self._compiled is not None
        return self._compiled.stages

    def shown(self) -> Sequence[Any]:
        """The stages of the latest inference, or what is planned already."""
        compiled = [] if self._compiled is None else self._compiled.stages.cached()
        return self.ran or [*self._cached.copy().values(), *compiled][-1:]

    def cached(self) -> list[Program]:
        """The programs in the cache, the one used last at the end."""
        compiled = [] if self._compiled is None else self._compiled.cached()
        return [*compiled, *(stage.program for stage in self._cached.copy().values())]

    def weights_nbytes(self) -> int:
        """Bytes of the packed weights, also of those that were packed again."""
        return super().weights_nbytes() + (0 if self._compiled is None else self._compiled.weights_nbytes())
