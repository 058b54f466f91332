"""`cpuruntime kernels`: builds a pack of the kernels that models need, lists packs, or verifies them."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cpuruntime as ov
from cpuruntime.cli.model_options import LIGHT
from cpuruntime.cli.parser import Parser
from cpuruntime.compiler import isa
from cpuruntime.compiler.objects import forbidden_symbols
from cpuruntime.errors import InvalidArgumentError, ModelNotFoundError, escaped
from cpuruntime.store import Entry, Pack, kernel_packs, pack_files, problem_of, write_pack

LEVELS = ("x86-64-v3", "x86-64-v4")
WITHOUT_KERNELS = ("+vnni", "+bf16")
"""Extensions of a level that no kernel uses: the level's code is what their processors run."""


def parser() -> argparse.ArgumentParser:
    """The actions and the options of building."""
    options = Parser(
        prog="cpuruntime kernels",
        description="Build a pack of the compiled kernels that models need, list packs, or verify them.",
        epilog="CPURUNTIME_KERNEL_PATH names the packs to use; 'cpuruntime docs cold-start' describes them.",
    )
    add = options.add_argument
    add("action", choices=("build", "list", "verify"))
    add("packs", nargs="*", type=Path, metavar="PACK", help="packs to list or verify (default: those in use)")
    add("--level", type=levels, default=LEVELS, metavar="LEVEL,...",
        help=f"build for these levels of processors (default: {','.join(LEVELS)})")  # fmt: skip
    add("--models", nargs="+", default=[], metavar="MODEL",
        help="build for these models: ONNX files, folders of them, light:NAME")  # fmt: skip
    add("--plans", action="store_true",
        help="plan the models, too, for processors like this one, where its level is built")  # fmt: skip
    add("-o", "--output", type=Path, metavar="PACK", help="the pack to build")
    return options


def run(options: argparse.Namespace) -> None:
    """Builds a pack, or prints a line or more for each pack."""
    if options.action == "build":
        if options.output is None or not options.models or options.packs:
            raise InvalidArgumentError("'kernels build' needs --models and -o, and takes --level and --plans beside.")
        if not options.output.absolute().parent.is_dir() or options.output.is_dir():
            raise InvalidArgumentError(f"-o {options.output}: it must be a file in a folder that there is.")
        build(options.level, found_models(options.models), options.output, options.plans)
        return
    if options.output is not None or options.models or options.plans:
        raise InvalidArgumentError(f"'kernels {options.action}' takes packs only.")
    packs = [opened(path) for path in options.packs]
    if not packs:  # those that cannot be used are a finding of `verify`, and left out elsewhere
        used = options.action == "verify"
        packs = [opened(*file) for file in pack_files()] if used else list(kernel_packs())
    if not packs:
        print("No packs are in use; CPURUNTIME_KERNEL_PATH can name some.")
    for pack in packs:
        print(summary(pack))
        if options.action == "verify":
            verify(pack)
        else:
            tables = [(level, "kernels", entries) for level, entries in pack.levels.items()]
            tables += [(f"models of {size} bytes", "plans", entries) for size, entries in pack.plans.items()]
            for of, what, entries in tables:
                print(f"  {of}: {len(entries)} {what}")
                for entry in sorted(entries.values()):
                    print(f"    {entry.size:8}  {escaped(entry.name)}")


def levels(text: str) -> tuple[str, ...]:
    """The levels in a list of names separated by commas; extensions without kernels of their own are named."""
    names = text.split(",")
    for name in names:
        if name not in (*LEVELS, *WITHOUT_KERNELS):
            known = ", ".join((*LEVELS, *WITHOUT_KERNELS))
            raise argparse.ArgumentTypeError(f"there is no level '{name}'; the levels are {known}")
    found = tuple(dict.fromkeys(name for name in names if name in LEVELS))
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' names no level, only extensions")
    return found


def found_models(names: list[str]) -> list[str]:
    """The models of the options, those of folders by name."""
    found = []
    for name in names:
        if not name.startswith(LIGHT) and Path(name).is_dir():
            found += sorted(map(str, Path(name).glob("*.onnx")))
        elif name.startswith(LIGHT) or Path(name).is_file():
            found.append(name)
        else:
            raise ModelNotFoundError(f"there is no model '{name}'.")
    return found


def build(names: tuple[str, ...], models: list[str], output: Path, with_plans: bool) -> None:
    """Builds each level in a process of its own, then plans in another one, and then writes the pack whole."""
    kernels, plans, made_by = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for level in names:
            file = Path(folder, level)
            work("kernel_worker", f"the kernels of {level}", level, file, *models)
            part = Pack(file)
            made_by = part.made_by
            kernels[level] = contents(part, part.levels[level])
        if with_plans and isa.current().cpu in names:
            file = Path(folder, "plans")
            files = [model for model in models if not model.startswith(LIGHT)]
            work("plan_worker", "the plans", Path(folder, isa.current().cpu), file, *files)
            part = Pack(file)
            plans = {size: contents(part, entries) for size, entries in part.plans.items()}
        write_pack(output, made_by, kernels, plans)
    print(summary(opened(output)))


def work(module: str, what: str, *arguments: str | Path) -> None:
    """Runs a module of this folder in a process of its own."""
    command = [sys.executable, "-m", f"cpuruntime.cli.{module}", *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        raise ov.Error(f"{what} could not be built; nothing was written.")


def contents(pack: Pack, entries: dict[str, Entry]) -> dict[str, tuple[str, bytes]]:
    """Name and content of entries of a pack."""
    return {symbol: (entry.name, pack.read(symbol) or b"") for symbol, entry in entries.items()}


def opened(path: Path, trusted: bool = False) -> Pack:
    """The pack in a file; InvalidArgumentError when it cannot be used."""
    try:
        return Pack(path, trusted)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"pack '{path}' cannot be used: {problem_of(error)}.") from error


def summary(pack: Pack) -> str:
    """A line about a pack."""
    count = ", ".join(f"{len(entries)} for {level}" for level, entries in pack.levels.items())
    makers = ", ".join(f"{name} {text}" for name, text in pack.made_by.items())
    plans = sum(map(len, pack.plans.values()))
    found = f"kernels: {count or 'none'}" + (f"; plans: {plans}" if plans else "")
    return f"{pack.path}: {pack.nbytes / 2**20:.2f} MiB; {found}; made by {escaped(makers)}"


def verify(pack: Pack) -> None:
    """InvalidArgumentError where an object is damaged or calls what no kernel may call."""
    for entries in pack.levels.values():
        for symbol, entry in entries.items():
            try:
                called = ", ".join(sorted(forbidden_symbols(pack.read(symbol) or b"")))
            except ValueError as error:
                raise InvalidArgumentError(f"pack '{pack.path}', kernel {escaped(entry.name)}: {error}.") from error
            if called:
                raise InvalidArgumentError(f"pack '{pack.path}', kernel {escaped(entry.name)}: it calls {called}.")
    for entries in pack.plans.values():
        for key in entries:
            try:
                pack.read(key)
            except ValueError as error:
                raise InvalidArgumentError(f"pack '{pack.path}': {error}.") from error


__all__ = ["parser", "run"]
