"""The bytes of an ONNX model, whose large weights bypass protobuf.

Parsing a model of 100 MB with protobuf copies every weight at least twice. Here the wire format is walked first: long
`raw_data` fields are cut out and replaced by short marks, protobuf parses the rest, and each weight is read once, from
the file into the array that keeps it.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from cpuruntime.errors import InvalidArgumentError, ModelError, ModelNotFoundError, WrongTypeError
from cpuruntime.frontend.bytes import FileBytes, MemoryBytes
from cpuruntime.frontend.folder import ModelFolder
from cpuruntime.graph import Deferred

_SMALL_FILE = 1 << 20
_BULK = 1024
_WINDOW = 16384
_MARK = 16
_LONGEST_MESSAGE = 2**31 - 1
_MOST_STEPS = 1_000_000  # of the walk, in Python; protobuf copies what lies behind

# Field numbers of onnx.proto: the length-delimited fields that may hold bulk data, and what is inside them. Subgraphs
# and functions keep theirs, since others read them whole.
_RAW = "raw_data"
_TENSOR: dict[int, Any] = {9: _RAW}
_NODE: dict[int, Any] = {5: {5: _TENSOR}}
_GRAPH: dict[int, Any] = {1: _NODE, 5: _TENSOR}
_MODEL: dict[int, Any] = {7: _GRAPH}
_FIXED = {1: 8, 5: 4}  # bytes of numbers by their kind in the wire format


class BulkData:
    """The weights cut out of a model, found again by the marks that replace them."""

    def __init__(self, source: FileBytes | MemoryBytes | None = None) -> None:
        self._source = source
        self._secret = secrets.token_bytes(_MARK)
        self._parts: list[tuple[int, int] | bytes] = []

    def mark(self, part: tuple[int, int] | bytes) -> bytes:
        """The mark to put in place of a part: a range of the source, or bytes."""
        self._parts.append(part)
        return self._secret + len(self._parts).to_bytes(8, "little")

    def size(self, raw_data: bytes) -> int:
        """How many bytes `raw_data` stands for, without reading them."""
        part = self._part(raw_data)
        return len(part) if isinstance(part, bytes) else part[1] - part[0]

    def find(self, raw_data: bytes) -> np.ndarray:
        """The bytes that `raw_data` stands for: the part that was cut out when it is a mark, else itself."""
        part = self._part(raw_data)
        if isinstance(part, bytes):
            return np.frombuffer(part, np.uint8)
        if self._source is None:
            raise ModelError("the model refers to data of another model.")
        return self._source.array(*part)

    def deferred(self, raw_data: bytes, shape: tuple[int, ...], dtype: np.dtype) -> Deferred | None:
        """The same as an array that is read when it is used; None where the bytes are in memory."""
        part = self._part(raw_data)
        if isinstance(part, bytes) or not isinstance(self._source, FileBytes):
            return None
        array = self._source.deferred(part[0], shape, dtype)
        array.origin = ("read", part[0], shape, dtype)
        return array

    def _part(self, raw_data: bytes) -> tuple[int, int] | bytes:
        if len(raw_data) != _MARK + 8 or not raw_data.startswith(self._secret):
            return raw_data
        return self._parts[int.from_bytes(raw_data[_MARK:], "little") - 1]

    def close(self) -> None:
        """Close the file the data come from."""
        if self._source is not None:
            self._source.close()


def open_model(model: Any) -> tuple[onnx.ModelProto, BulkData, ModelFolder | None]:
    """The model without its bulk data, the bulk data, and the folder when the model is a file; the caller closes both.

    `model` is a path, bytes, a binary file object or an onnx.ModelProto, which is not changed. Raises
    ModelNotFoundError, ModelError (not an ONNX model, truncated), InvalidArgumentError (none of these types).
    """
    if isinstance(model, onnx.ModelProto):
        proto, bulk = _split_proto(model)
        return proto, bulk, None
    if isinstance(model, (bytes, bytearray, memoryview)):
        return *_parse(MemoryBytes(model), "the model given as bytes"), None
    if isinstance(model, (str, os.PathLike)):
        return _open_file(os.fsdecode(model))
    if hasattr(model, "read"):
        return *_parse(MemoryBytes(_read_all(model)), "the model given as a file object"), None
    raise WrongTypeError(
        f"Provided python object type {type(model)} isn't supported as 'model' argument. A model is a path, bytes, a "
        "binary file object or an onnx.ModelProto."
    )


def _open_file(path: str) -> tuple[onnx.ModelProto, BulkData, ModelFolder]:
    what = f"the model file {path!r}"
    try:
        folder = ModelFolder(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ModelNotFoundError(f"there is no model file {path!r}.") from None
    except OSError as error:
        raise ModelError(f"{what} cannot be opened: {error.strerror}.") from None
    try:
        return *_parse(FileBytes(folder.model, what), what), folder
    except BaseException:
        folder.close()
        raise


def _read_all(stream: BinaryIO) -> bytes | memoryview:
    if isinstance(stream, io.BytesIO):
        return stream.getbuffer()[stream.tell() :].toreadonly()
    data = stream.read()
    if not isinstance(data, bytes):
        raise InvalidArgumentError(f"the file object gives {type(data).__name__}: open the model in binary mode.")
    return data


def _parse(source: FileBytes | MemoryBytes, what: str) -> tuple[onnx.ModelProto, BulkData]:
    try:
        if source.size == 0:
            raise ModelError(f"{what} is empty.")
        bulk = BulkData(source)
        data = source.array(0, source.size).tobytes() if source.size < _SMALL_FILE else _strip_model(source, bulk, what)
        try:
            return onnx.ModelProto.FromString(data), bulk
        except (DecodeError, ValueError, RecursionError):
            raise _not_onnx(what, source.size) from None
    except BaseException:
        source.close()
        raise


def _not_onnx(what: str, size: int) -> ModelError:
    return ModelError(f"{what} ({size} bytes) is not an ONNX model, or it is truncated: its protobuf cannot be parsed.")


def _split_proto(model: onnx.ModelProto) -> tuple[onnx.ModelProto, BulkData]:
    bulk = BulkData()
    proto = onnx.ModelProto()
    for source, target, without in ((model, proto, "graph"), (model.graph, proto.graph, "initializer")):
        for field, value in source.ListFields():
            if field.name != without and field.message_type is None:
                setattr(target, field.name, value)
            elif field.name != without:
                getattr(target, field.name).extend(value)
    for tensor in model.graph.initializer:
        copy = proto.graph.initializer.add()
        raw = tensor.raw_data if tensor.HasField("raw_data") else b""
        if len(raw) < _BULK:
            copy.CopyFrom(tensor)
        else:
            copy.name, copy.data_type, copy.raw_data = tensor.name, tensor.data_type, bulk.mark(raw)
            copy.dims.extend(tensor.dims)
    return proto, bulk


def _strip_model(source: FileBytes | MemoryBytes, bulk: BulkData, what: str) -> bytes:
    try:
        return b"".join(_Stripper(source, bulk).strip(0, source.size, _MODEL))
    except _MalformedError:
        raise _not_onnx(what, source.size) from None


class _MalformedError(Exception):
    """The bytes break the protobuf wire format."""


class _Stripper:
    """Walks messages in the protobuf wire format and cuts out bulk fields."""

    def __init__(self, source: FileBytes | MemoryBytes, bulk: BulkData) -> None:
        self._source = source
        self._bulk = bulk
        self._start = 0
        self._steps = 0
        self._length = 0
        self._window = b""

    def strip(self, start: int, stop: int, fields: dict[int, Any]) -> list[bytes]:
        """The message in [start, stop) without bulk data, in pieces."""
        pieces: list[bytes] = []
        pending = start
        for number, field_start, data_start, data_stop in self._long_fields(start, stop):
            inside = fields.get(number)
            if inside is None:
                continue
            if pending < field_start:
                pieces.append(self._message(pending, field_start))
            if inside is _RAW:
                content = [self._bulk.mark((data_start, data_stop))]
            else:
                content = self.strip(data_start, data_stop, inside)
            pieces += [_varint(number << 3 | 2), _varint(sum(map(len, content))), *content]
            pending = data_stop
        if pending < stop:
            pieces.append(self._message(pending, stop))
        return pieces

    def _message(self, start: int, stop: int) -> bytes:
        """Bytes for protobuf to parse; malformed when they are more than it can."""
        self._length += stop - start
        if self._length > _LONGEST_MESSAGE:
            raise _MalformedError
        return self._source.array(start, stop).tobytes()

    def _long_fields(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """(number, start of the tag, start of the data, end) of each length-delimited field of at least _BULK bytes."""
        position = start
        while position < stop and self._steps < _MOST_STEPS:
            self._steps += 1
            tag, data = self._read_varint(position)
            kind = tag & 7
            if tag < 8:
                raise _MalformedError
            if kind == 0:
                _, end = self._read_varint(data)
            elif kind == 2:
                length, data = self._read_varint(data)
                end = data + length
            else:
                end = data + _FIXED.get(kind, stop + 1)
            if end > stop:
                raise _MalformedError
            if kind == 2 and end - data >= _BULK:
                yield tag >> 3, position, data, end
            position = end

    def _read_varint(self, position: int) -> tuple[int, int]:
        """The number at `position` and where it ends."""
        at = position - self._start
        if not 0 <= at <= len(self._window) - 10:
            self._window, self._start, at = self._source.peek(position, _WINDOW), position, 0
        value = shift = 0
        for byte in self._window[at : at + 10]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, position + shift // 7
        raise _MalformedError


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
