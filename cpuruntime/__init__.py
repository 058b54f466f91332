"""ONNX inference on CPUs in pure Python, with OpenVINO's interface: `import cpuruntime as ov`.

    core = ov.Core()
    compiled = core.compile_model("model.onnx", "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    result = compiled({"input": array})[0]

Importing the package imports nothing heavy; each name is loaded when it is first used.
"""

from __future__ import annotations

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
)

if TYPE_CHECKING:
    from cpuruntime import properties
    from cpuruntime.anatomy import LatencyAnatomy
    from cpuruntime.async_infer_queue import AsyncInferQueue
    from cpuruntime.compiled_model import CompiledModel
    from cpuruntime.core import Core, Version, compile_model
    from cpuruntime.devices.interface import Explanation, ProfilingInfo
    from cpuruntime.graph.shapes import Dimension, PartialShape, Shape
    from cpuruntime.graph.types import Type
    from cpuruntime.hints import StreamPlan
    from cpuruntime.infer_request import InferRequest
    from cpuruntime.light_models import light_model
    from cpuruntime.model import Model
    from cpuruntime.port import ConstOutput, Output
    from cpuruntime.streams.topology import Topology
    from cpuruntime.tensor import Tensor

__version__ = "0.1.0"

_HOMES = {
    "AsyncInferQueue": "async_infer_queue",
    "CompiledModel": "compiled_model",
    "ConstOutput": "port",
    "Core": "core",
    "Dimension": "graph.shapes",
    "Explanation": "devices.interface",
    "InferRequest": "infer_request",
    "LatencyAnatomy": "anatomy",
    "Model": "model",
    "Output": "port",
    "PartialShape": "graph.shapes",
    "ProfilingInfo": "devices.interface",
    "Shape": "graph.shapes",
    "StreamPlan": "hints",
    "Tensor": "tensor",
    "Topology": "streams.topology",
    "Type": "graph.types",
    "Version": "core",
    "compile_model": "core",
    "light_model": "light_models",
}

__all__ = [
    "AsyncInferQueue",
    "BusyError",
    "CancelledError",
    "CompiledModel",
    "ConstOutput",
    "Core",
    "DeadlineExceededError",
    "DeviceUnavailableError",
    "Dimension",
    "Error",
    "Explanation",
    "InferRequest",
    "InternalError",
    "InvalidArgumentError",
    "LatencyAnatomy",
    "Model",
    "ModelError",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "Output",
    "OverloadedError",
    "PartialShape",
    "ProfilingInfo",
    "Shape",
    "StreamPlan",
    "Tensor",
    "Topology",
    "Type",
    "UnsupportedError",
    "Version",
    "compile_model",
    "get_version",
    "light_model",
    "properties",
]


def get_version() -> str:
    """The version of the package."""
    return __version__


def __getattr__(name: str) -> Any:
    if name == "properties":
        return import_module("cpuruntime.properties")
    if name not in _HOMES:
        raise AttributeError(f"module 'cpuruntime' has no attribute {name!r}")
    value = getattr(import_module(f"cpuruntime.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
