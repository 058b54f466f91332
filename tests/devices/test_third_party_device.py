"""A device of another distribution: built as a wheel, installed, found by its entry point, held to the suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.house import ROOT

SOURCE = ROOT / "tests" / "support" / "third_party"
PLUGIN = "cpuruntime.testing.plugin"


def python(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python in `folder`, with `path` and this source tree among the places for packages."""
    places = os.pathsep.join(str(one) for one in (path, ROOT) if one)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": places, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed to."""
    folder = tmp_path_factory.mktemp("third_party")
    source, target = shutil.copytree(SOURCE, folder / "source"), folder / "target"
    offline = ["--quiet", "--no-deps", "--no-index"]
    built = python(folder, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", str(folder), str(source))
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    done = python(folder, "-m", "pip", "install", *offline, "--target", str(target), str(wheel))
    assert done.returncode == 0, done.stderr
    return target


def suite(installed: Path, device: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the conformance suite as its users do."""
    # an older installation of this source tree has no entry point for pytest yet
    known = entry_points(group="pytest11", name=PLUGIN)
    command = [*(() if known else ("-p", PLUGIN)), "--pyargs", "cpuruntime.testing", "--device", device]
    return python(installed.parent, "-m", "pytest", "-q", "-p", "no:cacheprovider", *command, *options, path=installed)


def test_it_is_listed_and_replaces_no_other(installed: Path) -> None:
    script = "import cpuruntime as ov; core = ov.Core(); print(core.available_devices, core.unavailable_devices)"
    done = python(installed, "-c", f"{script}; print(core.get_versions('CPU'))", path=installed)
    assert done.returncode == 0, done.stderr
    assert "'ACME', 'CARELESS'" in done.stdout
    assert "'GONE'" in done.stdout
    assert "No module named 'acme_device_driver'" in done.stdout
    assert "cpuruntime.devices.cpu" in done.stdout


def test_it_passes_the_suite(installed: Path) -> None:
    done = suite(installed, "ACME")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_device_with_a_fault_fails_the_suite(installed: Path) -> None:
    done = suite(installed, "CARELESS", "-k", "independent or threads or each")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "test_requests_are_independent" in done.stdout


def test_an_unknown_device_fails_the_suite(installed: Path) -> None:
    done = suite(installed, "ACMEE", "-k", "aligned")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "Unknown device 'ACMEE'. Did you mean 'ACME'?" in done.stdout
