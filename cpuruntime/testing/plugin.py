"""Gives pytest the option `--device`, and only where the conformance suite is among what it runs."""

from __future__ import annotations

import pytest


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the option. A conftest would come too late: pytest reads none of a package given by --pyargs at its start."""
    if any("cpuruntime.testing" in arg.replace("/", ".") and arg != __name__ for arg in args):
        parser.addoption("--device", default="CPU", help="the device that cpuruntime's conformance suite runs on")
