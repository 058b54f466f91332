"""From a float32 model and samples to the quantised model and its report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil

import numpy as np
import onnx

from cpuruntime.api.core import Core
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.quantize.budget import Limit, choose
from cpuruntime.quantize.calibration import Feeds, Progress, Runner, calibrate
from cpuruntime.quantize.editor import Editor
from cpuruntime.quantize.equalisation import equalise
from cpuruntime.quantize.errors import Difference, Gated
from cpuruntime.quantize.form import Layer, float_outputs, layers, prepared
from cpuruntime.quantize.regions import Regions
from cpuruntime.quantize.report import Report, Row
from cpuruntime.quantize.times import Times, measure
from cpuruntime.quantize.weights import bias_of, saturating_pairs
from cpuruntime.quantize.writer import Writer

_HELD_OUT = 0.25
_MOST_FOR_LAYERS = 2
"""Samples that each layer's error is measured on."""


def quantised(model: onnx.ModelProto, samples: Sequence[Feeds], progress: Progress) -> onnx.ModelProto:
    """The model with all layers in 8 bits, calibrated on all samples; nothing else is measured."""
    writer = calibrated(model, samples, progress)
    return writer.write([layer.name for layer in writer.layers])


def calibrated(model: onnx.ModelProto, samples: Sequence[Feeds], progress: Progress) -> Writer:
    """Prepares, measures and equalises a model; raises InvalidArgumentError where it has no layer to quantise."""
    plain = prepared(model)
    float_outputs(plain)
    editor = Editor(plain)
    found = layers(editor)
    if not found:
        raise InvalidArgumentError(
            f"Model '{printable(model.graph.name)}' has no Conv or Gemm with constant weights and no MatMul: there is "
            "nothing to quantise."
        )
    names = [layer.name for layer in found]
    values = Regions(editor, found, names).values
    axes = {layer.inputs[0]: 1 if layer.is_convolution else -1 for layer in found if layer.weight}
    measured = calibrate(plain, samples, values, axes, progress)
    known = equalise(editor, found, measured)
    return Writer(editor.finish(), measured, known)


class Quantisation:
    """One run of the tool. `written` is the quantised model, `report` what was measured of it."""

    def __init__(
        self, model: onnx.ModelProto, name: str, samples: Sequence[Feeds], limit: Limit, progress: Progress
    ) -> None:
        """Raises InvalidArgumentError where no layer can be quantised within the limit."""
        held = ceil(_HELD_OUT * len(samples)) if len(samples) > 1 else 0
        self._held_out = list(samples[len(samples) - held :]) if held else list(samples)
        self._progress = progress
        self._writer = calibrated(model, samples[: len(samples) - held], progress)
        self._plain = self._outputs(self._writer.model)
        gated = Gated(self._writer, self._held_out[:_MOST_FOR_LAYERS])
        names = gated.layers
        noise = gated.noise(progress)
        alone, cumulated = self._errors(gated)
        progress("times in float32 and with 8 bits", 0, 0)
        times = self._times()
        self._notes: list[str] = []
        chosen = names if limit == Limit() else self._chosen(gated, alone, times, limit)
        gated.close()
        self.written, difference = self._verified(chosen, limit)
        whole = {key: one.whole for key, one in times.items()}
        progress("the time of the written model", 0, 0)
        whole["written"] = measure(self.written, self._writer.layers, self._held_out[0]).whole
        rows = [
            self._row(layer, chosen, alone[layer.name], cumulated[layer.name], noise[layer.name], times)
            for layer in self._writer.layers
        ]
        self.report = Report(
            model=name,
            processor=str(Core().get_property("CPU", "FULL_DEVICE_NAME")),
            calibration_samples=len(samples) - held,
            held_out_samples=held,
            error=difference.error,
            cosine=difference.cosine,
            microseconds=whole,
            bytes_f32=self._writer.model.ByteSize(),
            bytes_int8=self.written.ByteSize(),
            equalised=tuple(self._writer.known),
            limit=str(limit),
            rows=rows,
            notes=self._notes,
        )

    def _errors(self, gated: Gated) -> tuple[dict[str, float], dict[str, float]]:
        """The error of each layer alone, and with all before it."""
        alone, cumulated = {}, {}
        for number, name in enumerate(gated.layers):
            self._progress("errors: layers", number, len(gated.layers))
            alone[name] = gated.difference([name]).error
            cumulated[name] = gated.difference(gated.layers[: number + 1]).error
        return alone, cumulated

    def _times(self) -> dict[str, Times]:
        found = self._writer.layers
        whole = self._writer.write([layer.name for layer in found])
        feeds = self._held_out[0]
        return {
            "f32": measure(self._writer.model, found, feeds),
            "int8": measure(whole, found, feeds),
            "bf16": measure(self._writer.model, found, feeds, "bf16"),
        }

    def _chosen(self, gated: Gated, alone: dict[str, float], times: dict[str, Times], limit: Limit) -> list[str]:
        plain, quantised = times["f32"], times["int8"]
        gains = {name: plain.layers.get(name, 0.0) - quantised.layers.get(name, 0.0) for name in alone}
        if not any(gain > 0 for gain in gains.values()):
            self._notes.append("8 bits make no layer faster on this processor: layers were chosen by the bytes saved.")
            gains = {layer.name: max(_saved_bytes(self._writer, layer), 1.0) for layer in self._writer.layers}
        slower = sum(gain <= 0 for gain in gains.values())
        if slower:
            self._notes.append(f"Layers left in float32, as 8 bits make them no faster on this processor: {slower}.")
        self._progress("layers within the limit", 0, 0)
        return choose(alone, gains, gated.difference, limit)

    def _verified(self, chosen: list[str], limit: Limit) -> tuple[onnx.ModelProto, Difference]:
        """The model with these layers in 8 bits, and its difference; drops the last ones until the limit holds."""
        step = 1
        while chosen:
            self._progress(f"the model with {len(chosen)} layers of 8 bits", 0, 0)
            model = self._writer.write(chosen)
            found = Difference()
            for ours, theirs in zip(self._outputs(model), self._plain):
                found.add(ours, theirs)
            if limit.holds(found):
                return model, found
            del chosen[-step:]
            step *= 2
        raise InvalidArgumentError(f"No layer can have 8 bits within {limit}; allow more, or give more samples.")

    def _outputs(self, model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
        run = Runner(model)
        names = float_outputs(model)
        found = []
        for feeds in self._held_out:
            results = run(feeds)
            found.append({name: np.array(results[name]) for name in names})
        run.close()
        return found

    def _row(
        self, layer: Layer, chosen: Collection[str], alone: float, cumulated: float, noise: float,
        times: dict[str, Times],
    ) -> Row:  # fmt: skip
        weight = self._writer.weights.get(layer.name)
        plain, quantised = _bytes(self._writer, layer)
        saturating, pairs = (0, 0) if weight is None else saturating_pairs(weight.values, weight.axis)
        return Row(
            name=layer.name,
            op_type=layer.node.op_type,
            quantised=layer.name in chosen,
            ranges=tuple(self._writer.all[name].method for name in layer.inputs),
            error_alone=alone,
            error_cumulated=cumulated,
            signal_to_noise=noise,
            microseconds={key: one.layers.get(layer.name, 0.0) for key, one in times.items()},
            bytes_f32=plain,
            bytes_int8=quantised,
            saturating=saturating,
            pairs=pairs,
        )


def _bytes(writer: Writer, layer: Layer) -> tuple[int, int]:
    """Bytes of a layer's constants in float32, and with 8 bits."""
    weight = writer.weights.get(layer.name)
    if weight is None:
        return 0, 0
    bias = bias_of(writer.editor, layer)
    more = 0 if bias is None else bias.nbytes
    return 4 * weight.values.size + more, weight.values.size + weight.scales.nbytes + more


def _saved_bytes(writer: Writer, layer: Layer) -> float:
    plain, quantised = _bytes(writer, layer)
    return float(plain - quantised)
