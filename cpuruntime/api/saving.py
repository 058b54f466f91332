"""Writing models to files."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

from cpuruntime.api.model import Model
from cpuruntime.api.runtime_model import DOMAIN
from cpuruntime.api.runtime_xml import write_xml
from cpuruntime.errors import UnsupportedError
from cpuruntime.frontend.writer import write


def save_model(model: Model, output_model: str | PathLike[str], compress_to_fp16: bool = True) -> None:
    """Write a model as ONNX, with its present shapes and outputs.

    Args:
        model: the model; notes about its nodes become their metadata.
        output_model: the file; it does not end in .xml, since OpenVINO's own format is not written, but for executed
            graphs.
        compress_to_fp16: without effect: weights keep their types.

    Raises:
        WrongTypeError: `model` is none.
        UnsupportedError: the file ends in .xml, or the model cannot be written as ONNX.
        OSError: the file cannot be written.
    """
    Model.checked(model)
    if not fspath(output_model).endswith(".xml"):
        write(model.graph, output_model, model.node_notes())
    elif DOMAIN in model.graph.opsets:
        write_xml(model, output_model)
    else:
        name = fspath(output_model)
        raise UnsupportedError(f"{name!r}: models are written as ONNX; give a name that ends in .onnx.")


def serialize(model: Model, xml_path: str | PathLike[str], bin_path: Any = None, version: Any = None) -> None:
    """The same as `save_model`. `bin_path` and `version` have no effect: an ONNX file holds its weights."""
    save_model(model, xml_path)
