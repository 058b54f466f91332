"""The dry run of a compilation: the streams it would make, from what is known without compiling and measuring."""

from __future__ import annotations

from dataclasses import replace

from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.streams.calibration import recall
from cpuruntime.devices.cpu.streams.ignored import tries_other_streams, why_not_calibrated
from cpuruntime.devices.cpu.streams.setup import set_up_streams
from cpuruntime.hints import StreamPlan, alternatives
from cpuruntime.host.ledger import Ledger


def dry_run(compilation: Compilation, ledger: Ledger | None) -> StreamPlan:
    """The plan, with a sentence for each setting whose effect is only known after measuring.

    With this machine's `ledger` its calibrations are used, too; None stands for another machine, without leases.

    Raises:
        DeviceUnavailableError: processors are reserved for other models, or cannot be for this one.
    """
    settings, is_static = compilation.settings, compilation.is_static
    setup = set_up_streams(compilation, recall if ledger else None, ledger, leasing=False)
    target, budget = settings.value("LATENCY_TARGET_MS"), settings.value("STREAMS_CALIBRATION_MS")
    unknown = []
    is_calibrated = budget and setup.sizes is None and not why_not_calibrated(settings, is_static)
    if is_calibrated and (ledger or len(alternatives(settings, compilation.topology, compilation.demand)) > 1):
        unknown.append(f"STREAMS_CALIBRATION_MS is {budget}: compiling measures other streams, too, and takes the best")
    if tries_other_streams(settings, is_static):
        unknown.append(
            f"LATENCY_TARGET_MS is {target:g}: compiling measures streams of other sizes on these processors, too, and "
            "the load decides which are used"
        )
    return replace(setup.plan, reasons=(*setup.plan.reasons, *unknown))
