"""New targets for Reshape nodes when the shapes of a model's inputs change.

Exporters write the shapes they saw into Reshape nodes: a target [1, 2048] does not take a batch of 4. From the old
shapes before and after a Reshape one sees which dimensions it keeps, merges and splits; the new target does the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = Sequence[int]


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
    last_before, last_after = found.pop()  # what is left are ones
    found.append((range(last_before.start, len(before)), range(last_after.start, len(after))))
    return found


def new_target(before: Shape, after: Shape, now: Sequence[int | None]) -> list[int] | None:
    """The target for an input of shape `now`, where one of shape `before` became `after`.

    It may use 0 (the dimension at that place is kept) and one -1, as Reshape knows them. None when there is no target
    that does the same.
    """
    parts = groups(before, after)
    if parts is None or len(now) != len(before) or 0 in now:
        return None
    target: list[int] = []
    for source, result in parts:
        dims = [now[index] for index in source]
        unchanged = all(now[index] == before[index] for index in source)
        if unchanged:
            target += [after[index] for index in result]
        elif len(result) == 1 and None not in dims:
            target.append(math.prod(dim for dim in dims if dim is not None))
        elif len(result) == 1 and len(source) == 1 and source[0] == result[0]:
            target.append(0)
        elif -1 not in target:
            target += _split(dims, [after[index] for index in result])
        else:
            return None
    return target


def _split(dims: Sequence[int | None], after: Sequence[int]) -> list[int]:
    """A run that changed: its first dimension that is not 1 takes what changes."""
    flexible = next((index for index, dim in enumerate(after) if dim != 1), 0)
    return [-1 if index == flexible else dim for index, dim in enumerate(after)]
