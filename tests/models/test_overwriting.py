"""Other threads overwrite the bound inputs and outputs while kernels run that read or write by index: no signal.

At 53c12cb TopK followed indices in the output's memory: SIGSEGV within 2000 inferences. A longer run:
`PYTHONPATH=.:tests python tests/support/overwriting.py 60`.
"""

from __future__ import annotations

import pytest
from support.guard_pages import run_child


def test_the_process_survives() -> None:
    done = run_child("overwriting.py", "6")
    assert done.endswith("inferences, 3 writers")
    assert int(done.split()[0]) > 100


def test_a_kernel_that_reads_indices_back_is_seen() -> None:
    with pytest.raises(AssertionError, match=r"exit -11 at 'following'"):
        run_child("planted_follower.py")
