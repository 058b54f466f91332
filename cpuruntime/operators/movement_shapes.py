"""Shapes of results that have the elements of an input in other places: rules as `shape_rules` takes them."""

from __future__ import annotations

from math import prod

from cpuruntime.graph import Extent, Node, Size
from cpuruntime.operators.rule_inputs import Known, Shape, axes_of, axis_of, check, numbers_of, shape_of, text_of

# A bound of a Slice at least as far off as this one stands for the end of the axis.
_FAR = 2**31 - 1


def transpose(node: Node, known: Known) -> list[Shape] | None:
    shape = shape_of(node)
    perm = node.attributes.get("perm") or range(len(shape))[::-1]
    return [tuple(shape[axis] for axis in perm)] if sorted(perm) == list(range(len(shape))) else None


def reshape(node: Node, known: Known) -> list[Shape] | None:
    shape, target = shape_of(node), numbers_of(known, 1)
    if target is None or None in target:
        return None
    if not node.attributes.get("allowzero", 0):
        check(node, len(shape) >= len(target) or 0 not in target[len(shape) :], f"target {target}: no axis to copy")
        target = [shape[index] if extent == 0 else extent for index, extent in enumerate(target)]
    open_axes = [index for index, extent in enumerate(target) if extent == -1]
    if len(open_axes) == 1:
        rest = prod(extent for extent in target if extent != -1)
        if rest == 0:
            return None
        size = prod(shape)
        check(node, size % rest == 0, f"{size} elements cannot take the shape {text_of(target)}")
        target[open_axes[0]] = size // rest
    fits = prod(target) == prod(shape)
    check(node, fits, f"{text_of(shape)} cannot take the shape {text_of(target)}: the sizes differ")
    return [tuple(target)]


def flatten(node: Node, known: Known) -> list[Shape]:
    shape = shape_of(node)
    axis = int(node.attributes.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    return [(prod(shape[:axis]), prod(shape[axis:]))]


def squeeze(node: Node, known: Known) -> list[Shape] | None:
    shape = shape_of(node)
    axes = axes_of(node, known, len(shape))
    if axes is None:
        return None
    axes = axes or [axis for axis, extent in enumerate(shape) if extent == 1]
    for axis in axes:
        check(node, shape[axis] == 1, f"axis {axis} of {text_of(shape)} is not 1")
    return [tuple(extent for axis, extent in enumerate(shape) if axis not in axes)]


def unsqueeze(node: Node, known: Known) -> list[Shape] | None:
    shape = list(shape_of(node))
    count = node.attributes.get("axes") or numbers_of(known, 1)
    if count is None:
        return None
    axes = axes_of(node, known, len(shape) + len(count))
    for axis in sorted(axes or ()):
        shape.insert(axis, 1)
    return [tuple(shape)]


def concat(node: Node, known: Known) -> list[Shape]:
    shapes = [value.static_shape for value in node.inputs if value is not None]
    axis = axis_of(node, len(shapes[0]))
    for shape in shapes[1:]:
        fits = len(shape) == len(shapes[0]) and all(
            a == b for index, (a, b) in enumerate(zip(shape, shapes[0])) if index != axis
        )
        check(node, fits, f"{text_of(shape)} and {text_of(shapes[0])} differ beside axis {axis}")
    first = list(shapes[0])
    first[axis] = sum(shape[axis] for shape in shapes)
    return [tuple(first)]


def split(node: Node, known: Known) -> list[Shape] | None:
    shape, axis = shape_of(node), axis_of(node, len(shape_of(node)))
    parts = node.attributes.get("split")
    if parts is None:
        parts = numbers_of(known, 1) if node.input(1) is not None else None
        if parts is None and node.input(1) is not None:
            return None
    if parts is None:
        count = len(node.outputs)
        each = -(-shape[axis] // count)
        parts = [each] * (count - 1) + [shape[axis] - each * (count - 1)]
    check(node, len(parts) == len(node.outputs) and sum(parts) == shape[axis], f"parts {parts} of {shape[axis]}")
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def slice_axes(node: Node, known: Known) -> list[Shape] | None:
    shape = list(shape_of(node))
    attributes = node.attributes
    starts, ends = attributes.get("starts") or numbers_of(known, 1), attributes.get("ends") or numbers_of(known, 2)
    axes = numbers_of(known, 3) if node.input(3) is not None else attributes.get("axes")
    steps = numbers_of(known, 4) if node.input(4) is not None else None
    absent = (node.input(3) is not None and axes is None) or (node.input(4) is not None and steps is None)
    if starts is None or ends is None or absent or None in (*starts, *ends):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis, step = int(axis) % max(len(shape), 1), int(step)
        check(node, step != 0, "a step is 0")
        shape[axis] = len_of_slice(shape[axis], start, end, step)
    return [tuple(shape)]


def bound_of_slice(extent: Extent, bound: Extent, step: int, is_start: bool) -> Extent:
    """A start or end of a Slice as a position: 0 to `extent`, for a negative step up to `extent` - 1 and from -1 on.

    A start is never before the first element: kernels read from there.
    """
    lowest, highest = (0, extent) if step > 0 else (0 if is_start else -1, extent - 1)
    if isinstance(bound, Size) or -_FAR < bound < _FAR:
        bound = bound + extent if bound < 0 else bound
        bound = lowest if bound < lowest else bound
    else:
        bound = highest if bound > 0 else lowest
    return highest if bound > highest else bound


def len_of_slice(extent: Extent, start: Extent, end: Extent, step: int) -> Extent:
    """How many elements a Slice takes of an axis."""
    first, last = bound_of_slice(extent, start, step, True), bound_of_slice(extent, end, step, False)
    count = -(-(last - first) // step) if step > 0 else -(-(first - last) // -step)
    return count if count > 0 else 0


def gather(node: Node, known: Known) -> list[Shape]:
    shape, axis = shape_of(node), axis_of(node, len(shape_of(node)))
    return [(*shape[:axis], *shape_of(node, 1), *shape[axis + 1 :])]


def gather_nd(node: Node, known: Known) -> list[Shape]:
    data, indices = shape_of(node, 0), shape_of(node, 1)
    lead = int(node.attributes.get("batch_dims", 0))
    return [(*indices[:-1], *data[lead + int(indices[-1]) :])]


def tile(node: Node, known: Known) -> list[Shape] | None:
    repeats = numbers_of(known, 1)
    if repeats is None or None in repeats:
        return None
    return [tuple(extent * count for extent, count in zip(shape_of(node), repeats, strict=True))]


def pad(node: Node, known: Known) -> list[Shape] | None:
    shape = list(shape_of(node))
    pads = node.attributes.get("pads") or numbers_of(known, 1)
    if pads is None or None in pads:
        return None
    axes = list(range(len(shape)))
    if node.input(3) is not None:
        given = numbers_of(known, 3)
        if given is None:
            return None
        axes = [int(axis) % len(shape) for axis in given]
    for index, axis in enumerate(axes):
        shape[axis] = shape[axis] + pads[index] + pads[index + len(axes)]
    return [tuple(shape)]


def depth_to_space(node: Node, known: Known) -> list[Shape]:
    n, c, h, w = shape_of(node)
    block = node.attributes["blocksize"]
    return [(n, c // block**2, h * block, w * block)]


def space_to_depth(node: Node, known: Known) -> list[Shape]:
    n, c, h, w = shape_of(node)
    block = node.attributes["blocksize"]
    return [(n, c * block**2, h // block, w // block)]
