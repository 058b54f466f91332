"""What is measured: latency with a given number of threads, or throughput with all cores."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """`threads` is the number of threads of a latency mode, 0 for throughput.

    Latency is that of a synchronous call, or in an asynchronous mode that of a start and a wait.
    """

    name: str
    threads: int
    asynchronous: bool = False

    @property
    def is_latency(self) -> bool:
        return self.threads > 0

    @property
    def unit(self) -> str:
        return "ms" if self.is_latency else "FPS"

    @staticmethod
    def parse(text: str) -> Mode:
        """`latencyN`, `asyncN` or `throughput`. Raises ValueError for anything else."""
        if text == "throughput":
            return Mode(text, 0)
        match = re.fullmatch(r"(latency|async)([1-9]\d*)", text)
        if match is None:
            raise ValueError(
                f"'{text}' is no mode; give throughput, latencyN or asyncN for N threads such as latency1"
            )
        return Mode(text, int(match[2]), match[1] == "async")
