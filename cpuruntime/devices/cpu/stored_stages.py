"""Stored models in stages: the plans of their parts. The model is read again, and what was not stored is planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.programs import Programs
from cpuruntime.devices.cpu.stored import Stored, StoredModel
from cpuruntime.graph import Graph, settle
from cpuruntime.hints import StreamPlan
from cpuruntime.program.template_file import StoredTemplate
from cpuruntime.store import SectionFile


class StoredStages(Stored):
    """Programs and templates, by the graphs that they are for."""

    is_static = False

    def __init__(
        self, facts: Mapping[str, Any], sections: SectionFile, model: StoredModel, plan: StreamPlan, may_compile: bool
    ) -> None:
        super().__init__(facts, sections, model, plan, may_compile)
        self.templates = {
            key: StoredTemplate(own, f"template {number}", self.parts, sections)
            for number, (key, own) in enumerate(facts["program"]["templates"])
        }

    @staticmethod
    def key(stored: Any) -> Any:
        return stored


def restored(
    graph: Graph, facts: Mapping[str, Any], sections: SectionFile, model: StoredModel, plan: StreamPlan,
    may_compile: bool,
) -> Programs:  # fmt: skip
    """The programs of a model; arguments as those of `Stored`."""
    stored = StoredStages(facts, sections, model, plan, may_compile)
    settle(graph)
    compilation = Compilation.of(graph, model.settings, model.topology)
    programs = Programs(compilation, plan, stored=stored)
    found = len(stored.programs) + len(stored.templates)
    programs.notes.append(
        f"it was read again, since shapes in it depend on data: {found} of its parts were stored with their weights, "
        "others are planned when they first run"
    )
    return programs
