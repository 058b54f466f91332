"""Tests in this folder take milliseconds: none compiles a kernel or loads one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpuruntime.compiler.build import loaded_kernels

SLOW = ("test_admission.py", "test_index_loads.py", "test_packs.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.is_relative_to(Path(__file__).parent) and item.path.name not in SLOW:
            item.add_marker("quick")


@pytest.fixture(autouse=True, scope="module")
def _no_kernels() -> Iterator[None]:
    """Fails after the last test of a module that compiled or loaded kernels."""
    before = loaded_kernels()
    yield
    assert loaded_kernels() == before, "a test here compiled or loaded a kernel; move it out of tests/unit"
