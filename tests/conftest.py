"""Makes the package and the tests' shared helpers (`from support.kernels import ...`) importable from anywhere."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


# A shell starts what runs in the background with SIGINT ignored, which the processes inherit that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Processes that tests start, and they are many, find modules compiled, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# What is measured beside other tests would be kept for users of this machine.
os.environ.setdefault("CPURUNTIME_TUNING_BUDGET_MS", "0")
# Results do not depend on how soon kernels are compiled.
os.environ.setdefault("CPURUNTIME_COMPILE_MODE", "OPTIMIZED")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_isa: run for each smaller instruction set too, see test_every_isa.py")
    config.addinivalue_line("markers", "quick: one of the tests of tests/unit that take a minute together")


def pytest_collection_finish() -> None:
    """Collections of cycles, which some tests ask for, need not look at thousands of tests."""
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m quick` the other folders are not imported, which takes as long as the tests."""
    is_other = collection_path.parent == TESTS and collection_path.is_dir() and collection_path.name != "unit"
    return True if is_other and config.option.markexpr == "quick" else None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in two processes, each test file in one of them: many tests need one core only."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput")
    if is_whole and getattr(config.option, "numprocesses", 0) is None and not config.option.collectonly:
        config.option.numprocesses, config.option.dist = 2, "loadfile"
        config.option.loadscopereorder = False  # tests of threads come before those that keep models


@pytest.fixture(scope="session", autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What else runs on the machine does not change which processors the tests' models get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "CPURUNTIME_LEDGER_DIR", str(tmp_path_factory.mktemp("ledger")))
        yield
