"""Entry point of the `cpuruntime` command: picks the sub-command and turns errors into one line and an exit code.

Exit codes are benchmark_app's: 0 success, 1 the command failed, 2 wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import cpuruntime as ov
from cpuruntime.cli import benchmark, devices, docs, kernels, list_properties, plan
from cpuruntime.errors import escaped, nearest

COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], None], str]] = {
    "benchmark": (benchmark.parser, benchmark.run, "measure how fast a model is inferred"),
    "devices": (devices.parser, devices.run, "show the devices that are available, and why others are not"),
    "docs": (docs.parser, docs.run, "list the pages of the documentation, or print one"),
    "kernels": (kernels.parser, kernels.run, "build a pack of compiled kernels, list or verify packs"),
    "plan": (plan.parser, plan.run, "show the streams that compiling a model would make, and why"),
    "properties": (list_properties.parser, list_properties.run, "show every property, its values and its default"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments`, by default the process's own, and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"cpuruntime {ov.get_version()}")
        return 0
    if name not in COMMANDS:
        complaint = f"unknown command '{name}'.{nearest(name, COMMANDS)}" if name else "a command is missing."
        print(f"cpuruntime: error: {complaint} 'cpuruntime -h' lists the commands.", file=sys.stderr)
        return 2
    make_parser, run, _ = COMMANDS[name]
    try:
        run(make_parser().parse_args(arguments[1:]))
    except SystemExit as stop:
        return int(stop.code or 0)
    except (ov.Error, OSError) as error:
        return _failed(error)
    except KeyboardInterrupt:
        print("[ ERROR ] Interrupted.", file=sys.stderr)
        return 130
    return 0


def _failed(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # The reader of our output has left. Give the interpreter's last flush somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    sys.stdout.flush()
    print(f"[ ERROR ] {escaped(' '.join(str(error).split()))}", file=sys.stderr)
    return 1


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: cpuruntime COMMAND [OPTIONS]", "", "commands:"]
    lines += [f"  {name.ljust(width)}  {purpose}" for name, (_, _, purpose) in COMMANDS.items()]
    lines += ["", "'cpuruntime COMMAND -h' explains a command; 'cpuruntime --version' prints the version."]
    return "\n".join(lines)


