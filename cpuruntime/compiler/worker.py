"""A compile worker: a process that compiles kernels by their recipes for the process that started it.

It reads a line of JSON for each kernel, [recipe, symbol], and answers by a line of JSON, [bytes of code, error], and
the code. It ends with the pipe or with the process at the other end.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

_DIE_WITH_PARENT = 1


def main() -> None:
    """Serve the process at the other end of standard input and output."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Compile what is asked for until there is nothing more."""
    from cpuruntime.compiler.build import warm_up

    warm_up()
    for line in requests:
        code, error = b"", ""
        try:
            code = _compiled(*json.loads(line))
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        answers.write(json.dumps([len(code), error]).encode() + b"\n" + code)
        answers.flush()


def _compiled(recipe: str, symbol: str) -> bytes:
    from cpuruntime.compiler.recipes import follow

    kernel = follow(recipe)
    if kernel.symbol != symbol:
        raise RuntimeError("its sources, or the instruction set, are others than in the process that needs it")
    return kernel.code()
