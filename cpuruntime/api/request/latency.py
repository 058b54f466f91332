"""Where the time of an inference went."""

from __future__ import annotations

from itertools import pairwise

from cpuruntime.records import record


@record
class LatencyAnatomy:
    """The parts of an inference's time, in milliseconds, one after the other.

    Attributes:
        queued: from its start until a stream had time for it.
        bound: from then until its first step began: its memory was bound to the program, the stream's threads woken.
        executed: from the first step to the end of the last one.
        called_back: from then until its callback had returned, or, of `infer`, until the results were handed over;
            0 for one without a callback.
        transferred: on the way to another machine and back, which lies before and after `bound` and `executed`.
    """

    queued: float = 0.0
    bound: float = 0.0
    executed: float = 0.0
    called_back: float = 0.0
    transferred: float = 0.0

    @property
    def total(self) -> float:
        """The whole time."""
        return self.queued + self.bound + self.transferred + self.executed + self.called_back

    @staticmethod
    def of(
        started: int, taken: int, began: int, ended: int, returned: int, transferred: int = 0
    ) -> LatencyAnatomy:
        """From the moments between the parts, in nanoseconds; one that lies before the one before it never came.

        What was `transferred` lies between `taken` and `began`.
        """
        taken = max(started, taken)
        ended = max(taken, ended)
        began = began if taken <= began <= ended else ended
        moments = started, taken, began, ended, max(ended, returned)
        queued, bound, executed, called_back = (after - before for before, after in pairwise(moments))
        transferred = min(transferred, bound)
        return LatencyAnatomy(
            queued / 1e6, (bound - transferred) / 1e6, executed / 1e6, called_back / 1e6, transferred / 1e6
        )
