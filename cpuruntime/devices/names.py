"""Names of devices as users write them: NAME, NAME.ID, or NAME:ARGUMENTS for a device that runs other devices."""

from __future__ import annotations

import re
from typing import Any

from cpuruntime.errors import InvalidArgumentError, WrongTypeError
from cpuruntime.records import record

_NAME = re.compile(r"(?<![.\w])[A-Za-z_]\w*")
_NUMBER = r"(?:\(([0-9]{1,6})\))?"
_ITEM = re.compile(rf"(-?)([A-Za-z_][A-Za-z_0-9]*)(?:\.([A-Za-z_0-9.]+))?{_NUMBER}")
_BRACKETED = re.compile(rf"\[(.*)\]{_NUMBER}")
_RULE = (
    "a device name is NAME, NAME.ID or NAME:ARGUMENTS, such as CPU, GPU.0 or MULTI:CPU(4),GPU.1; ARGUMENTS are NAME, "
    "NAME.ID, NAME(NUMBER), -NAME or [NAME:ARGUMENTS](NUMBER), separated by commas"
)
_DEEPEST = 8
_ONE_DEVICE = {"BATCH"}
"""Devices that run exactly one other device."""


@record
class Argument:
    """One device in the arguments of another, as NAME, NAME.ID or NAME:ARGUMENTS.

    `number` stands in parentheses behind it, at least 1; the other device gives it a meaning. `excluded` says whether a
    minus stands before it.
    """

    device: str
    number: int | None = None
    excluded: bool = False

    def __str__(self) -> str:
        number = "" if self.number is None else f"({self.number})"
        device = f"[{self.device}]" if ":" in self.device else self.device
        return f"{'-' * self.excluded}{device}{number}"


@record
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

    An argument may have arguments of its own. Without brackets around it they are all that follows, or one device if it
    is BATCH: MULTI:BATCH:CPU(4),REFERENCE is MULTI:[BATCH:CPU(4)],REFERENCE, and AUTO:HETERO:GPU,CPU is
    AUTO:[HETERO:GPU,CPU].

    Raises:
        InvalidArgumentError: it breaks the rule, or names a device twice in its arguments or within itself.
    """
    if not isinstance(text, str):
        raise WrongTypeError(f"Unknown device {text!r}: it must be a str; {_RULE}.")
    if text.count(":") > _DEEPEST:
        raise InvalidArgumentError(f"Unknown device {text[:80]!r}: at most {_DEEPEST} devices have arguments.")
    head, colon, tail = text.partition(":")
    found = _ITEM.fullmatch(head)
    if found is None or found[1] or found[4] or (colon and found[3]):
        raise InvalidArgumentError(f"Unknown device {text!r}: {_RULE}.")
    arguments = tuple(_arguments(tail, text)) if colon else ()
    devices = [argument.device for argument in arguments]
    twice = next((device for device in devices if devices.count(device) > 1), None)
    if twice:
        raise InvalidArgumentError(f"Unknown device {text!r}: its arguments name {twice} twice.")
    if found[2] in {name for device in devices for name in _NAME.findall(device)}:
        raise InvalidArgumentError(f"Unknown device {text!r}: {found[2]} cannot run {found[2]} within itself.")
    return DeviceName(found[2], found[3] or "", arguments)


def called(device: str) -> set[str]:
    """What a device and those that it runs, at any depth, may be called: as written, and by the name alone."""
    target = parse(device)
    return {device, target.name}.union(*(called(one.device) for one in target.arguments))


def _arguments(tail: str, text: str) -> list[Argument]:
    """The arguments in `tail`, which ends the device name `text`."""
    found, parts = [], _split(tail)
    while parts:
        part = parts.pop(0)
        name, colon, _ = part.partition(":")
        bracketed = _BRACKETED.fullmatch(part)
        if colon and name[:1] not in "-[":
            inner = part if name in _ONE_DEVICE else ",".join([part, *parts])
            parts = parts if name in _ONE_DEVICE else []
            found.append(Argument(str(parse(inner))))
        elif bracketed and colon:
            found.append(Argument(str(parse(bracketed[1])), _number(bracketed[2], part, text)))
        else:
            found.append(_argument(part, text))
    return found


def _split(tail: str) -> list[str]:
    """The parts between commas outside of brackets."""
    parts, depth = [""], 0
    for character in tail:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _argument(part: str, text: str) -> Argument:
    found = _ITEM.fullmatch(part)
    if found is None or (found[1] and found[4]):
        raise InvalidArgumentError(f"Unknown device {text!r}: its argument {part!r} is wrong; {_RULE}.")
    device = f"{found[2]}.{found[3]}" if found[3] else found[2]
    return Argument(device, _number(found[4], part, text), bool(found[1]))


def _number(digits: str | None, part: str, text: str) -> int | None:
    if digits and int(digits) == 0:
        raise InvalidArgumentError(f"Unknown device {text!r}: the number in {part!r} must be at least 1.")
    return int(digits) if digits else None
