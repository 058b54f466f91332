"""Windows that slide over an image: which of their rows and columns lie inside it."""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline


@inline
def taps_before(edge, begin, dilation, taps):
    """How many of `taps` positions begin, begin + dilation, ... lie before `edge`."""
    if begin >= edge:
        return 0
    return min(taps, (edge - begin + dilation - 1) // dilation)
