"""Two users on one machine: scripts that run with the ids of another user, where the tests run as root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHER = 54321
"""A user without an entry in the user database."""

two_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

PREAMBLE = """
import os, sys, tempfile
from pathlib import Path
from cpuruntime.host.assignment import ProcessorRequest
from cpuruntime.host.ledger import Ledger
from cpuruntime.store import Folder, cache_folder

def become(effective, real=None):
    os.setgroups([])
    os.setresuid(effective if real is None else real, effective, effective)
"""


def run_script(script: str, *arguments: object, folder: Path | None = None, **variables: str) -> list[str]:
    """The lines that a script printed, to its error output, too; the `variables` of the environment replace HOME's.

    It runs as root, in `folder`, and `become(uid)` in it changes the user.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CPURUNTIME_", "XDG_", "HOME"))}
    command = [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)]
    environment = {**kept, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()
