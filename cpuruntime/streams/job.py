"""A native program as the runner takes it, and the word that cancels it."""

from __future__ import annotations

import numpy as np

from cpuruntime.errors import CancelledError, InvalidArgumentError
from cpuruntime.ops import runner

COMPLETED, _CANCEL, _TIMING, _TASK, ELAPSED = (
    offset // 8 for offset in (runner.COMPLETED, runner.CANCEL, runner.TIMING, runner.OF_TASK, runner.ELAPSED)
)


class Cancellation:
    """A switch that ends runs at their next step boundary. Any thread may turn it; it stays until cleared."""

    def __init__(self) -> None:
        memory = np.zeros(1, np.int32)
        self.word = memory.data
        self.address: int = memory.ctypes.data

    def set(self) -> None:
        self.word[0] = 1

    def clear(self) -> None:
        self.word[0] = 0

    def is_set(self) -> bool:
        return self.word[0] != 0


class Job:
    """A program, int64[steps, 2] of (kernel address, argument block address), ready to run by a stream.

    An argument block address plus runner.ALONE makes a step one that thread 0 runs alone. The table is copied; the
    argument blocks and all they point to have to outlive the job: `keep` is a reference to their owners. One run at a
    time.
    """

    def __init__(self, program: np.ndarray, keep: object = None):
        if program.dtype != np.int64 or program.ndim != 2 or program.shape[1] != 2 or not len(program):
            raise InvalidArgumentError(
                f"A program is int64[steps, 2] with at least one step; this is {program.dtype}{list(program.shape)}."
            )
        self.program = program.copy()
        self.keep = keep
        self._record = np.zeros(1, runner.JOB)
        self._record["program"], self._record["steps"] = self.program.ctypes.data, len(program)
        self.shared: int = max(np.flatnonzero(~self.program[:, 1] & runner.ALONE).tolist(), default=-1) + 1
        self._record["shared"] = self.shared
        self.fields: memoryview = self._record.view(np.int64).data
        """The record, a runner.JOB, as words."""
        self._clock: np.ndarray | None = None
        self.cancellation: Cancellation | None = None
        """The switch that it listens to."""
        self.address: int = self._record.ctypes.data
        self.steps = len(program)

    def time_steps(self, on: bool = True) -> None:
        """Whether runs from now on measure each step; not while it runs."""
        self._clock = np.zeros(self.steps + 1, np.int64) if on else None
        self.fields[_TIMING] = self._clock.ctypes.data if self._clock is not None else 0

    @property
    def step_times(self) -> np.ndarray | None:
        """Nanoseconds that each step of the last run took on thread 0, its barrier included: int64[steps].

        None when they are not measured; steps that a cancelled run did not reach have 0.
        """
        if self._clock is None:
            return None
        times = np.diff(self._clock)
        times[self.completed :] = 0
        return times

    @property
    def completed(self) -> int:
        """How many steps of the last run were finished; less than `steps` when it was cancelled."""
        return self.fields[COMPLETED]

    def check_completed(self) -> None:
        """CancelledError when the last run was ended early."""
        if self.fields[COMPLETED] < self.steps:
            raise CancelledError(f"The inference was cancelled after {self.completed} of {self.steps} steps.")

    @property
    def elapsed(self) -> int:
        """Nanoseconds the last run took; 0 before the first."""
        return self.fields[ELAPSED]

    def belong_to(self, task: int) -> None:
        """Makes the next run one that ends the task whose runner.TASK is at this address; 0: the interpreter does."""
        self.fields[_TASK] = task

    def listen_to(self, cancellation: Cancellation | None) -> None:
        """Makes the next run listen to this switch only; not while it runs."""
        self.fields[_CANCEL] = cancellation.address if cancellation is not None else 0
        self.cancellation = cancellation
