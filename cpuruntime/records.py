"""Classes of values that never change, as `dataclass(frozen=True)` makes them, in a seventh of the time.

Python compiles all methods of a dataclass anew for each class, about half a millisecond together, and a start imports a
hundred of them. Here only `__init__` is compiled.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**facts):
        return lambda function: function


T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(kind: type[T]) -> type[T]:
    """Makes a class one of values; what is for dataclasses (`fields`, `replace`) is for these, too.

    Fields have no factories, and the class has no `__post_init__`.
    """
    dataclass(init=False, repr=False, eq=False)(kind)
    declared = fields(kind)  # type: ignore[arg-type]
    compared = attrgetter("__class__", *(field.name for field in declared if field.compare))

    def __eq__(self: Any, other: object) -> bool:
        return compared(self) == compared(other) if isinstance(other, kind) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(compared(self))

    return _with(kind, _init(declared), __eq__, __hash__, __repr__, __setattr__, __delattr__)


@dataclass_transform(eq_default=False)
def entity(kind: type[T]) -> type[T]:
    """Makes a class whose objects may change, and each of which equals itself alone; otherwise as `record`."""
    dataclass(init=False, repr=False, eq=False)(kind)
    return _with(kind, _init(fields(kind)), __repr__)  # type: ignore[arg-type]


def _with(kind: type[T], *methods: Any) -> type[T]:
    """The class with methods that it does not define itself."""
    for method in methods:
        if method.__name__ not in kind.__dict__:
            setattr(kind, method.__name__, method)
    return kind


def _init(declared: Any) -> Any:
    """The method that takes the fields in their order or by name."""
    scope = {f"default_{field.name}": field.default for field in declared if field.default is not MISSING}
    parameters = [f"{f.name}=default_{f.name}" if f"default_{f.name}" in scope else f.name for f in declared]
    values = ", ".join(f"{field.name}={field.name}" for field in declared)
    exec(f"def __init__(self, {', '.join(parameters)}): self.__dict__.update({values})", scope)
    return scope["__init__"]


def __repr__(self: Any) -> str:
    values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
    return f"{type(self).__qualname__}({values})"


def __setattr__(self: Any, name: str, value: Any) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
