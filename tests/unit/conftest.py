"""Tests in this folder take milliseconds: none compiles a kernel or loads one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpuruntime.compiler.build import loaded_kernels


@pytest.fixture(autouse=True, scope="module")
def _no_kernels() -> Iterator[None]:
    """Fails after the last test of a module that compiled or loaded kernels."""
    before = loaded_kernels()
    yield
    assert loaded_kernels() == before, "a test here compiled or loaded a kernel; move it out of tests/unit"
