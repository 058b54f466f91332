"""PRECISION_BUDGET: which products and convolutions take fewer bits, by what that gains here and what it loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, sqrt
from typing import Any

import numpy as np

from cpuruntime.compiler import isa
from cpuruntime.devices.cpu.precision import is_accurate
from cpuruntime.devices.cpu.weight_storage import GROUPS, weight_storage
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.errors import InvalidArgumentError, listed, printable
from cpuruntime.graph import Compressed, Graph
from cpuruntime.passes import WeightStorage, compress, errors_of, products_of
from cpuruntime.program.plan.compressed_weights import has_kind
from cpuruntime.properties import CompileMode, Settings
from cpuruntime.records import record

Sample = Mapping[str, np.ndarray]
Compile = Callable[[Graph, Settings], DeviceModel]

GAIN = 0.97
"""Of the time in float32: what takes longer is no gain."""


@record
class Trial:
    """A model on the samples: its outputs, and microseconds by product."""

    outputs: list[np.ndarray]
    times: Mapping[str, float]

    def error(self, wanted: Trial) -> float:
        """The root mean square of the differences over that of the wanted numbers; of the worst output."""
        pairs = [(_square(a - b), _square(b)) for a, b in zip(self.outputs, wanted.outputs) if b.dtype.kind == "f"]
        return max((sqrt(lost / whole) if whole else float(lost > 0) for lost, whole in pairs), default=0.0)


def _square(array: np.ndarray) -> float:
    return float((array.astype(np.float64) ** 2).sum())


def choose_precisions(graph: Graph, settings: Settings, compile: Compile) -> Graph:
    """The graph with fewer bits where a product or a convolution is faster so, as many as PRECISION_BUDGET allows.

    `compile` makes the models that are tried. Notes say what was measured.
    Raises InvalidArgumentError for samples that do not fit the model, and for a model of dynamic shapes.
    """
    budget, path = settings.value("PRECISION_BUDGET"), settings.value("PRECISION_SAMPLES")
    if weight_storage(settings).kind:
        raise InvalidArgumentError("PRECISION_BUDGET chooses what WEIGHTS_PRECISION or INFERENCE_PRECISION_HINT says.")
    graph = compress(graph, WeightStorage())
    sample = _read(graph, path)
    if is_accurate(settings):
        return graph
    products = products_of(graph)
    own = {"PRECISION_BUDGET": 0.0, "COMPILE_MODE": CompileMode.OPTIMIZED, "NUM_STREAMS": 1, "TUNING_BUDGET_MS": 0}
    trial_settings = Settings(settings.known, {**settings, **own})

    def tried(kinds: Mapping[str, str]) -> Trial:
        model = compile(compressed(graph, kinds), trial_settings)
        try:
            return run_trial(model, sample, products)
        finally:
            model.close()

    plain = tried({})
    halves = "f16" if has_kind("f16") and not isa.bf16_products() else "bf16"
    trials = {kind: tried(dict.fromkeys(products, kind)) for kind in (halves, "u8")}
    moves = _moves(graph, plain, trials)
    allowed, lost = _longest(moves, lambda kinds: tried(kinds).error(plain), budget)
    chosen = compressed(graph, allowed)
    matrices = _matrices(chosen)
    for weight, kind in allowed.items():
        note = f"{trials[kind].times[weight]:.1f} us, {plain.times[weight]:.1f} in f32"
        if weight in matrices:
            matrices[weight].note = note
        else:
            chosen.notes.append(f"convolution {listed(sorted(products[weight]))} in {kind}: {note}")
    chosen.notes.append(
        f"PRECISION_BUDGET is {budget:g}: {len(allowed)} of {len(products)} products and convolutions take fewer bits, "
        f"and the outputs are off by {lost:.2g} on the sample"
    )
    return chosen


def compressed(graph: Graph, kinds: Mapping[str, str]) -> Graph:
    """The graph with the weights of these names in these kinds."""
    for kind in sorted(set(kinds.values())):
        names = frozenset(name for name, each in kinds.items() if each == kind)
        graph = compress(graph, WeightStorage(kind, GROUPS.get(kind, WeightStorage().group), only=names))
    return graph if kinds else graph.clone()


def _moves(graph: Graph, plain: Trial, trials: Mapping[str, Trial]) -> list[tuple[str, str]]:
    """Weights and kinds that are faster than what is before them, those first that gain most for what they lose."""
    found = []
    for kind, trial in trials.items():
        for weight, error in errors_of(compressed(graph, dict.fromkeys(trial.times, kind))).items():
            took, before = trial.times.get(weight, inf), plain.times.get(weight, 0.0)
            if took < GAIN * before:
                found.append(((before - took) / max(error, 1e-12) ** 2, weight, kind))
    return [(weight, kind) for _, weight, kind in sorted(found, reverse=True)]


def _matrices(graph: Graph) -> dict[str, Compressed]:
    """Compressed matrices by the names of those that they were made of."""
    found = ((value.name.rpartition("/")[0], value.constant) for value in graph.constants())
    return {name: matrix for name, matrix in found if isinstance(matrix, Compressed)}


def _longest(
    moves: list[tuple[str, str]], error: Callable[[Mapping[str, str]], float], budget: float
) -> tuple[dict[str, str], float]:
    """The kinds after as many of the moves as the budget allows, by halving, and their error."""
    low, high, best = 0, len(moves), 0.0
    while low < high:
        middle = (low + high + 1) // 2
        lost = error(dict(moves[:middle]))
        if lost <= budget:
            low, best = middle, lost
        else:
            high = middle - 1
    return dict(moves[:low]), best


def run_trial(model: DeviceModel, sample: Sample, products: Mapping[str, frozenset[str]]) -> Trial:
    """An inference of a sample, and the time of each product's steps; `products` has the nodes of each weight."""
    request = model.create_request()
    for index, port in enumerate(model.inputs):
        array = sample[port.name]
        request.input_array(index, array.shape)[...] = array
    request.run()
    outputs = [request.output_array(index).copy() for index in range(len(model.outputs))]
    times: dict[str, float] = dict.fromkeys(products, 0.0)
    for row in model.explain(measure=True).rows:
        for weight, nodes in products.items():
            if nodes & {*row.nodes}:
                times[weight] += row.microseconds or 0.0
    return Trial(outputs, times)


def _read(graph: Graph, path: str) -> dict[str, Any]:
    """The arrays of an npz file, one for each input."""
    if not all(value.is_static for value in graph.inputs):
        raise InvalidArgumentError("PRECISION_BUDGET: the model has dynamic shapes. Reshape it to those of the sample.")
    if not path:
        raise InvalidArgumentError("PRECISION_BUDGET needs PRECISION_SAMPLES, an npz file of arrays by input.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        where = f"PRECISION_SAMPLES: {printable(path)}"
        raise InvalidArgumentError(f"{where} is no npz file of arrays: {error}.") from error
    wanted = {value.name: (value.element_type.to_dtype(), tuple(value.static_shape)) for value in graph.inputs}
    found = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if wrong:
        raise InvalidArgumentError(
            f"PRECISION_SAMPLES: {listed(wrong)} are missing, are no inputs, or have another type or shape. The file "
            "has an array for each input, by its name."
        )
    if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
        raise InvalidArgumentError("PRECISION_SAMPLES: an array has numbers that are infinite or NaN.")
    return arrays
