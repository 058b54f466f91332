"""The work of a step, its bytes, and the least time that they take on the machine."""

from __future__ import annotations

from math import prod

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import typical
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.storage import Address, Place, Storage


def winograd_flops(step: Step) -> int:
    """Floating-point operations of a step by Winograd's method; those of its transforms are not counted."""
    a = step.arguments
    columns = a["product_phase"].tile[1]
    rows = -(-a["batch"] * a["tiles_x"] * a["tiles_y"] // a["group"]) * a["group"]
    outputs = -(-a["out_blocks"] // columns) * columns * LANES
    return 2 * a["parts"] * a["products"] * rows * a["in_blocks"] * LANES * outputs


def is_conversion(step: Step) -> bool:
    """Whether the step brings an input of its node into another layout."""
    return "->" in step.layout and not step.flops


def conversion_bytes(step: Step) -> int:
    """Bytes that a conversion reads and writes; halos and lanes without a channel are not counted."""
    return 2 * 4 * prod(step.arguments[name] for name in ("batch", "channels", "height", "width"))


def constant_bytes(step: Step) -> int:
    """Bytes of the constants a step reads, as they are packed."""
    return int(typical(sum(storage.size for storage in _storages(step) if storage.place is Place.FIXED)))


def tensor_bytes(step: Step) -> int:
    """Bytes of the tensors that a step reads and writes, each counted once: at most what its node does in all.

    Not counted for steps that clear a halo, which touch little of their tensor.
    """
    if step.layout == "halo":
        return 0
    memory = sum(storage.size for storage in _storages(step) if storage.place is not Place.FIXED)
    values = {value for value in (*step.node.inputs, *step.node.outputs) if value is not None}
    named = sum(value.nbytes for value in values if value.constant is None and value.is_static)
    return int(typical(min(memory, conversion_bytes(step) if is_conversion(step) else named)))


def _storages(step: Step) -> set[Storage]:
    return {argument.storage for argument in step.arguments.values() if isinstance(argument, Address)}


def least_flops(step: Step) -> int:
    """Floating-point operations of a step by its method, at least."""
    return typical(min(step.flops, winograd_flops(step)) if step.kernel.family == "winograd" else step.flops)
