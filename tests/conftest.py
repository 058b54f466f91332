"""Makes the package and the tests' shared helpers (`from support.kernels import ...`) importable from anywhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_isa: run for each smaller instruction set too, see test_every_isa.py")
