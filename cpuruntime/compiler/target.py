"""The ISA level that a pack of kernels is built for: code for it is compiled and never run in this process."""

from __future__ import annotations

level: str | None = None
"""Set before `isa` is imported, as a name of `cpuruntime kernels build --level`; None: code is for this processor."""

found: dict[str, tuple[str, bytes]] = {}
"""Name and code of the kernels that were asked for, by symbol, where there is a level."""
