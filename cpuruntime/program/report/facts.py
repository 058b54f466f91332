"""Facts about a step: all that reports need of one, as data that can be stored."""

from __future__ import annotations

from cpuruntime.graph import typical
from cpuruntime.program.assembly import is_small
from cpuruntime.program.plan.candidate import Comparison
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.report.work import constant_bytes, least_flops, tensor_bytes
from cpuruntime.records import record


@record
class StepFacts:
    """A step as reports show it.

    Attributes:
        kernel: its name; empty where the reference evaluator runs the node, for a `reason`.
        least_flops: those that its method needs at least; `flops` are the node's.
        constants, tensors: bytes of packed constants and of tensors that it reads and writes.
        is_small: whether one thread runs it alone.
        precision: the element type that it multiplies or reads first.
    """

    name: str
    op_type: str
    origins: tuple[str, ...]
    kernel: str = ""
    layout: str = "plain"
    notes: str = ""
    comparisons: tuple[Comparison, ...] = ()
    flops: int = 0
    least_flops: int = 0
    constants: int = 0
    tensors: int = 0
    is_small: bool = False
    reason: str = ""
    precision: str = ""


def facts_of(step: Step | FallbackStep | StepFacts) -> StepFacts:
    """The facts about a planned step, at the sizes at hand; those of a stored program are facts already."""
    if isinstance(step, StepFacts):
        return step
    node = step.node
    if isinstance(step, FallbackStep):
        return StepFacts(node.name, node.op_type, tuple(node.origins), reason=step.reason)
    return StepFacts(
        node.name, node.op_type, tuple(node.origins), step.kernel.name, step.layout, step.notes, step.comparisons,
        typical(step.flops), least_flops(step), constant_bytes(step), tensor_bytes(step), is_small(step),
        precision=_precision(step),
    )  # fmt: skip


def _precision(step: Step) -> str:
    if any(kernel.family.startswith("bf16_") for kernel in step.kernels):
        return "bf16"
    read = (value for value in (*step.node.inputs, *step.node.outputs) if value is not None)
    return next((value.element_type.get_type_name() for value in read), "")
