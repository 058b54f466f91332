"""A strict argparse parser and the value types that the commands share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from cpuruntime.errors import InvalidArgumentError, listed, nearest

_OPTION = re.compile(r"--?[A-Za-z]")
_BY_INPUT = re.compile(r"\s*([^\[\]]*?)\s*((?:\[[^\[\]]*\]\s*)+)(?:,|$)")
_IN_BRACKETS = re.compile(r"\[[^\[\]]*\]")


class Parser(argparse.ArgumentParser):
    """Takes whole option names only, so that a mistyped one is an error and never read as a shorter option's value.

    An error is one line on stderr with the nearest option's name, and exit code 2.
    """

    def __init__(self, *, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        for argument in arguments:
            name = argument.partition("=")[0]
            if _OPTION.match(name) and name not in self._option_string_actions:
                if name in ("-V", "--version"):
                    self.error(f"unknown option '{name}'; 'cpuruntime --version' prints it.")
                self.error(f"unknown option '{name}'.{nearest(name, self._option_string_actions)}")
        return super().parse_args(arguments, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            hint = nearest(str(value), choices)
            raise argparse.ArgumentError(action, f"invalid choice: '{value}'.{hint} Choose from {listed(choices)}.")

    def error(self, message: str) -> NoReturn:
        sentence = message if message.endswith((".", "?")) else f"{message}."
        self.exit(2, f"{self.prog}: error: {sentence} '{self.prog} -h' lists the options.\n")


def boolean(text: str) -> bool:
    """YES/NO, true/false, t/f, y/n or 1/0 in any case."""
    folded = text.casefold()
    if folded in ("yes", "true", "t", "y", "1"):
        return True
    if folded in ("no", "false", "f", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is no boolean; give YES or NO")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _at_least(text, 1)


def non_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(text, 0)


def positive_seconds(text: str) -> float:
    """A number greater than 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' must be a number greater than 0")
    return value


def percentile(text: str) -> float:
    """A number from 1 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number from 1 to 100")
    return value


def parse_shapes(text: str, names: Sequence[str]) -> dict[str, str]:
    """`in1[1,3,224,224],in2[1,4]`, or `[1,3,224,224]` for every input, as {input name: shape text}.

    Raises InvalidArgumentError when `text` has another form or names an input that is not in `names`.
    """
    example = '"input1[1,3,224,224],input2[1,4]" or "[1,3,224,224]"'
    shapes: dict[str, str] = {}
    for name, values in parse_by_input("-shape", text, names, example, 1):
        for target in [name] if name else names:
            shapes[target] = values[0]
    return shapes


def parse_by_input(
    option: str, text: str, names: Sequence[str], example: str, most: int | None = None
) -> list[tuple[str, list[str]]]:
    """`in1[..][..],in2[..]` as pairs of an input's name, empty where none is given, and what is in brackets.

    Raises InvalidArgumentError when `text` has another form, more than `most` brackets for an input, or a name that is
    not in `names`.
    """
    found = []
    position = 0
    while position < len(text):
        match = _BY_INPUT.match(text, position)
        values = _IN_BRACKETS.findall(match[2]) if match else []
        if match is None or (most is not None and len(values) > most):
            raise InvalidArgumentError(f"{option} '{text}' cannot be read at '{text[position:]}'; write {example}.")
        if match[1] and match[1] not in names:
            raise InvalidArgumentError(
                f"{option} names '{match[1]}', and the model's inputs are {listed(names)}.{nearest(match[1], names)}"
            )
        found.append((match[1], values))
        position = match.end()
    return found


def parse_per_device(option: str, text: str, device: str) -> str:
    """The value for `device` from `4` or from `CPU:4,GPU:2`. Raises InvalidArgumentError when there is none."""
    if ":" not in text:
        return text
    values: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = part.partition(":")
        if not separator or not name or not value:
            raise InvalidArgumentError(f"{option} '{text}': '{part}' is not of the form <device>:<value>.")
        values[name.strip()] = value.strip()
    if device not in values:
        raise InvalidArgumentError(
            f"{option} '{text}' has no value for {device}, the device of -d.{nearest(device, values)}"
        )
    return values[device]


def _at_least(text: str, low: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least {low}")
    return value
