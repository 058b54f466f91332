"""Which register tiles exist: the shapes that keep every accumulator in a register, per register count.

Found by compiling every shape and counting stack accesses in the machine code; a test holds them at zero spills.
"""

from __future__ import annotations

from .isa import current

# rows x columns; with 32 registers 14x2 and 7x4 spill, with 16 the weights and the broadcast leave 12.
_BY_REGISTERS = {
    32: ((12, 2), (10, 2), (8, 3), (7, 3), (9, 2), (8, 2), (7, 2), (6, 4), (5, 4), (6, 3), (6, 2)),
    16: ((6, 2), (5, 2), (4, 3), (4, 2), (3, 3)),
}


def tile_shapes() -> tuple[tuple[int, int], ...]:
    """(rows, columns) of the full-size tiles for the instruction set in use."""
    return _BY_REGISTERS[current().registers]
