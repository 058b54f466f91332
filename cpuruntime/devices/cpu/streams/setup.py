"""How a model's streams are set up: chosen by rules or by calibration, then placed beside those of other models."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from cpuruntime.devices.cpu.streams.ignored import why_not_calibrated
from cpuruntime.devices.cpu.streams.placement import place, unreserved
from cpuruntime.errors import printable
from cpuruntime.hints import StreamPlan, StreamSizes, plan_streams
from cpuruntime.host.ledger import EMPTY, Lease, Ledger
from cpuruntime.records import record
from cpuruntime.trace.recorder import span

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.compilation import Compilation
    from cpuruntime.devices.cpu.stored import StoredModel


@record
class StreamSetup:
    """The streams of a model on their processors.

    Attributes:
        lease: that of the processors; None when no thread is pinned, or when nothing was leased.
        sizes: what calibration chose; None when the rules did.
        on_end: called when the streams have ended; it releases the lease.
        device: whose streams they are.
    """

    plan: StreamPlan
    lease: Lease | None = None
    sizes: StreamSizes | None = None
    on_end: Callable[[], None] | None = None
    device: str = "CPU"

    def release(self) -> None:
        """Release the lease, if there is one: the streams were not started."""
        if self.lease is not None:
            self.lease.release()


def set_up_streams(
    compilation: Compilation | StoredModel,
    calibrate: Callable[[Compilation], StreamSizes | None] | None,
    ledger: Ledger | None,
    leasing: bool = True,
    device: str = "CPU",
) -> StreamSetup:
    """Choose the streams of a model, place them, and lease their processors.

    If the settings ask for it, `calibrate` is called with the processors that are not reserved; where it is None, or
    returns None, the rules choose. `ledger` has the present leases, None for a machine without any. Without `leasing`
    this is a dry run.

    Raises:
        DeviceUnavailableError: processors are reserved for other models, or cannot be for this one.
        InvalidArgumentError: a reservation is asked for and no thread is pinned.
    """
    settings, topology = compilation.settings, compilation.topology
    sizes = None
    is_asked = settings.value("STREAMS_CALIBRATION_MS") and not why_not_calibrated(settings, compilation.is_static)
    if calibrate and is_asked:
        left, _ = unreserved(topology, ledger.holders() if ledger else ())
        with span("calibrate streams"):
            sizes = calibrate(replace(cast("Compilation", compilation), topology=left, is_shared=True))
    planner = partial(plan_streams, settings, demand=compilation.demand, sizes=sizes)
    with ledger.open() if ledger else nullcontext(EMPTY) as snapshot:
        name = printable(compilation.name) if leasing else None
        plan, lease = place(planner, settings, topology, snapshot, name)
    return StreamSetup(plan, lease, sizes, lease and lease.release, device)
