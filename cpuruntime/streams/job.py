"""A native program as the runner takes it, and what ends it early."""

from __future__ import annotations

import numpy as np

from cpuruntime.errors import CancelledError, DeadlineExceededError, Error, InvalidArgumentError
from cpuruntime.streams.native import runner

COMPLETED, _CONTROL, _TIMING, _TIMED, _TASK, ELAPSED, _SHARED = (
    runner.JOB.fields[name][1] // 8
    for name in ("completed", "control", "timing", "timed", "task", "elapsed", "shared")
)
_DEADLINE, _BEGAN, _ENDED = (offset // 8 for offset in (runner.DEADLINE, runner.BEGAN, runner.ENDED))


class Control:
    """What ends a run at its next step boundary, and when the latest run was.

    Any thread may cancel; it stays so until cleared. Times are nanoseconds on the clock of time.perf_counter_ns.
    """

    def __init__(self) -> None:
        memory = np.zeros(1, runner.CONTROL)
        self.switch = memory.view(np.int32).data
        self._words = memory.view(np.int64).data
        self.address: int = memory.ctypes.data

    def cancel(self) -> None:
        self.switch[0] = 1

    def clear(self) -> None:
        self.switch[0] = 0

    @property
    def is_cancelled(self) -> bool:
        return self.switch[0] != 0

    @property
    def deadline(self) -> int:
        """When the run has to be over, 0 for no deadline."""
        return self._words[_DEADLINE]

    @deadline.setter
    def deadline(self, moment: int) -> None:
        self._words[_DEADLINE] = moment

    @property
    def began(self) -> int:
        """When the latest run began, or the work that it was part of."""
        return self._words[_BEGAN]

    @began.setter
    def began(self, moment: int) -> None:
        self._words[_BEGAN] = moment

    @property
    def ended(self) -> int:
        """When the latest run was over, or the work that it was part of."""
        return self._words[_ENDED]

    @ended.setter
    def ended(self, moment: int) -> None:
        self._words[_ENDED] = moment

    def check(self, now: int) -> None:
        """The error of work that has not begun and is not to any more."""
        if self.is_cancelled:
            raise CancelledError("The inference was cancelled before it began.")
        if 0 < self.deadline <= now:
            raise DeadlineExceededError("The inference's deadline passed before it began.")

    def error(self, completed: int, steps: int) -> Error:
        """The error of a run that ended early."""
        if 0 < self.deadline <= self.ended and not self.is_cancelled:
            when = f"after {completed} of {steps} steps" if completed else "before it began"
            return DeadlineExceededError(f"The inference's deadline passed {when}.")
        return CancelledError(f"The inference was cancelled after {completed} of {steps} steps.")


class Job:
    """A program, int64[steps, 2] of (kernel address, argument block address), ready to run by a stream.

    An argument block address plus runner.ALONE makes a step one that thread 0 runs alone. A contiguous table is not
    copied; the argument blocks and all they point to have to outlive the job: `keep` is a reference to their owners.
    One run at a time.
    """

    TASK, ELAPSED, SHARED = _TASK, ELAPSED, _SHARED

    def __init__(self, program: np.ndarray, keep: object = None):
        if program.dtype != np.int64 or program.ndim != 2 or program.shape[1] != 2 or not len(program):
            raise InvalidArgumentError(
                f"A program is int64[steps, 2] with at least one step; this is {program.dtype}{list(program.shape)}."
            )
        self.program = np.ascontiguousarray(program)
        self.keep = keep
        self._record = np.zeros(1, runner.JOB)
        self._record["program"], self._record["steps"] = self.program.ctypes.data, len(program)
        self.fields: memoryview = self._record.view(np.int64).data
        """The record, a runner.JOB, as words. At TASK the address of the task that the next run completes, or 0."""
        self.change(max(np.flatnonzero(~self.program[:, 1] & runner.ALONE).tolist(), default=-1) + 1, 0)
        self._clock: np.ndarray | None = None
        self.control: Control | None = None
        """What it listens to."""
        self.address: int = self._record.ctypes.data
        self.steps = len(program)

    @property
    def shared(self) -> int:
        """The number of steps up to the last one that thread 0 does not run alone."""
        return self.fields[_SHARED]

    def change(self, shared: int, nanoseconds: int) -> None:
        """The table is another now, with so many steps up to the last shared one, and takes about so long."""
        self.fields[_SHARED], self.fields[ELAPSED] = shared, nanoseconds

    def time_steps(self, threads: int = 1) -> None:
        """Runs from now on measure each step, and the shares of so many threads; of 0 none. Not while it runs."""
        self._clock = np.zeros(self.steps + 1 + threads * self.steps, np.int64) if threads else None
        self.fields[_TIMING] = self._clock.ctypes.data if self._clock is not None else 0
        self.fields[_TIMED] = threads

    @property
    def step_times(self) -> np.ndarray | None:
        """Nanoseconds that each step of the last run took on thread 0, its barrier included: int64[steps].

        None when they are not measured; steps that a cancelled run did not reach have 0.
        """
        if self._clock is None:
            return None
        times = np.diff(self._clock[: self.steps + 1])
        times[self.completed :] = 0
        return times

    def clock(self) -> np.ndarray:
        """What the last run noted, whose steps are timed: as it began and after each step, int64[steps + 1], and for
        each thread after its shares, int64[steps]. A thread's are older than the step where it had none.
        """
        assert self._clock is not None
        return self._clock.copy()

    @property
    def completed(self) -> int:
        """How many steps of the last run were finished; less than `steps` when it was cancelled."""
        return self.fields[COMPLETED]

    def check_completed(self) -> None:
        """CancelledError or DeadlineExceededError when the last run was ended early."""
        completed = self.fields[COMPLETED]
        if completed < self.steps:
            raise (self.control or Control()).error(completed, self.steps)

    @property
    def elapsed(self) -> int:
        """Nanoseconds the last run took that was not ended early, or may take after a change; 0 before the first."""
        return self.fields[ELAPSED]

    def listen_to(self, control: Control | None) -> None:
        """Makes the next run listen to `control` only; not while it runs."""
        self.fields[_CONTROL] = control.address if control is not None else 0
        self.control = control
