"""Entry point of the `cpuruntime` command: picks the sub-command and turns errors into one line and an exit code.

Exit codes are benchmark_app's: 0 success, 1 the command failed, 2 wrong usage; 130 after Ctrl-C. A command may return
others of its own. Its module is imported when it is called, so that Ctrl-C and closed output have their line from the
first moment.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cpuruntime import get_version
from cpuruntime.errors import Error, InvalidArgumentError, escaped, nearest

COMMANDS = {
    "benchmark": "measure how fast a model is inferred",
    "cache": "list, verify, prune or export the compiled models of a cache",
    "compare": "find out whether an installation, or a configuration, became slower",
    "devices": "show the devices that are available, and why others are not",
    "docs": "list the pages of the documentation, or print one",
    "history": "show stored comparisons over time, and where they changed",
    "kernels": "build a pack of compiled kernels, list or verify packs",
    "plan": "show the streams that compiling a model would make, and why",
    "quantize": "write a model of 8 bits from a float32 one and samples, and report what changes",
    "properties": "show every property, its values and its default",
}
"""What each command does; its module has the functions `parser` and `run`."""

_MODULES = {"benchmark": "benchmark.command", "properties": "list_properties"}
_OF_OUTPUT = (errno.EBADF, errno.EIO, errno.ENOSPC, errno.EPIPE)
_HELP, _VERSION = ("-h", "--help", "help"), ("-V", "--version", "version")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments`, by default the process's own, and returns its exit code."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the whole process
    if sys.stdout is None:
        return _failed("Standard output is closed; send it to /dev/null to have none.")
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments))
        return _unwritten() or code
    except KeyboardInterrupt:
        print("[ ERROR ] Interrupted.", file=sys.stderr)
        return 130
    except Error as error:
        return _failed(str(error))
    except OSError as error:
        if error.filename is not None:
            return _failed(f"{error.filename}: {error.strerror}.")
        return _unwritten(error if error.errno in _OF_OUTPUT else None) or _failed(str(error))


def _main(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in _HELP:
        print(_usage())
        return 0
    if name in _VERSION:
        print(f"cpuruntime {get_version()}")
        return 0
    if name not in COMMANDS:
        complaint = f"unknown command '{name}'.{nearest(name, COMMANDS)}" if name else "a command is missing."
        print(f"cpuruntime: error: {complaint} 'cpuruntime -h' lists the commands.", file=sys.stderr)
        return 2
    command = _imported(name)
    try:
        return command.run(command.parser().parse_args(arguments[1:])) or 0
    except SystemExit as stop:
        return int(stop.code or 0)


def _imported(name: str) -> Any:
    """The module of a command. Ctrl-C meanwhile ends the process: some packages swallow it while they are imported."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    try:
        return import_module(f"cpuruntime.cli.{_MODULES.get(name, name)}")
    except ValueError as error:  # of CPURUNTIME_ISA
        raise InvalidArgumentError(str(error)) from None
    finally:
        signal.signal(signal.SIGINT, previous)


def _interrupted(number: int, frame: object) -> None:
    os.write(2, b"[ ERROR ] Interrupted.\n")
    os._exit(130)


def _failed(message: str) -> int:
    print(f"[ ERROR ] {escaped(' '.join(message.split()))}", file=sys.stderr)
    return 1


def _unwritten(error: OSError | None = None) -> int:
    """1 if standard output cannot be written, which a line says unless its reader has left; else 0.

    `error` is one that writing to it has raised.
    """
    try:
        sys.stdout.flush()
    except OSError as raised:
        error = raised
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's last flush
    if error is None:
        return 0
    return 1 if isinstance(error, BrokenPipeError) else _failed(f"Standard output: {error.strerror}.")


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: cpuruntime COMMAND [OPTIONS]", "", "commands:"]
    lines += [f"  {name.ljust(width)}  {purpose}" for name, purpose in COMMANDS.items()]
    lines += ["", "'cpuruntime COMMAND -h' explains a command; 'cpuruntime --version' prints the version."]
    return "\n".join(lines)
