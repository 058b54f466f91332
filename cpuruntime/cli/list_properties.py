"""`cpuruntime properties`: every property with its values, default, and what it means."""

from __future__ import annotations

import argparse
import textwrap

from cpuruntime.cli.parser import Parser
from cpuruntime.properties import ENVIRONMENT_PREFIX, PROPERTIES, Property

INDENT = "    "
WIDTH = 120


def parser() -> argparse.ArgumentParser:
    """The command has no options of its own."""
    return Parser(
        prog="cpuruntime properties",
        description="Show every property: its name, whether it can be set (RW) or only read (RO), values and default.",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the writable properties, then the others, each with its doc."""
    print(f"A writable property's default also comes from the environment, as {ENVIRONMENT_PREFIX} and its name.")
    for declaration in sorted(PROPERTIES.values(), key=lambda one: (not one.writable, one)):
        print("\n".join(described(declaration)))


def described(declaration: Property) -> list[str]:
    """The lines about one property."""
    head = f"{declaration}  {declaration.mutability}  {declaration.values.rule}"
    if declaration.writable:
        head += f"; default {declaration.default_text()}"
    return ["", *textwrap.wrap(head, WIDTH, subsequent_indent=INDENT),
            *textwrap.wrap(declaration.doc, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)]  # fmt: skip
