"""Calls that OpenVINO has and this package has not: they say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpuruntime.errors import UnsupportedError

EDITED = "graphs are not built or edited here; build the model with the onnx package and read it"
PLUGINS = "devices are registered by entry points of installed packages: `cpuruntime docs devices`"
REMOTE = "no device here has memory of its own"
STORED = (
    "compiled models are not stored, only their kernels, which are cached without being asked; read the model and "
    "compile it again (`cpuruntime docs cold-start`)"
)
FORMATS = "only ONNX models are read; convert the model to ONNX, as with torch.onnx.export"


def refused(name: str, why: str) -> Callable[..., Any]:
    """A function that raises UnsupportedError with the reason."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise UnsupportedError(f"{name}: {why}.")

    refuse.__name__, refuse.__doc__ = name.rpartition(".")[2], f"Raises UnsupportedError: {why}."
    return refuse


convert_model = refused("convert_model", FORMATS)
