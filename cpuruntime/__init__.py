"""ONNX inference on CPUs in pure Python, with OpenVINO's interface: `import cpuruntime as ov`.

    core = ov.Core()
    compiled = core.compile_model("model.onnx", "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    result = compiled({"input": array})[0]

Importing the package imports nothing heavy; each name is loaded when it is first used, or with the package in programs
that have imported NumPy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cpuruntime.errors import (
    BusyError,
    CancelledError,
    DeadlineExceededError,
    DeviceUnavailableError,
    Error,
    InternalError,
    InvalidArgumentError,
    ModelError,
    ModelNotFoundError,
    OutOfMemoryError,
    OverloadedError,
    UnsupportedError,
    WrongIndexError,
    WrongTypeError,
)

if TYPE_CHECKING:
    from cpuruntime import exceptions, helpers, preprocess, properties, utils
    from cpuruntime.api import layout_helpers
    from cpuruntime.api.async_infer_queue import AsyncInferQueue
    from cpuruntime.api.batch import get_batch, set_batch
    from cpuruntime.api.compiled_model import CompiledModel
    from cpuruntime.api.core import Core, Version, compile_model
    from cpuruntime.api.infer_request import InferRequest
    from cpuruntime.api.layout import Layout
    from cpuruntime.api.model import Model
    from cpuruntime.api.node import DiscreteTypeInfo, Input, Node
    from cpuruntime.api.notes import RTMap
    from cpuruntime.api.ports import ConstOutput, Output
    from cpuruntime.api.refusals import Extension, Op, OpExtension, convert_model
    from cpuruntime.api.remote import RemoteContext, RemoteTensor
    from cpuruntime.api.request.latency import LatencyAnatomy
    from cpuruntime.api.results import OVDict
    from cpuruntime.api.saving import save_model, serialize
    from cpuruntime.api.tensor import Tensor, tensor_from_file
    from cpuruntime.api.vectors import AxisSet, AxisVector, Coordinate, CoordinateDiff, Strides, TensorVector
    from cpuruntime.devices.explanation import Explanation, ProfilingInfo
    from cpuruntime.frontend.light_models import light_model
    from cpuruntime.graph import Dimension, PartialShape, Shape, Symbol, Type
    from cpuruntime.hints import StreamPlan
    from cpuruntime.host.topology import Topology
    from cpuruntime.properties import OVAny
    from cpuruntime.version import __version__

_HOMES = {
    "AsyncInferQueue": "api.async_infer_queue",
    "AxisSet": "api.vectors",
    "AxisVector": "api.vectors",
    "CompiledModel": "api.compiled_model",
    "ConstOutput": "api.ports",
    "Coordinate": "api.vectors",
    "CoordinateDiff": "api.vectors",
    "Core": "api.core",
    "Dimension": "graph",
    "DiscreteTypeInfo": "api.node",
    "Explanation": "devices.explanation",
    "Extension": "api.refusals",
    "InferRequest": "api.infer_request",
    "Input": "api.node",
    "LatencyAnatomy": "api.request.latency",
    "Layout": "api.layout",
    "Model": "api.model",
    "Node": "api.node",
    "OVAny": "properties",
    "OVDict": "api.results",
    "Op": "api.refusals",
    "OpExtension": "api.refusals",
    "Output": "api.ports",
    "PartialShape": "graph",
    "ProfilingInfo": "devices.explanation",
    "RTMap": "api.notes",
    "RemoteContext": "api.remote",
    "RemoteTensor": "api.remote",
    "Shape": "graph",
    "StreamPlan": "hints",
    "Strides": "api.vectors",
    "Symbol": "graph",
    "Tensor": "api.tensor",
    "TensorVector": "api.vectors",
    "Topology": "host.topology",
    "Type": "graph",
    "Version": "api.core",
    "__version__": "version",
    "compile_model": "api.core",
    "convert_model": "api.refusals",
    "get_batch": "api.batch",
    "light_model": "frontend.light_models",
    "save_model": "api.saving",
    "serialize": "api.saving",
    "set_batch": "api.batch",
    "tensor_from_file": "api.tensor",
}

_MODULES = {name: name for name in ("exceptions", "helpers", "preprocess", "properties", "utils")}
_MODULES["layout_helpers"] = "api.layout_helpers"

__all__ = [
    "AsyncInferQueue",
    "AxisSet",
    "AxisVector",
    "BusyError",
    "CancelledError",
    "CompiledModel",
    "ConstOutput",
    "Coordinate",
    "CoordinateDiff",
    "Core",
    "DeadlineExceededError",
    "DeviceUnavailableError",
    "Dimension",
    "DiscreteTypeInfo",
    "Error",
    "Explanation",
    "Extension",
    "InferRequest",
    "Input",
    "InternalError",
    "InvalidArgumentError",
    "LatencyAnatomy",
    "Layout",
    "Model",
    "ModelError",
    "ModelNotFoundError",
    "Node",
    "OVAny",
    "OVDict",
    "Op",
    "OpExtension",
    "OutOfMemoryError",
    "Output",
    "OverloadedError",
    "PartialShape",
    "ProfilingInfo",
    "RTMap",
    "RemoteContext",
    "RemoteTensor",
    "Shape",
    "StreamPlan",
    "Strides",
    "Symbol",
    "Tensor",
    "TensorVector",
    "Topology",
    "Type",
    "UnsupportedError",
    "Version",
    "WrongIndexError",
    "WrongTypeError",
    "__version__",
    "compile_model",
    "convert_model",
    "exceptions",
    "get_batch",
    "get_version",
    "helpers",
    "layout_helpers",
    "light_model",
    "preprocess",
    "properties",
    "save_model",
    "serialize",
    "set_batch",
    "shutdown",
    "tensor_from_file",
    "utils",
]


if "numpy" in sys.modules:  # a program that is about to infer: what it needs is loaded here, not at its first call
    import_module("cpuruntime.api.core")


def get_version() -> str:
    """The version of the package."""
    return import_module("cpuruntime.version").__version__


def shutdown() -> None:
    """Nothing: threads end with the models that they belong to."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"cpuruntime.{_MODULES[name]}")
    if name not in _HOMES:
        reason = import_module("cpuruntime.api.refusals").MISSING.get(name)
        raise AttributeError(f"module 'cpuruntime' has no attribute {name!r}{f': {reason}' if reason else ''}")
    with import_module("cpuruntime.host.cycles").rare_searches():
        value = getattr(import_module(f"cpuruntime.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
