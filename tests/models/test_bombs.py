"""Small models that ask for much are compiled or refused in seconds; each is compiled in a process with limits.

At commit 53c12cb 19 of these took more than 12 seconds or 6 GB to compile; the times there are in no test.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import pytest
from support import bombs

MEMORY = 6 << 30
"""Bytes of address space."""

PROCESSOR_TIME = 60
"""Seconds, several times what the slowest takes: other processes may slow this one."""

REFUSED = {
    "constant_of_shape_16g": r"(OutOfMemoryError: .*14\.9 GiB|compiled)",
    "constant_of_shape_400g": r"OutOfMemoryError: the elements of 'y' need 372\.5 GiB",
    "doublings_of_constant": r"(OutOfMemoryError: .* GiB|compiled)",
    "doublings_of_input": r"OutOfMemoryError: .*GiB",
    "einsum": r"(OutOfMemoryError: .* GiB|compiled)",
    "functions_32768": r"ModelError: the model's functions expand to more than 50000 nodes",
    "functions_500000": r"ModelError: the model's functions expand to more than 50000 nodes",
    "functions_2_40": r"ModelError: the model's functions expand to more than 50000 nodes",
    "regular_expression": r"UnsupportedError: RegexFullMatch .* is not supported: .*Match the strings before",
}

SLOW = frozenset({"kernels", "nested_if"})
"""Run by hand: `python tests/support/bombs.py NAME CPU`. They take 5 to 15 seconds."""


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_TIME, PROCESSOR_TIME))


@pytest.mark.parametrize("name", sorted(bombs.BOMBS.keys() - SLOW))
def test_compiling_ends(name: str) -> None:
    command = [sys.executable, bombs.__file__, name, "CPU"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    expected = REFUSED.get(name, "inferred" if name in bombs.RUN else r"(compiled|UnsupportedError: .*depends on data)")
    assert re.match(expected, line), line
