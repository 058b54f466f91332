"""One inference of a request: it waits for a group, runs in it, perhaps once more alone, and is over."""

from __future__ import annotations

from time import perf_counter_ns

from cpuruntime.devices.composed import members
from cpuruntime.devices.interface import Terms


class Inference(members.Inference):
    """One inference.

    Attributes:
        arrived: on the clock of perf_counter_ns.
        alone: it is to run in no group, since one failed.
    """

    def __init__(self, request: members.Lender, terms: Terms) -> None:
        super().__init__(request, terms)
        self.arrived = perf_counter_ns()
        self.alone = False
