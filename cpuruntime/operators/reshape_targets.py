"""New targets for Reshape nodes when the shapes of a model's inputs change.

Exporters write the shapes they saw into Reshape nodes: a target [1, 2048] does not take a batch of 4. From the old
shapes before and after a Reshape one sees which dimensions it keeps, merges and splits; the new target does the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = Sequence[int]
PartialShape = Sequence[int | None]


def groups(before: Shape, after: Shape) -> list[tuple[range, range]] | None:
    """Runs of dimensions of equal product, as short as possible, in the shapes before and after.

    [1, 6, 4] -> [1, 2, 3, 4] gives (0:1, 0:1), (1:2, 1:3), (2:3, 3:4). None when the sizes differ or are zero.
    """
    if math.prod(before) != math.prod(after) or 0 in before or 0 in after:
        return None
    found: list[tuple[range, range]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        first_i, first_j = i, j
        left, right = before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= before[i]
                i += 1
            else:
                right *= after[j]
                j += 1
        found.append((range(first_i, i), range(first_j, j)))
    if i == len(before) and j == len(after):
        return found
    if not found:
        return None
    last_before, last_after = found.pop()  # the remaining extents are 1
    found.append((range(last_before.start, len(before)), range(last_after.start, len(after))))
    return found


def new_shape(before: Shape, after: Shape, now: PartialShape) -> list[int | None] | None:
    """The shape of the result for an input of shape `now`, where one of shape `before` became `after`.

    None stands for an extent that is not known; the whole is None when the result cannot be formed in the same way.
    """
    parts = groups(before, after)
    if parts is None or len(now) != len(before) or 0 in now:
        return None
    result: list[int | None] = []
    for source, target in parts:
        run = [now[index] for index in source]
        old = [after[index] for index in target]
        found = old if run == [before[index] for index in source] else _resize(run, old)
        if found is None:
            return None
        result += found
    return result


def _resize(run: PartialShape, old: Shape) -> list[int | None] | None:
    """The dimensions `old` for another size of the run: the first that is not 1 takes what changes."""
    flexible = next((index for index, extent in enumerate(old) if extent != 1), 0)
    others = math.prod(extent for index, extent in enumerate(old) if index != flexible)
    size = None if None in run else math.prod(extent for extent in run if extent is not None)
    if size is not None and size % others:
        return None
    extent = None if size is None else size // others
    return [extent if index == flexible else own for index, own in enumerate(old)]


def to_target(before: Shape, after: Shape, shape: PartialShape) -> list[int] | None:
    """The target for a result of `new_shape`; None when no target says it.

    An unknown extent becomes 0 where the input's extent at that place is kept, else -1, of which there can be one.
    """
    same = 0
    for source, target in groups(before, after) or ():
        if len(source) > 1 or len(target) > 1:
            break
        same += 1
    if list(shape[same:]).count(None) > 1:
        return None
    return [(0 if index < same else -1) if extent is None else extent for index, extent in enumerate(shape)]
