"""How weights are to lie in memory: what properties ask for."""

from __future__ import annotations

from cpuruntime.compiler.isa import bf16_products
from cpuruntime.devices.cpu.precision import inference_precision, is_accurate
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Type
from cpuruntime.passes import WeightStorage
from cpuruntime.program.plan.compressed_weights import LARGEST_GROUP, SMALLEST_GROUP
from cpuruntime.properties import Settings

GROUPS = {"u8": 64, "u4": 32}
"""Weights that share a scale where nothing is said."""
SMALL_ROUNDED = 8 * 1024
"""Elements from which on weights are rounded to bf16 for instructions that multiply it; arbitrary."""


def weight_storage(settings: Settings) -> WeightStorage:
    """What WEIGHTS_PRECISION, INFERENCE_PRECISION_HINT and DYNAMIC_QUANTIZATION_GROUP_SIZE ask for.

    Raises InvalidArgumentError for groups that there are no kernels for.
    """
    name = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
    given = settings.value(name) if name in settings else None
    if given and given % SMALLEST_GROUP:
        rule = f"groups are multiples of {SMALLEST_GROUP}, or 0"
        raise InvalidArgumentError(f"{name} is {given}; {rule}.")
    kind = {Type.i8: "u8", Type.u4: "u4"}.get(settings.value("WEIGHTS_PRECISION"), "")
    if not kind and (hint := inference_precision(settings)) is not Type.f32:
        kind = hint.get_type_name()
    group = min(given, LARGEST_GROUP) if given else GROUPS.get(kind, WeightStorage().group)
    smallest = SMALL_ROUNDED if kind == "bf16" and bf16_products() else WeightStorage().smallest
    return WeightStorage(kind, group, given != 0 and not is_accurate(settings), smallest=smallest)
