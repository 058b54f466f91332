"""Ensembles of decision trees: sums of the weights of the leaves that a row of features reaches, then a function.

The tables are the program's own and checked when it is planned: features within a row, children and weights within the
tables, no cycles.
"""

from __future__ import annotations

from functools import cache
from math import inf

import numpy as np

from cpuruntime.compiler.kernel import Kernel, factory, inline, kernel, lazy, record
from cpuruntime.ops.functions.double_math import exp, sigmoid

simd = lazy("cpuruntime.compiler.simd")

# `first` and `second` are the nodes where the comparison of the feature with `value` holds and where not; at a leaf the
# first of its weights and their number.
NODE = np.dtype(
    [("feature", "i4"), ("mode", "i4"), ("first", "i4"), ("second", "i4"), ("value", "f4"), ("missing", "i4")]
)
LEAF, MODES = 0, {"BRANCH_LEQ": 1, "BRANCH_LT": 2, "BRANCH_GTE": 3, "BRANCH_GT": 4, "BRANCH_EQ": 5, "BRANCH_NEQ": 6}
WEIGHT = np.dtype([("place", "i4"), ("weight", "f4")])
AGGREGATES = ("SUM", "AVERAGE", "MIN", "MAX")
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
# The other score of two classes with one: 1 minus it, or its negative; by LOGISTIC both are functions of these.
ONE_MINUS, NEGATIVE = 1, 2

ARGUMENTS = record("source nodes roots weights base scores labels target rows features trees columns transform pair")


@inline
def _holds(mode, x, value):
    if mode == 1:
        return x <= value
    if mode == 2:
        return x < value
    if mode == 3:
        return x >= value
    if mode == 4:
        return x > value
    return (x == value) == (mode == 5)


@inline
def _leaf(a, tree, row):
    """The address of the leaf that a row of features reaches."""
    node = a.nodes + np.int64(simd.load_i32(a.roots + 4 * tree)) * 24
    mode = simd.load_i32(node + 4)
    while mode != 0:
        x = simd.load_f32(row + 4 * np.int64(simd.load_i32(node)))
        holds = _holds(mode, x, simd.load_f32(node + 16))
        if x != x and simd.load_i32(node + 20) != 0:
            holds = True
        node = a.nodes + np.int64(simd.load_i32(node + 8 if holds else node + 12)) * 24
        mode = simd.load_i32(node + 4)
    return node


@inline
def _softmax(a, scores):
    """With SOFTMAX_ZERO (3) a score of 0 stays 0."""
    largest, total = -inf, 0.0
    for c in range(a.columns):
        largest = max(largest, np.float64(simd.load_f32(scores + 4 * c)))
    for c in range(a.columns):
        x = np.float64(simd.load_f32(scores + 4 * c))
        x = 0.0 if a.transform == 3 and abs(x) <= 1e-7 else exp(x - largest)
        total += x
        simd.store_f32(scores + 4 * c, np.float32(x))
    for c in range(a.columns):
        simd.store_f32(scores + 4 * c, np.float32(simd.load_f32(scores + 4 * c) / total))


@inline
def _finish(a, scores):
    """The function of the sums of a row; returns the number of the class."""
    best, top = 0, simd.load_f32(scores)
    for c in range(1, a.columns):
        value = simd.load_f32(scores + 4 * c)
        if value > top:
            best, top = c, value
    if a.pair != 0:
        score = np.float64(simd.load_f32(scores))
        best = 1 if score > (0.5 if a.pair == 1 else 0.0) else 0
        other = 1.0 - score if a.pair == 1 else -score
        if a.transform == 1:
            score, other = sigmoid(score), sigmoid(-score)
        simd.store_f32(scores, np.float32(other))
        simd.store_f32(scores + 4, np.float32(score))
    elif a.transform == 1:
        for c in range(a.columns):
            simd.store_f32(scores + 4 * c, np.float32(sigmoid(np.float64(simd.load_f32(scores + 4 * c)))))
    elif a.transform >= 2:
        _softmax(a, scores)
    return best


@cache
@factory
def tree_ensemble(aggregate: str) -> Kernel:
    """scores[row, columns] = the transformed sums; target[row] = the label of the class where `target` is not 0."""
    start = {"MIN": inf, "MAX": -inf}.get(aggregate, 0.0)
    smallest, largest, average = aggregate == "MIN", aggregate == "MAX", aggregate == "AVERAGE"

    @kernel(ARGUMENTS, name=f"tree_ensemble_{aggregate}")
    def run(a, thread, threads):
        for number in range(a.rows * thread // threads, a.rows * (thread + 1) // threads):
            row, scores = a.source + number * a.features * 4, a.scores + number * a.columns * 4
            for c in range(a.columns):
                simd.store_f32(scores + 4 * c, start)
            for tree in range(a.trees):
                leaf = _leaf(a, tree, row)
                weight = a.weights + np.int64(simd.load_i32(leaf + 8)) * 8
                for _ in range(simd.load_i32(leaf + 12)):
                    place, x = scores + 4 * np.int64(simd.load_i32(weight)), simd.load_f32(weight + 4)
                    sofar = simd.load_f32(place)
                    if smallest:
                        simd.store_f32(place, min(sofar, x))
                    elif largest:
                        simd.store_f32(place, max(sofar, x))
                    else:
                        simd.store_f32(place, sofar + x)
                    weight += 8
            for c in range(a.columns):
                total = simd.load_f32(scores + 4 * c)
                if (smallest or largest) and total == start:
                    total = np.float32(0.0)
                if average:
                    total = total / np.float32(a.trees)
                simd.store_f32(scores + 4 * c, total + simd.load_f32(a.base + 4 * c))
            best = _finish(a, scores)
            if a.target != 0:
                simd.store_i64(a.target + 8 * number, simd.load_i64(a.labels + 8 * best))

    return run
