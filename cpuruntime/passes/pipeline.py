"""The passes in their order, and the manager that runs them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import NamedTuple

from cpuruntime.errors import Error, InternalError, InvalidArgumentError, nearest
from cpuruntime.graph import Graph, verify
from cpuruntime.passes.canonical import (
    compositions,
    computed_weights,
    convolution,
    current_forms,
    default_attributes,
    definitions,
    deform_convolution,
    einsum,
    fully_connected,
    group_norm,
    half_types,
    normalisation,
    pooling,
    quantisation,
    rows_of_products,
    signals,
    softmax,
    tabular,
    transposed_convolution,
    variadic,
    views,
    volumes,
)
from cpuruntime.passes.control_flow import branches, captures
from cpuruntime.passes.fuse import (
    activations,
    attention,
    byte_rows,
    byte_sums,
    elementwise_chains,
    epilogues,
    gelu,
    images,
    merge_projections,
)
from cpuruntime.passes.quantise import (
    borders,
    compressed_weights,
    constants,
    convolutions,
    dynamic,
    movement,
    pools,
    products,
    stored_weights,
    tables,
)
from cpuruntime.passes.quantise.stored_weights import WeightStorage
from cpuruntime.passes.simplify import (
    channel_arithmetic,
    channel_shuffle,
    clamps,
    constant_folding,
    dead_code,
    merge_views,
    no_ops,
    pad_into_convolution,
    relu_placement,
)
from cpuruntime.store import trusted_environment

DUMP_VARIABLE = "CPURUNTIME_DUMP_AFTER"


class Pass(NamedTuple):
    """A rewrite: `run` changes the graph in place and says whether it did."""

    name: str
    run: Callable[[Graph], bool]


Pipeline = tuple[Pass, ...]
"""Passes in the order they run. A device names its own, a concatenation of these or of its own passes."""


def _passes(*modules: ModuleType) -> Pipeline:
    return tuple(Pass(module.__name__.rpartition(".")[2], module.run) for module in modules)


CANONICAL: Pipeline = _passes(
    half_types, definitions, tabular, quantisation, constant_folding, branches, captures, dead_code, current_forms,
    default_attributes, normalisation, variadic, softmax, compositions, signals, einsum, computed_weights, convolution,
    deform_convolution, transposed_convolution, pooling, fully_connected, views, group_norm, rows_of_products,
)  # fmt: skip
"""One spelling for everything."""

QUANTISE: Pipeline = _passes(constants, movement, tables, pools, convolutions, products, dynamic, borders)
"""Integers stay integers, for a device with kernels for them; before the pass "quantisation" of CANONICAL."""

SIMPLIFY: Pipeline = (
    Pass("no_ops", no_ops.run),
    # Before the parts of a shuffle can merge with neighbours.
    *_passes(channel_shuffle, merge_views),
    Pass("no_ops_after_merge_views", no_ops.run),
)
"""Less of it; after CANONICAL."""

FUSE: Pipeline = (
    *_passes(byte_sums, images, gelu, attention, pad_into_convolution, clamps, activations, channel_arithmetic),
    *_passes(relu_placement, epilogues, merge_projections, volumes),
    Pass("merge_views_after_volumes", merge_views.run),
    Pass("no_ops_after_volumes", no_ops.run),
    *_passes(byte_rows, elementwise_chains),
)
"""Several operators in one, for a device with kernels for these, and what is simplified between; after SIMPLIFY."""

PASSES: Pipeline = CANONICAL + SIMPLIFY + FUSE


def run(graph: Graph, pipeline: Pipeline = PASSES, stop_after: str | None = None) -> Graph:
    """The optimised graph; `graph` itself stays as it is, arrays of constants may be shared.

    The passes of `pipeline` run in its order, with `stop_after` only those up to the one of that name. Inputs and
    outputs keep their names, types, shapes and order. CPURUNTIME_DUMP_AFTER in the environment, the name of a pass or
    "all", prints the graph after it to stderr.

    Raises ModelError for a model that breaks the rules of an operator, InternalError when a pass is at fault, and
    InvalidArgumentError for the unknown name of a pass.
    """
    names = [each.name for each in pipeline]
    dump = trusted_environment().get(DUMP_VARIABLE, "")
    every = [*dict.fromkeys([*names, *(each.name for each in QUANTISE + PASSES)])]
    for name, known in ((stop_after, names), (None if dump == "all" else dump, every)):
        if name and name not in known:
            raise InvalidArgumentError(f"There is no pass '{name}'.{nearest(name, known)} Passes: {', '.join(known)}.")
    graph = graph.clone()
    verify(graph)
    for each in pipeline:
        _run(each, graph)
        if dump in ("all", each.name):
            print(f"# after {each.name}\n{graph}", file=sys.stderr)
        if each.name == stop_after:
            break
    return graph


def compress(graph: Graph, storage: WeightStorage) -> Graph:
    """The graph with compressed constants, those that the model has and those that `storage` asks for; once a model,
    before it is planned for shapes. `graph` itself stays as it is."""
    if storage == WeightStorage() and not compressed_weights.is_found(graph):
        return graph
    found = Pass("compressed_weights", partial(compressed_weights.run, quantises_rows=storage.quantises_rows))
    asked = Pass("stored_weights", partial(stored_weights.run, storage=storage))
    return run(graph, _passes(half_types, constants) + ((found, asked) if storage.kind else (found,)))


def _run(each: Pass, graph: Graph) -> None:
    signature = [(value.name, value.element_type) for value in (*graph.inputs, *graph.outputs)]
    try:
        if not each.run(graph):
            return
        verify(graph)
    except Error as error:
        raise type(error)(f"{error} (found by the pass '{each.name}')") from error
    except Exception as error:
        raise InternalError(f"the pass '{each.name}' failed: {type(error).__name__}: {error}") from error
    if [(value.name, value.element_type) for value in (*graph.inputs, *graph.outputs)] != signature:
        raise InternalError(f"the pass '{each.name}' renamed or retyped inputs or outputs of the graph.")
