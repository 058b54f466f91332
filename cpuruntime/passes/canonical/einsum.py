"""Einsum becomes transposes, reductions and matrix products."""

from __future__ import annotations

import numpy as np

from cpuruntime.graph import Node, Type, Value
from cpuruntime.passes.canonical.compositions import Writer
from cpuruntime.passes.editor import Editor, sweep
from cpuruntime.passes.operators import is_onnx

_TYPES = (Type.f32, Type.f64, Type.i32, Type.i64)


@sweep
def run(editor: Editor, node: Node) -> None:
    """Einsum of the types that products have kernels for; several inputs are multiplied from left to right."""
    static = all(value is not None and value.is_static for value in (*node.inputs, *node.outputs))
    if is_onnx(node, "Einsum") and static and node.inputs[0].element_type in _TYPES:
        terms, result = _parsed(node.attributes["equation"], [len(value.static_shape) for value in node.inputs])
        if result is not None and all(map(_has_diagonals, node.inputs, terms)):
            with Writer(editor, node) as write:
                _write(write, terms, result)


def _parsed(equation: str, ranks: list[int]) -> tuple[list[str], str | None]:
    """The letters of each input and of the result; None for what is not supported."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [chr(code) for code in range(ord("\u0391"), ord("\u03a9"))]  # letters no equation has, for the dots
    for index, rank in enumerate(ranks):
        dots = rank - len(terms[index].replace("...", "")) if "..." in terms[index] else 0
        if dots < 0 or dots > len(spare):
            return terms, None
        terms[index] = terms[index].replace("...", "".join(spare[len(spare) - dots :]))
    known = "".join(terms)
    most = "".join(letter for letter in spare if letter in known)
    if not arrow:
        right = "..." + "".join(letter for letter in sorted(set(known) - set(spare)) if known.count(letter) == 1)
    result = right.replace("...", most)
    fits = len(terms) == len(ranks) and all(len(term) == rank for term, rank in zip(terms, ranks))
    distinct = len(set(result)) == len(result) and set(result) <= set(known)
    return terms, result if fits and distinct else None


def _write(write: Writer, terms: list[str], result: str) -> None:
    node = write.node
    extents: dict[str, int] = {}
    for value, term in zip(node.inputs, terms):
        for letter, extent in zip(term, value.static_shape):
            extents[letter] = max(extents.get(letter, 1), extent)
    values = []
    pairs = [_diagonal(write, value, term) for value, term in zip(node.inputs, terms)]
    terms = [term for _, term in pairs]
    for index, (value, term) in enumerate(pairs):
        others = result + "".join(terms[:index] + terms[index + 1 :])
        values.append(_summed(write, value, term, [letter for letter in term if letter not in others]))
    while len(values) > 2:
        later = result + "".join(term for _, term in values[2:])
        letters = "".join(letter for letter in dict.fromkeys(values[0][1] + values[1][1]) if letter in later)
        values = [(_product(write, values[:2], letters, extents), letters), *values[2:]]
    if len(values) == 1:
        x, term = values[0]
        _arranged(write, x, term, result, [extents[letter] for letter in result])
    else:
        _product(write, values, result, extents)


def _has_diagonals(value: Value, term: str) -> bool:
    """Whether axes of the same letter have the same extent."""
    return all(value.static_shape[term.index(letter)] == n for letter, n in zip(term, value.static_shape))


def _diagonal(write: Writer, value: Value, term: str) -> tuple[Value, str]:
    """The elements whose indices along axes of one letter are equal."""
    for letter in set(term):
        while term.count(letter) > 1:
            first, second = term.index(letter), term.rindex(letter)
            rest = [axis for axis in range(len(term)) if axis not in (first, second)]
            shape, extent = tuple(value.static_shape[axis] for axis in rest), value.static_shape[first]
            value = write("Transpose", value, shape=(extent, extent, *shape), perm=[first, second, *rest])
            value = write.internal("Reshape", value, shape=(extent * extent, *shape))
            bounds = [write.constant([number]) for number in (0, extent * extent, 0, extent + 1)]
            value = write("Slice", value, *bounds, shape=(extent, *shape))
            term = letter + "".join(term[axis] for axis in rest)
    return value, term


def _summed(write: Writer, value: Value, term: str, letters: list[str]) -> tuple[Value, str]:
    """Sums over axes that neither the other operand nor the result has."""
    if not letters:
        return value, term
    axes = [term.index(letter) for letter in letters]
    shape = tuple(extent for axis, extent in enumerate(value.static_shape) if axis not in axes)
    value = write("ReduceSum", value, write.constant(axes), shape=shape, keepdims=0)
    return value, "".join(letter for letter in term if letter not in letters)


def _arranged(write: Writer, value: Value, term: str, order: str, shape: list[int]) -> Value:
    """The axes of `value` in another order, then in another shape."""
    perm = [term.index(letter) for letter in order]
    moved = tuple(value.static_shape[axis] for axis in perm)
    value = write("Transpose", value, shape=moved, perm=perm)
    return value if moved == tuple(shape) else write("Reshape", value, write.constant(shape), shape=tuple(shape))


def _repeated(write: Writer, value: Value, term: str, letters: list[str], extents: dict[str, int]) -> Value:
    """The value with its extents of 1 along summed axes repeated."""
    shape = tuple(extents[letter] if letter in letters else n for letter, n in zip(term, value.static_shape))
    return value if shape == value.static_shape else write("Expand", value, write.constant(shape), shape=shape)


def _product(write: Writer, values: list[tuple[Value, str]], result: str, extents: dict[str, int]) -> Value:
    """A matrix product over the axes that are summed, for each index of the axes that all three have."""
    left, right = (term for _, term in values)
    batch = [letter for letter in result if letter in left and letter in right]
    inner = [letter for letter in left if letter in right and letter not in result]
    rows = [letter for letter in result if letter in left and letter not in right]
    columns = [letter for letter in result if letter in right and letter not in left]

    def size(letters: list[str]) -> int:
        return int(np.prod([extents[letter] for letter in letters], initial=1))

    def extents_in(value: Value, term: str, letters: list[str]) -> list[int]:
        return [value.static_shape[term.index(letter)] for letter in letters]

    x, y = (_repeated(write, value, term, inner, extents) for value, term in values)
    x = _arranged(write, x, left, "".join(batch + rows + inner), [*extents_in(x, left, batch), size(rows), size(inner)])
    y = _arranged(
        write, y, right, "".join(batch + inner + columns), [*extents_in(y, right, batch), size(inner), size(columns)]
    )
    shape = [extents[letter] for letter in batch]
    product = write("MatMul", x, y, shape=(*shape, size(rows), size(columns)))
    order = "".join(batch + rows + columns)
    full = tuple(extents[letter] for letter in order)
    product = write("Reshape", product, write.constant(full), shape=full)
    perm = [order.index(letter) for letter in result]
    return write("Transpose", product, shape=tuple(full[axis] for axis in perm), perm=perm)
