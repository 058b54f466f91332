"""Names of devices as users write them: NAME, NAME.ID, or NAME:ARGUMENTS for a device that runs other devices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cpuruntime.errors import InvalidArgumentError, WrongTypeError

_ITEM = re.compile(r"(-?)([A-Za-z_][A-Za-z_0-9]*)(?:\.([A-Za-z_0-9.]+))?(?:\(([0-9]{1,6})\))?")
_RULE = (
    "a device name is NAME, NAME.ID or NAME:ARGUMENTS, such as CPU, GPU.0 or MULTI:CPU(4),GPU.1; ARGUMENTS are NAME, "
    "NAME.ID, NAME(NUMBER) or -NAME, separated by commas"
)


@dataclass(frozen=True, slots=True)
class Argument:
    """One device in the arguments of another, as NAME or NAME.ID.

    `number` stands in parentheses behind it, at least 1; the other device gives it a meaning. `excluded` says whether a
    minus stands before it.
    """

    device: str
    number: int | None = None
    excluded: bool = False

    def __str__(self) -> str:
        number = "" if self.number is None else f"({self.number})"
        return f"{'-' * self.excluded}{self.device}{number}"


@dataclass(frozen=True, slots=True)
class DeviceName:
    """A device name, parsed: `id` names one instance of the device, `arguments` the devices that it is to run."""

    name: str
    id: str = ""
    arguments: tuple[Argument, ...] = ()

    def __str__(self) -> str:
        name = f"{self.name}.{self.id}" if self.id else self.name
        return f"{name}:{','.join(map(str, self.arguments))}" if self.arguments else name


def parse(text: Any) -> DeviceName:
    """The parsed form of a device name; whether there is such a device is not checked.

    Raises:
        InvalidArgumentError: it breaks the rule, or names a device twice in its arguments.
    """
    if not isinstance(text, str):
        raise WrongTypeError(f"Unknown device {text!r}: it must be a str; {_RULE}.")
    head, colon, tail = text.partition(":")
    found = _ITEM.fullmatch(head)
    if found is None or found[1] or found[4] or (colon and found[3]):
        raise InvalidArgumentError(f"Unknown device {text!r}: {_RULE}.")
    arguments = tuple(_argument(part, text) for part in tail.split(",")) if colon else ()
    devices = [argument.device for argument in arguments]
    twice = next((device for device in devices if devices.count(device) > 1), None)
    if twice:
        raise InvalidArgumentError(f"Unknown device {text!r}: its arguments name {twice} twice.")
    return DeviceName(found[2], found[3] or "", arguments)


def _argument(part: str, text: str) -> Argument:
    found = _ITEM.fullmatch(part)
    if found is None or (found[1] and found[4]):
        raise InvalidArgumentError(f"Unknown device {text!r}: its argument {part!r} is wrong; {_RULE}.")
    if found[4] and int(found[4]) == 0:
        raise InvalidArgumentError(f"Unknown device {text!r}: the number in {part!r} must be at least 1.")
    device = f"{found[2]}.{found[3]}" if found[3] else found[2]
    return Argument(device, int(found[4]) if found[4] else None, bool(found[1]))
