"""What a process wrote to its error output, without how far it is with compiling kernels, which a cold cache takes."""

from __future__ import annotations


def complaints(errors: str) -> str:
    """All lines but those of progress."""
    return "".join(line for line in errors.splitlines(True) if not line.startswith("cpuruntime: compiling kernels"))
