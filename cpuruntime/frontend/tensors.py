"""Tensors of an ONNX model as NumPy arrays, wherever their data are: in the message, cut out, or in other files."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cpuruntime.errors import ModelError, ModelNotFoundError, UnsupportedError
from cpuruntime.frontend.file import BulkData, FileBytes
from cpuruntime.graph import Type

_LIMIT = 2**63 - 1
_DENSE_LIMIT = 1 << 30


class TensorReader:
    """Turns the tensors of one model into read-only arrays. Used by one thread; close it to release files.

    `folder` holds the model file, and external data may lie only inside it; None for a model that is not a file.
    """

    def __init__(self, bulk: BulkData, path: str | None) -> None:
        self._bulk = bulk
        self._path = path
        self._files: dict[str, FileBytes] = {}

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._bulk.close()

    def array(self, tensor: onnx.TensorProto, what: str) -> np.ndarray:
        """The tensor's data; `what` names it in errors. ModelError when data and shape disagree."""
        shape = check_shape(tensor.dims, tensor.data_type, what)
        element_type = Type.from_onnx(tensor.data_type)
        if element_type.is_dynamic():
            raise ModelError(f"{what} has no element type.")
        if tensor.HasField("segment"):
            raise UnsupportedError(f"{what} is split into segments, which is not supported.")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            array = self._from_bytes(self._external(tensor, what), element_type, shape, what)
        elif element_type is Type.string:
            array = _strings(tensor, shape, what)
        elif tensor.HasField("raw_data"):
            array = self._from_bytes(self._bulk.find(tensor.raw_data), element_type, shape, what)
        else:
            array = _from_fields(tensor, shape, what)
        array.flags.writeable = False
        return array

    def sparse_array(self, tensor: onnx.SparseTensorProto, what: str) -> np.ndarray:
        """The sparse tensor's data as a dense array."""
        values = self.array(tensor.values, f"the values of {what}")
        indices = self.array(tensor.indices, f"the indices of {what}")
        shape = check_shape(tensor.dims, tensor.values.data_type, what)
        size = math.prod(shape)
        if size * values.itemsize > _DENSE_LIMIT:
            raise UnsupportedError(f"{what} of shape {list(shape)} is larger than {_DENSE_LIMIT >> 20} MiB when dense.")
        fitting = (values.size,), (values.size, len(shape))
        if values.ndim != 1 or indices.dtype != np.int64 or indices.shape not in fitting:
            raise ModelError(
                f"{what}: {list(values.shape)} values need int64 indices [N] or [N,{len(shape)}], "
                f"not {indices.dtype}{list(indices.shape)}."
            )
        extents = np.array(shape, np.int64) if indices.ndim == 2 else size
        if np.any(indices < 0) or np.any(indices >= extents):
            raise ModelError(f"{what}: an index lies outside the shape {list(shape)}.")
        dense = np.zeros(shape, values.dtype)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
        dense.flags.writeable = False
        return dense

    def embed(self, tensor: onnx.TensorProto, what: str) -> None:
        """Check the tensor, and bring external data into it."""
        array = self.array(tensor, what)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def _from_bytes(self, data: np.ndarray, element_type: Type, shape: tuple[int, ...], what: str) -> np.ndarray:
        if element_type is Type.string:
            raise ModelError(f"{what} holds strings, which cannot be raw bytes.")
        needed = (math.prod(shape) * element_type.bitwidth + 7) // 8
        if data.size != needed:
            raise ModelError(
                f"{what} has {data.size} bytes of data; its shape {list(shape)} of {element_type.get_type_name()} "
                f"needs {needed}."
            )
        if element_type.bitwidth % 8:
            message = onnx.TensorProto(dims=shape, data_type=element_type.to_onnx(), raw_data=data.tobytes())
            return numpy_helper.to_array(message)
        if element_type is Type.boolean:
            return (data != 0).reshape(shape)
        array = data.view(element_type.to_dtype()).reshape(shape)
        return array if array.flags.aligned else array.copy()

    def _external(self, tensor: onnx.TensorProto, what: str) -> np.ndarray:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "location" not in entries:
            raise ModelError(f"{what} has external data without a location.")
        file = self._open(entries["location"], what)
        offset = _count(entries.get("offset", "0"), "offset", what)
        length = _count(entries.get("length", str(max(file.size - offset, 0))), "length", what)
        if offset + length > file.size:
            raise ModelError(
                f"{what} has external data at bytes {offset} to {offset + length} of '{entries['location']}', "
                f"which has only {file.size}."
            )
        return file.array(offset, offset + length)

    def _open(self, location: str, what: str) -> FileBytes:
        if location not in self._files:
            try:
                self._files[location] = FileBytes(self._locate(location, what))
            except ModelNotFoundError:
                raise ModelError(f"{what} has external data in '{location}', which does not exist.") from None
        return self._files[location]

    def _locate(self, location: str, what: str) -> str:
        """The real path of an external file; ModelError when it is not inside the model's folder."""
        if self._path is None:
            raise ModelError(
                f"{what} has external data in '{location}', and the model is not read from a file: there is "
                "no folder to look in. Give the model's path."
            )
        parts = location.replace("\\", "/").split("/")
        inside = bool(location) and not os.path.isabs(location) and ".." not in parts and "\0" not in location
        # A model that is itself a link brings the folder it points to: model hubs store files so.
        path = os.path.abspath(self._path)
        folders = {os.path.realpath(os.path.dirname(path)), os.path.dirname(os.path.realpath(path))}
        target = os.path.realpath(os.path.join(os.path.dirname(path), location)) if inside else ""
        if not any(os.path.commonpath([folder, target]) == folder for folder in folders if inside):
            raise ModelError(f"{what} has external data in '{location}', which is outside the model's folder.")
        return target


def check_shape(dims: Any, element_type: int, what: str) -> tuple[int, ...]:
    """The dims as a shape; ModelError when one is negative or the array could not be addressed."""
    shape = tuple(int(dim) for dim in dims)
    if any(dim < 0 for dim in shape):
        raise ModelError(f"{what} has a negative dimension: {list(shape)}.")
    if math.prod(max(dim, 1) for dim in shape) * max(Type.from_onnx(element_type).size, 1) > _LIMIT:
        raise ModelError(f"{what} has the shape {list(shape)}, whose size overflows 64 bits.")
    return shape


def _count(text: str, key: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"{what} has external data with the {key} '{text}', which is no count of bytes.")
    return int(text)


def _strings(tensor: onnx.TensorProto, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        texts = [text.decode("utf-8") for text in tensor.string_data]
    except UnicodeDecodeError:
        raise ModelError(f"{what} holds a string that is not UTF-8 text.") from None
    _check_count(len(texts), shape, what)
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(shape)


def _from_fields(tensor: onnx.TensorProto, shape: tuple[int, ...], what: str) -> np.ndarray:
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    stored = len(getattr(tensor, field))
    bits = Type.from_onnx(tensor.data_type).bitwidth
    if bits in (2, 4):
        size = math.prod(shape)
        if stored != -(-size * bits // 8):
            raise ModelError(f"{what} has {stored} packed bytes; its shape {list(shape)} holds {size} elements.")
    else:
        _check_count(stored, shape, what)
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{what} cannot be read: {error}") from None


def _check_count(stored: int, shape: tuple[int, ...], what: str) -> None:
    if stored != math.prod(shape):
        raise ModelError(f"{what} has {stored} elements of data; its shape {list(shape)} needs {math.prod(shape)}.")
