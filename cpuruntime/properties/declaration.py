"""Declarations of properties: name, values, default, group, devices, mutability."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from cpuruntime.errors import InvalidArgumentError, UnsupportedError, WrongTypeError, nearest
from cpuruntime.graph import Type
from cpuruntime.properties.any_value import OVAny
from cpuruntime.properties.words import Word

Mutability = Literal["RO", "RW", "WO"]


class Values:
    """The values of a property: `rule` describes them, `names` are the words among them."""

    rule: str = ""
    names: tuple[str, ...] = ()

    def parse(self, value: Any) -> Any:
        """The canonical value of a Python object or text; ValueError where it breaks the rule."""
        raise NotImplementedError

    def wrapped(self, *values: Any) -> Any:
        """The value in a pair that `set_property` takes, which checks it; its kind alone matters here."""
        (value,) = values
        return self.parse(value)

    def text(self, value: Any) -> str:
        """A canonical value as text, which `parse` turns into the same value."""
        return str(value)


class Fact(Values):
    """A value that is only read; `rule` is its type."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def wrapped(self, *values: Any) -> Any:
        raise TypeError(values)


class Anything(Values):
    """A value of a type that `rule` names; unchecked."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def parse(self, value: Any) -> Any:
        return value


class Text(Values):
    """Any text, a path included."""

    rule = "a str or path"

    def parse(self, value: Any) -> str:
        return os.fspath(value)


class Boolean(Values):
    """True or False; as text YES/NO, TRUE/FALSE in any case."""

    rule = "True or False, or YES, NO, TRUE, FALSE as text"
    names = ("YES", "NO", "TRUE", "FALSE")

    def parse(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.upper() in self.names:
            return value.upper() in ("YES", "TRUE")
        raise ValueError(value)

    def wrapped(self, *values: Any) -> Any:
        (value,) = values
        return bool(value) if isinstance(value, (int, float)) else self.parse(value)

    def text(self, value: bool) -> str:
        return "YES" if value else "NO"


LARGEST = 1_000_000
"""The largest number of a property without a maximum of its own; arbitrary, beyond all useful ones."""


class Integer(Values):
    """An integer from `minimum` to `maximum`, or one of `words`, each of which stands for an integer."""

    _TEXT = re.compile("-?[0-9]+")

    def __init__(self, minimum: int, words: Mapping[str, int] | None = None, maximum: int = LARGEST) -> None:
        self.minimum, self.maximum = minimum, maximum
        self.words = dict(words or {})
        self.names = tuple(self.words)
        named = " or ".join(f"{word} ({number})" for word, number in self.words.items())
        self.rule = f"an integer >= {minimum} and <= {maximum} in digits 0-9{named and f', or {named}'}"

    def parse(self, value: Any) -> int:
        if isinstance(value, str):
            number = self.words.get(value.upper())
            number = int(_matched(self._TEXT, value)) if number is None else number
        elif isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(value)
        else:
            number = value.__index__()
        if not self.minimum <= number <= self.maximum and number not in self.words.values():
            raise ValueError(value)
        return number

    def wrapped(self, *values: Any) -> Any:
        (value,) = values
        return value.__index__() if hasattr(value, "__index__") and not isinstance(value, bool) else self.parse(value)


class Number(Values):
    """A number of at least `minimum` and below `limit`."""

    _TEXT = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

    def __init__(self, minimum: float, limit: float = LARGEST) -> None:
        self.minimum, self.limit = minimum, limit
        self.rule = f"a number >= {minimum:.15g} and < {limit:.15g} in digits 0-9"

    def parse(self, value: Any) -> float:
        if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__float__")):
            raise ValueError(value)
        number = float(_matched(self._TEXT, value) if isinstance(value, str) else value)
        if not self.minimum <= number < self.limit:
            raise ValueError(value)
        return number

    def wrapped(self, *values: Any) -> Any:
        (value,) = values
        return float(value) if hasattr(value, "__float__") and not isinstance(value, bool) else self.parse(value)

    def text(self, value: float) -> str:
        return str(value).removesuffix(".0")


def _matched(pattern: re.Pattern[str], text: str) -> str:
    """The text if the pattern matches; Python alone would accept spaces, underscores and digits of other scripts."""
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


class Choice(Values):
    """One member of an enumeration, or its name as text in any case."""

    def __init__(self, members: type[Word]) -> None:
        self.members = members
        self.names = tuple(member.value for member in members)
        self.rule = "one of " + ", ".join(self.names)

    def parse(self, value: Any) -> Word:
        if isinstance(value, str) and not isinstance(value, enum.Enum):
            value = value.upper()
        return self.members(value)

    def text(self, value: Word) -> str:
        return value.value


class Choices(Values):
    """Any number of an enumeration's members, as a set; also one member, or names separated by commas.

    Members that are not in `supported` are refused as unsupported rather than ignored.
    """

    def __init__(self, members: type[Word], supported: Iterable[Word]) -> None:
        self._one = Choice(members)
        self.supported = frozenset(supported)
        self.names = self._one.names
        self.rule = "a set of " + ", ".join(sorted(member.value for member in self.supported))

    def parse(self, value: Any) -> frozenset[Word]:
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",") if name.strip()]
        members = frozenset(self._one.parse(one) for one in value)
        for member in members - self.supported:
            raise UnsupportedError(f"value {member.value!r} is not supported here; use {self.rule}.")
        return members

    def wrapped(self, *values: Any) -> Any:
        (value,) = values
        return {self._one.parse(one) for one in value}

    def text(self, value: Iterable[Word]) -> str:
        return ",".join(sorted(member.value for member in value))


class ShapeSets(Values):
    """Shapes of inputs by name, one dict or several in a list; as text "x[1,64],y[1,64]; x[8,64],y[8,64]". Or NONE."""

    rule = 'dicts of shapes by input, or as text "x[1,64],y[1,64]; x[8,64],y[8,64]", or NONE'
    names = ("NONE",)

    _TEXT = re.compile(r"\s*([^\[\];]+?)\s*\[([0-9,\s]*)\]\s*(?:,|$)")

    def parse(self, value: Any) -> Any:
        if isinstance(value, str):
            if value.upper() == "NONE":
                return "NONE"
            value = [self._parse_one(text) for text in value.split(";") if text.strip()]
        sets = [value] if isinstance(value, Mapping) else list(value)
        return tuple(tuple((str(name), tuple(map(_extent, shape))) for name, shape in one.items()) for one in sets)

    def _parse_one(self, text: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        place = 0
        while place < len(text):
            match = self._TEXT.match(text, place)
            if match is None:
                raise ValueError(text)
            found[match[1]] = [int(extent) for extent in match[2].split(",") if extent.strip()]
            place = match.end()
        return found

    def text(self, value: Any) -> str:
        if value == "NONE":
            return "NONE"
        return "; ".join(",".join(f"{name}{list(shape)}".replace(" ", "") for name, shape in one) for one in value)


def _extent(number: Any) -> int:
    if isinstance(number, bool) or not number.__index__() >= 0:
        raise ValueError(number)
    return int(number)


class ElementType(Values):
    """An element type, as `Type.f32`; also its name, "f32", or another object with `get_type_name()`."""

    _ALIASES: Mapping[str, str] = {"fp32": "f32", "fp16": "f16"}

    def __init__(self, *known: Type) -> None:
        self.names = tuple(one.get_type_name() for one in known)
        self.rule = "one of " + ", ".join(self.names)

    def parse(self, value: Any) -> Type:
        name = value.get_type_name() if hasattr(value, "get_type_name") else value
        if not isinstance(name, str):
            raise ValueError(value)
        name = self._ALIASES.get(name.lower(), name.lower())
        if name not in self.names:
            raise ValueError(value)
        return Type(name)

    def text(self, value: Type) -> str:
        return value.get_type_name()


class Group(enum.Enum):
    """What a property is about; the documentation has a table for each but the last."""

    HINTS = "Hints"
    STREAMS = "Streams and processors"
    COMPILING = "Compiling and measuring"
    DEVICE = "Facts about a device"
    MODEL = "Facts about a compiled model"
    COMPOSED = "Devices over other devices"
    ACCEPTED = "Accepted without effect"
    ELSEWHERE = "Names of other devices' properties"


class Property(str):
    """A declared property. It is its own name, so it serves as a key wherever the name does.

    Attributes:
        values: what the property may be.
        default: the value while nobody sets one.
        group: what it is about.
        devices: the devices that have it; empty for every device. Those of Group.MODEL only compiled models have.
        keyed: whether what is planned or measured for a model depends on it, so that keys of caches contain it.
        mutability: "RO" (read only), "RW", or "WO" (write only).
        doc: one sentence for users.
        unset: what holds while nobody sets one, in words, where a device decides that rather than taking `default`.
    """

    values: Values
    default: Any
    group: Group
    devices: tuple[str, ...]
    keyed: bool
    mutability: Mutability
    doc: str
    unset: str

    def __new__(
        cls,
        name: str,
        values: Values,
        default: Any = None,
        *,
        group: Group = Group.COMPILING,
        devices: tuple[str, ...] = (),
        keyed: bool = False,
        mutability: Mutability = "RW",
        doc: str = "",
        unset: str = "",
    ) -> Property:
        self = super().__new__(cls, name)
        self.values, self.default, self.group, self.devices = values, default, group, devices
        self.keyed, self.mutability, self.doc, self.unset = keyed, mutability, doc, unset
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (str(self),), vars(self)

    def __call__(self, *value: Any) -> Any:
        """Without a value the name; with one the pair (name, OVAny of it) that `set_property` takes and checks.

        Raises WrongTypeError for a value of a kind that the property cannot have.
        """
        if not value:
            return str(self)
        try:
            return str(self), OVAny(self.values.wrapped(*value))
        except UnsupportedError:
            raise
        except (TypeError, ValueError):
            given = ", ".join(map(_shown, value))
            raise WrongTypeError(f"Property {self}: incompatible function arguments: {given}.") from None

    @property
    def writable(self) -> bool:
        """Whether a configuration may hold it."""
        return self.mutability != "RO"

    def replace(self, **changes: Any) -> Property:
        """A copy for a device that differs from the declaration; with another `default` it has no `unset` by itself."""
        unset = "" if "default" in changes else self.unset
        return Property(str(self), **{**vars(self), "unset": unset, **changes})

    def default_text(self) -> str:
        """What holds while nobody sets a value, for users."""
        return self.unset or self.values.text(self.default) or "empty"

    def parse(self, value: Any, source: str = "") -> Any:
        """The canonical form of `value`, which came from `source`, for messages.

        Raises:
            InvalidArgumentError: the property is read only, or the value breaks its rule.
            UnsupportedError: the value is legal and not implemented.
        """
        where = f"{source}: property {self}" if source else f"Property {self}"
        value = value.value if isinstance(value, OVAny) else value
        if not self.writable:
            raise InvalidArgumentError(f"{where} is read only and was given {value!r}.")
        try:
            return self.values.parse(value)
        except UnsupportedError as error:
            raise UnsupportedError(f"{where}: {error}") from None
        except (ValueError, TypeError, OverflowError):
            hint = nearest(value, self.values.names) if isinstance(value, str) else ""
            raise InvalidArgumentError(f"{where}: {_shown(value)} is not {self.values.rule}.{hint}") from None


def fact(name: str, type: str, group: Group, doc: str, devices: tuple[str, ...] = ()) -> Property:
    """A read-only property; `type` is that of its value, in words."""
    return Property(name, Fact(type), group=group, devices=devices, mutability="RO", doc=doc)


def accepted(name: str, values: Values, default: Any, why: str) -> Property:
    """A property of OpenVINO that can be set and has no effect here; `why` says so, without a full stop."""
    return Property(name, values, default, group=Group.ACCEPTED, doc=f"No effect: {why}.")


def elsewhere(name: str, values: Values | None = None) -> Property:
    """A name that programs for OpenVINO mention, of a property that no device here has; read only without `values`."""
    mutability: Mutability = "RO" if values is None else "RW"
    return Property(name, values or Fact("value"), group=Group.ELSEWHERE, mutability=mutability)


def _shown(value: Any) -> str:
    """A value for a message; Python writes no integers of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a value of type {type(value).__name__}"


def declared(name: Any, known: Mapping[str, Property], owner: str) -> Property:
    """The property called `name` among `known`; else InvalidArgumentError about `owner`, as "device CPU"."""
    if not isinstance(name, str):
        raise WrongTypeError(f"Unknown property {_shown(name)} of {owner}: a property is a str.")
    found = known.get(name)
    if found is None:
        hint = nearest(name, known)
        raise InvalidArgumentError(f"Unknown property {name!r} of {owner}.{hint} It has: {', '.join(sorted(known))}.")
    return found
