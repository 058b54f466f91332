"""The passes in their order, and the manager that runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from cpuruntime.errors import Error, InternalError, InvalidArgumentError, nearest
from cpuruntime.graph import Graph, verify
from cpuruntime.passes.canonical import (
    compositions,
    convolution,
    current_forms,
    default_attributes,
    einsum,
    fully_connected,
    group_norm,
    normalisation,
    pooling,
    quantisation,
    rows_of_products,
    softmax,
    transposed_convolution,
    variadic,
    views,
    volumes,
)
from cpuruntime.passes.fuse import activations, attention, elementwise_chains, epilogues, gelu, merge_projections
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

DUMP_VARIABLE = "CPURUNTIME_DUMP_AFTER"


class Pass(NamedTuple):
    """A rewrite: `run` changes the graph in place and says whether it did."""

    name: str
    run: Callable[[Graph], bool]


Pipeline = tuple[Pass, ...]
"""Passes in the order they run. A device names its own, a concatenation of these or of its own passes."""

CANONICAL: Pipeline = (
    Pass("quantisation", quantisation.run),
    Pass("constant_folding", constant_folding.run),
    Pass("dead_code", dead_code.run),
    Pass("current_forms", current_forms.run),
    Pass("default_attributes", default_attributes.run),
    Pass("normalisation", normalisation.run),
    Pass("variadic", variadic.run),
    Pass("softmax", softmax.run),
    Pass("compositions", compositions.run),
    Pass("einsum", einsum.run),
    Pass("convolution", convolution.run),
    Pass("transposed_convolution", transposed_convolution.run),
    Pass("pooling", pooling.run),
    Pass("fully_connected", fully_connected.run),
    Pass("views", views.run),
    Pass("group_norm", group_norm.run),
    Pass("rows_of_products", rows_of_products.run),
)
"""One spelling for everything."""

SIMPLIFY: Pipeline = (
    Pass("no_ops", no_ops.run),
    # Before the parts of a shuffle can merge with neighbours.
    Pass("channel_shuffle", channel_shuffle.run),
    Pass("merge_views", merge_views.run),
    Pass("no_ops_after_merge_views", no_ops.run),
)
"""Less of it; after CANONICAL."""

FUSE: Pipeline = (
    Pass("gelu", gelu.run),
    Pass("attention", attention.run),
    Pass("pad_into_convolution", pad_into_convolution.run),
    Pass("clamps", clamps.run),
    Pass("activations", activations.run),
    Pass("channel_arithmetic", channel_arithmetic.run),
    Pass("relu_placement", relu_placement.run),
    Pass("epilogues", epilogues.run),
    Pass("merge_projections", merge_projections.run),
    Pass("volumes", volumes.run),
    Pass("merge_views_after_volumes", merge_views.run),
    Pass("no_ops_after_volumes", no_ops.run),
    Pass("elementwise_chains", elementwise_chains.run),
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
    dump = os.environ.get(DUMP_VARIABLE, "")
    every = [*dict.fromkeys([*names, *(each.name for each in PASSES)])]
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
