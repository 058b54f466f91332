"""From an optimised graph to launches of kernels: `lower`, and `reason` for what has no kernel."""

from cpuruntime.devices.gpu.kernels.prelude import prelude
from cpuruntime.devices.gpu.lower.catalogue import reason
from cpuruntime.devices.gpu.lower.emitter import Lowered, Place
from cpuruntime.devices.gpu.lower.program import PIPELINE, lower, lower_alone
from cpuruntime.devices.gpu.lower.tuning import CPU_SHAPED, GPU_SHAPED, Tuning, tuning_for

__all__ = [
    "CPU_SHAPED", "GPU_SHAPED", "PIPELINE", "Lowered", "Place", "Tuning", "lower", "lower_alone", "prelude", "reason",
    "tuning_for",
]  # fmt: skip
