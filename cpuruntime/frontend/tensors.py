"""Tensors of an ONNX model as NumPy arrays, wherever their data are: in the message, cut out, or in other files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cpuruntime.errors import MESSAGE, ModelError, UnsupportedError, printable
from cpuruntime.frontend.bytes import FileBytes
from cpuruntime.frontend.file import BulkData
from cpuruntime.frontend.folder import ModelFolder, OutsideError
from cpuruntime.graph import Deferred, Type
from cpuruntime.host.memory import check_fits
from cpuruntime.operators.schema import shorten

_LIMIT = 2**63 - 1
_DENSE_LIMIT = 1 << 30
_LATE = 64 * 1024
"""Bytes from which on an array may be read when it is packed: passes look at the content of smaller ones."""


class TensorReader:
    """Turns the tensors of one model into read-only arrays. Used by one thread; close it to release files.

    `folder` holds the model file, and external data may lie only inside it; None for a model that is not a file.
    """

    def __init__(self, bulk: BulkData, folder: ModelFolder | None) -> None:
        self._bulk = bulk
        self._folder = folder
        self._file: tuple[str, FileBytes] | None = None  # the external file last read, and its location
        self._reserved = 0

    def close(self) -> None:
        """Close the model, its folder and the external file."""
        self._close_file()
        self._bulk.close()
        if self._folder is not None:
            self._folder.close()

    def array(self, tensor: onnx.TensorProto, what: str, late: bool = False) -> np.ndarray | Deferred:
        """The tensor's data; `what` names it in errors. Large ones may be read later where `late`.

        ModelError when data and shape disagree.
        """
        shape = check_shape(tensor.dims, tensor.data_type, what)
        element_type = Type.from_onnx(tensor.data_type)
        if element_type.is_dynamic():
            raise ModelError(f"{what} has no element type.")
        if tensor.HasField("segment"):
            raise UnsupportedError(f"{what} is split into segments, which is not supported.")
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if element_type is Type.string and not external:
            array = _strings(tensor, shape, what)
        elif external or tensor.HasField("raw_data"):
            array = self._from_bytes(tensor, element_type, shape, what, late)
            if isinstance(array, Deferred):
                return array
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
            limit = f"{_DENSE_LIMIT >> 20} MiB"
            raise UnsupportedError(f"{what} of shape {shorten(list(shape))} is larger than {limit} when dense.")
        fitting = (values.size,), (values.size, len(shape))
        if values.ndim != 1 or indices.dtype != np.int64 or indices.shape not in fitting:
            raise ModelError(
                f"{what}: {shorten(list(values.shape))} values need int64 indices [N] or [N,{len(shape)}], "
                f"not {indices.dtype}{shorten(list(indices.shape))}."
            )
        self._reserve(size * values.itemsize)
        extents = np.array(shape, np.int64) if indices.ndim == 2 else size
        if np.any(indices < 0) or np.any(indices >= extents):
            raise ModelError(f"{what}: an index lies outside the shape {shorten(list(shape))}.")
        dense = np.zeros(shape, values.dtype)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
        dense.flags.writeable = False
        return dense

    def _from_bytes(
        self, tensor: onnx.TensorProto, element_type: Type, shape: tuple[int, ...], what: str, late: bool
    ) -> np.ndarray | Deferred:
        """External or raw data; sizes are compared before a byte is read or allocated."""
        if element_type is Type.string:
            raise ModelError(f"{what} holds strings, which cannot be raw bytes.")
        needed = (math.prod(shape) * element_type.bitwidth + 7) // 8
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        location, offset, size = _place(tensor, needed, what) if external else ("", 0, self._bulk.size(tensor.raw_data))
        if size != needed:
            raise ModelError(
                f"{what} has {size} bytes of data; its shape {shorten(list(shape))} of {element_type.get_type_name()} "
                f"needs {needed}."
            )
        if late and size >= _LATE and element_type is Type.f32:
            dtype = np.dtype(np.float32)
            deferred = (
                self._external_file(location, offset, size, what).deferred(offset, shape, dtype)
                if external else self._bulk.deferred(tensor.raw_data, shape, dtype)
            )  # fmt: skip
            if deferred is not None:
                return deferred
        data = self._external(location, offset, size, what) if external else self._bulk.find(tensor.raw_data)
        if element_type.bitwidth % 8:
            message = onnx.TensorProto(dims=shape, data_type=element_type.to_onnx(), raw_data=data.tobytes())
            return numpy_helper.to_array(message)
        if element_type is Type.boolean:
            return (data != 0).reshape(shape)
        array = data.view(element_type.to_dtype()).reshape(shape)
        return array if array.flags.aligned else array.copy()

    def _external(self, location: str, offset: int, size: int, what: str) -> np.ndarray:
        return self._external_file(location, offset, size, what).array(offset, offset + size)

    def _external_file(self, location: str, offset: int, size: int, what: str) -> FileBytes:
        """The file of external data, which has so many bytes there."""
        file = self._open(location, what)
        if offset + size > file.size:
            raise ModelError(
                f"{what} has external data at bytes {offset} to {offset + size} of '{printable(location)}', "
                f"which has only {file.size}."
            )
        self._reserve(size)
        return file

    def _reserve(self, size: int) -> None:
        """OutOfMemoryError when data that take no room in the model take more than the machine has."""
        self._reserved += size
        check_fits(self._reserved, "the model's external and sparse data")

    def _open(self, location: str, what: str) -> FileBytes:
        if self._file is None or self._file[0] != location:
            self._close_file()
            self._file = location, self._open_anew(location, what)
        return self._file[1]

    def _open_anew(self, location: str, what: str) -> FileBytes:
        data = f"{what} has external data in '{printable(location)}'"
        if self._folder is None:
            raise ModelError(
                f"{data}, and the model is not read from a file: there is no folder to look in. Give the model's path."
            )
        try:
            return FileBytes(self._folder.open(location), f"{data}, which")
        except OutsideError:
            raise ModelError(f"{data}, which is outside the model's folder.") from None
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(f"{data}, which does not exist.") from None
        except OSError as error:
            raise ModelError(f"{data}, which cannot be opened: {error.strerror}.") from None

    def _close_file(self) -> None:
        if self._file is not None:
            self._file[1].close()
            self._file = None


def check_shape(dims: Any, element_type: int, what: str) -> tuple[int, ...]:
    """The dims as a shape; ModelError when one is negative or the array could not be addressed."""
    shape = tuple(int(dim) for dim in dims)
    if any(dim < 0 for dim in shape):
        raise ModelError(f"{what} has a negative dimension: {shorten(list(shape))}.")
    size = max(Type.from_onnx(element_type).size, 1)
    for dim in shape:
        size *= max(dim, 1)
        if size > _LIMIT:
            raise ModelError(f"{what} has the shape {shorten(list(shape))}, whose size overflows 64 bits.")
    return shape


def _place(tensor: onnx.TensorProto, needed: int, what: str) -> tuple[str, int, int]:
    """The location, offset and length of external data; without a length there are as many bytes as are `needed`."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if "location" not in entries:
        raise ModelError(f"{what} has external data without a location.")
    offset = _count(entries.get("offset", "0"), "offset", what)
    return entries["location"], offset, _count(entries.get("length", str(needed)), "length", what)


def _count(text: str, key: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"{what} has external data with the {key} '{printable(text)}', which is no count of bytes.")
    return int(text)


def _strings(tensor: onnx.TensorProto, shape: tuple[int, ...], what: str) -> np.ndarray:
    _check_count(len(tensor.string_data), shape, what)
    try:
        texts = [text.decode("utf-8") for text in tensor.string_data]
    except UnicodeDecodeError:
        raise ModelError(f"{what} holds a string that is not UTF-8 text.") from None
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
            raise ModelError(
                f"{what} has {stored} packed bytes; its shape {shorten(list(shape))} holds {size} elements."
            )
    else:
        _check_count(stored, shape, what)
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{what} cannot be read: {printable(str(error), MESSAGE)}") from None


def _check_count(stored: int, shape: tuple[int, ...], what: str) -> None:
    if stored != math.prod(shape):
        raise ModelError(
            f"{what} has {stored} elements of data; its shape {shorten(list(shape))} needs {math.prod(shape)}."
        )
