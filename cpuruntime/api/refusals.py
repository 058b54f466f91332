"""Calls that OpenVINO has and this package has not: they say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpuruntime.errors import UnsupportedError

EDITED = "graphs are not built or edited here; build the model with the onnx package and read it"
PLUGINS = "devices are registered by entry points of installed packages: `cpuruntime docs devices`"
COMPILED_THERE = "send the model's file or bytes, and compile them in the other process"
OPSETS = "graphs are not built here; build the model with the onnx package, or convert it to ONNX, and read it"
FORMATS = "only ONNX models are read; convert the model to ONNX, as with torch.onnx.export"


def refused(name: str, why: str) -> Callable[..., Any]:
    """A function that raises UnsupportedError with the reason."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise UnsupportedError(f"{name}: {why}.")

    refuse.__name__, refuse.__doc__ = name.rpartition(".")[2], f"Raises UnsupportedError: {why}."
    return refuse


def not_pickled(what: str, remedy: str) -> Callable[[Any], Any]:
    """A `__reduce__` that raises TypeError with what to do in place of it."""

    def refuse(self: Any) -> Any:
        raise TypeError(f"{what} cannot be pickled: {remedy}.")

    return refuse


class _Refused:
    """No object can be made."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        raise UnsupportedError(f"{cls.__name__}: {cls.__doc__}.")


class Extension(_Refused):
    __doc__ = EDITED


class OpExtension(Extension):
    __doc__ = EDITED


class Op(_Refused):
    __doc__ = OPSETS


MISSING = {
    **dict.fromkeys(("op", "experimental", *(f"opset{number}" for number in range(1, 18))), OPSETS),
    "tools": FORMATS,
    **dict.fromkeys(("VAContext", "VASurfaceTensor"), "there are no tensors in memory of video decoders"),
    "package_utils": "its functions are about OpenVINO's own package",
}
"""Names of OpenVINO's that are not here, with the reason."""


convert_model = refused("convert_model", FORMATS)
