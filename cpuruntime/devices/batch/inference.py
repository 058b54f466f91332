"""One inference of a request: it waits for a group, runs in it, perhaps once more alone, and is over."""

from __future__ import annotations

from collections.abc import Sequence
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


def neighbours(inferences: Sequence[Inference], size: int) -> list[Inference]:
    """The first of the inferences whose memory is the piece of a batch of `size`; empty where there are none."""
    pieces: dict[tuple[int, int], list[Inference]] = {}
    for one in inferences:
        if one.request.is_own:
            piece = pieces.setdefault((id(one.request.slab), one.request.slot // size), [])
            piece.append(one)
            if len(piece) == size:
                return piece
    return []
