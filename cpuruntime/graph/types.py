"""Element types, named as OpenVINO names them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from cpuruntime.errors import UnsupportedError, WrongIndexError, WrongTypeError, nearest

# name: (name shown by repr, bits, kind, NumPy type or its name in ml_dtypes, number in onnx.TensorProto.DataType)
# kind: "b" boolean, "f" floating point, "i" signed integer, "u" unsigned integer, "s" string, "d" not known yet
_TABLE: dict[str, tuple[str, int, str, Any, int]] = {
    "boolean": ("char", 8, "b", np.bool_, 9),
    "bf16": ("bfloat16", 16, "f", "bfloat16", 16),
    "f16": ("float16", 16, "f", np.float16, 10),
    "f32": ("float32", 32, "f", np.float32, 1),
    "f64": ("double64", 64, "f", np.float64, 11),
    "i2": ("int2_t", 2, "i", "int2", 26),
    "i4": ("int4_t", 4, "i", "int4", 22),
    "i8": ("int8_t", 8, "i", np.int8, 3),
    "i16": ("int16_t", 16, "i", np.int16, 5),
    "i32": ("int32_t", 32, "i", np.int32, 6),
    "i64": ("int64_t", 64, "i", np.int64, 7),
    "u2": ("uint2_t", 2, "u", "uint2", 25),
    "u4": ("uint4_t", 4, "u", "uint4", 21),
    "u8": ("uint8_t", 8, "u", np.uint8, 2),
    "u16": ("uint16_t", 16, "u", np.uint16, 4),
    "u32": ("uint32_t", 32, "u", np.uint32, 12),
    "u64": ("uint64_t", 64, "u", np.uint64, 13),
    "f4e2m1": ("f4e2m1", 4, "f", "float4_e2m1fn", 23),
    "f6e2m3": ("f6e2m3", 6, "f", "float6_e2m3fn", 27),
    "f6e3m2": ("f6e3m2", 6, "f", "float6_e3m2fn", 28),
    "f8e4m3": ("f8e4m3", 8, "f", "float8_e4m3fn", 17),
    "f8e4m3fnuz": ("f8e4m3fnuz", 8, "f", "float8_e4m3fnuz", 18),
    "f8e5m2": ("f8e5m2", 8, "f", "float8_e5m2", 19),
    "f8e5m2fnuz": ("f8e5m2fnuz", 8, "f", "float8_e5m2fnuz", 20),
    "f8e8m0": ("f8e8m0", 8, "f", "float8_e8m0fnu", 24),
    "string": ("string", 64, "s", object, 8),
    "dynamic": ("dynamic", 0, "d", None, 0),
    # Types that ONNX lacks: their numbers are negative, and arrays of them hold packed bytes.
    "u1": ("uint1_t", 1, "u", np.uint8, -1),
    "u3": ("uint3_t", 3, "u", np.uint8, -3),
    "u6": ("uint6_t", 6, "u", np.uint8, -6),
    "nf4": ("nfloat4", 4, "u", np.uint8, -4),
}
_QUANTIZED = {"i4", "i8", "i32", "u8", "nf4", "f4e2m1", "f8e4m3", "f8e5m2", "f8e8m0"}


class Type:
    """One element type: `Type.f32`, `Type(np.float32)`, `Type("float32")`; there is one object for each type.

    A `Type` equals its NumPy counterpart: `Type.f32 == np.float32`. Strings are held in NumPy arrays of objects;
    `Type.dynamic` means that the type is not known and has no NumPy counterpart. Types narrower than a byte take one
    byte an element in NumPy arrays.
    """

    __slots__ = ("_bits", "_dtype", "_kind", "_label", "_name", "_onnx")
    _members: ClassVar[dict[str, Type]] = {}
    _by_dtype: ClassVar[dict[np.dtype[Any], Type]] = {}
    _by_onnx: ClassVar[dict[int, Type]] = {}
    _rare: ClassVar[list[str]] = []

    boolean: ClassVar[Type]
    bf16: ClassVar[Type]
    f16: ClassVar[Type]
    f32: ClassVar[Type]
    f64: ClassVar[Type]
    i2: ClassVar[Type]
    i4: ClassVar[Type]
    i8: ClassVar[Type]
    i16: ClassVar[Type]
    i32: ClassVar[Type]
    i64: ClassVar[Type]
    u2: ClassVar[Type]
    u4: ClassVar[Type]
    u8: ClassVar[Type]
    u16: ClassVar[Type]
    u32: ClassVar[Type]
    u64: ClassVar[Type]
    f4e2m1: ClassVar[Type]
    f6e2m3: ClassVar[Type]
    f6e3m2: ClassVar[Type]
    f8e4m3: ClassVar[Type]
    f8e4m3fnuz: ClassVar[Type]
    f8e5m2: ClassVar[Type]
    f8e5m2fnuz: ClassVar[Type]
    f8e8m0: ClassVar[Type]
    string: ClassVar[Type]
    dynamic: ClassVar[Type]
    u1: ClassVar[Type]
    u3: ClassVar[Type]
    u6: ClassVar[Type]
    nf4: ClassVar[Type]

    _name: str
    _label: str
    _bits: int
    _kind: str
    _dtype: np.dtype[Any] | None
    _onnx: int

    def __new__(cls, dtype: Any) -> Type:
        """The type of a NumPy type, of a Python type, or of a name such as "f32" or "float32".

        Raises WrongTypeError when there is none.
        """
        if isinstance(dtype, Type):
            return dtype
        if isinstance(dtype, str) and dtype in cls._members:
            return cls._members[dtype]
        found = cls._of_dtype(dtype)
        if found is None:
            names = [*cls._members, *map(str, cls._by_dtype)]
            hint = nearest(dtype, names) if isinstance(dtype, str) else ""
            raise WrongTypeError(f"{dtype!r} is not an element type.{hint} Known: {', '.join(cls._members)}.")
        return found

    @classmethod
    def _of_dtype(cls, dtype: Any) -> Type | None:
        if dtype is None:
            return None
        found = cls._of_known(dtype)
        if found is None and cls._rare:
            cls._define_rare()
            found = cls._of_known(dtype)
        return found

    @classmethod
    def _of_known(cls, dtype: Any) -> Type | None:
        try:
            key = np.dtype(dtype)
        except (TypeError, ValueError):
            return None
        if key.kind in "SUOT":
            return cls.string
        return cls._by_dtype.get(key)

    @classmethod
    def _define(cls, name: str, label: str, bits: int, kind: str, dtype: Any, onnx_number: int) -> None:
        member = object.__new__(cls)
        member._name, member._label, member._bits, member._kind = name, label, bits, kind
        member._onnx = onnx_number
        cls._members[name] = member
        if onnx_number >= 0:
            cls._by_onnx[onnx_number] = member
        if isinstance(dtype, str):
            cls._rare.append(name)
        else:
            member._dtype = None if dtype is None else np.dtype(dtype)
            if onnx_number >= 0 and dtype is not None:
                cls._by_dtype[member._dtype] = member
        setattr(cls, name, member)

    @classmethod
    def _define_rare(cls) -> None:
        """Looks the types of ml_dtypes up, which few models have and which take milliseconds to import. Thread-safe."""
        import ml_dtypes

        for name in tuple(cls._rare):
            member = cls._members[name]
            member._dtype = np.dtype(getattr(ml_dtypes, _TABLE[name][3]))
            cls._by_dtype[member._dtype] = member
        cls._rare.clear()

    def __getattr__(self, name: str) -> Any:
        if name != "_dtype":
            raise AttributeError(f"'Type' object has no attribute {name!r}")
        Type._define_rare()
        return self._dtype

    @classmethod
    def from_onnx(cls, element_type: int) -> Type:
        """The type with this number in `onnx.TensorProto.DataType`; UnsupportedError for complex and unknown ones."""
        found = cls._by_onnx.get(element_type)
        if found is None:
            complex_types = {14: "complex64", 15: "complex128"}
            name = complex_types.get(element_type, "unknown")
            raise UnsupportedError(f"ONNX element type {element_type} ({name}) is not supported.")
        return found

    def to_onnx(self) -> int:
        """The number in `onnx.TensorProto.DataType`: 0, UNDEFINED, for `Type.dynamic`; negative where ONNX has none."""
        return self._onnx

    def to_dtype(self) -> np.dtype[Any]:
        """The NumPy type of arrays of this type; WrongIndexError for `Type.dynamic`."""
        if self._dtype is None:
            raise WrongIndexError("Type.dynamic has no NumPy type: the element type is not known yet.")
        return self._dtype

    def get_type_name(self) -> str:
        """The short name, such as "f32"."""
        return self._name

    to_string = get_type_name
    type_name = property(get_type_name)

    @property
    def size(self) -> int:
        """Bytes of one element in an array; 1 for types narrower than a byte, 0 for `Type.dynamic`."""
        return (self._bits + 7) // 8

    @property
    def bitwidth(self) -> int:
        """Bits of one element's value."""
        return self._bits

    def get_size(self) -> int:
        """The same as `size`."""
        return self.size

    def get_bitwidth(self) -> int:
        """The same as `bitwidth`."""
        return self._bits

    def is_quantized(self) -> bool:
        """Whether OpenVINO counts it among the types of quantised values."""
        return self._name in _QUANTIZED

    def is_real(self) -> bool:
        """Whether this is a floating-point type."""
        return self._kind == "f"

    def is_integral(self) -> bool:
        """Whether this is an integer or boolean type; as in OpenVINO also where the type is not known."""
        return self._kind in "iubd"

    def is_integral_number(self) -> bool:
        """Whether this is an integer type (boolean is not)."""
        return self._kind in "iu"

    def is_signed(self) -> bool:
        """Whether values may be negative; OpenVINO counts boolean among these."""
        return self._kind in "fib"

    real, integral, signed = property(is_real), property(is_integral), property(is_signed)
    integral_number, quantized = property(is_integral_number), property(is_quantized)

    def is_dynamic(self) -> bool:
        """Whether the type is not known."""
        return self._kind == "d"

    def is_static(self) -> bool:
        """Whether the type is known."""
        return not self.is_dynamic()

    def compatible(self, other: Any) -> bool:
        """Whether a value of one type may meet the other: they are equal, or one of them is not known."""
        other = Type(other)
        return self is other or self.is_dynamic() or other.is_dynamic()

    def merge(self, other: Any) -> Type | None:
        """The type that both may be: the known one where the other is not known. None where they differ."""
        other = Type(other)
        return (other if self.is_dynamic() else self) if self.compatible(other) else None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Type):
            return self is other
        if isinstance(other, str) and other == self._name:
            return True
        return Type._of_dtype(other) is self

    def __hash__(self) -> int:
        return hash(self._dtype)

    def __repr__(self) -> str:
        return f"<Type: '{self._label}'>"

    def __reduce__(self) -> tuple[type[Type], tuple[str]]:
        return Type, (self._name,)

    @classmethod
    def members(cls) -> Iterator[Type]:
        """All types that ONNX has."""
        return iter(cls._by_onnx.values())


for _name, _row in _TABLE.items():
    Type._define(_name, *_row)
