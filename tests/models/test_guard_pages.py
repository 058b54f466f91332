"""Crafted indices and attributes, inputs and outputs between pages that cannot be touched: no access beyond them.

The cases run in child processes, since an access beyond an array is a signal.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import FAMILIES, rows
from cases.case import Case
from support.guard_pages import run_child

# Faults of other kinds than memory: the error is of a foreign type. Entries go when they are mended.
KNOWN = {
    "ConvTranspose output_shape 0": "the pass 'transposed_convolution' failed",
    "ConvTranspose output_shape 9": "the pass 'transposed_convolution' failed",
    "CumSum -2147483648 False: ": "could not broadcast",
}
# Cases that there are at least in a family of crafted ones, and results.
CRAFTED = {
    "gather": (300, 40), "scatter": (300, 40), "one_hot": (50, 50), "grid_sample": (200, 200), "regions": (300, 190),
    "ordering": (350, 350), "lengths": (140, 50), "movement": (350, 60), "attributes": (200, 30), "division": (24, 24),
    "windows": (80, 80), "images": (56, 56),
}  # fmt: skip


def run(*families: str) -> dict[str, Any]:
    """The counts of each family."""
    found = json.loads(run_child("guarded_cases.py", *families))
    faults = {name: text for counts in found.values() for name, text in counts["faults"].items()}
    assert not {name: text for name, text in faults.items() if KNOWN.get(name, "\n") not in text}
    return found


def test_crafted_values() -> None:
    found = run(*CRAFTED)
    for family, (cases, results) in CRAFTED.items():
        assert found[family]["cases"] >= cases
        assert found[family]["results"] >= results


def test_every_row() -> None:
    """Vector tails and padding of usual models: loads wider than the tensor are masked at both ends."""
    families = [f"rows {family}" for family in FAMILIES if isinstance(rows(family)[0], Case)]
    for family, counts in run(*families).items():
        assert counts["results"] == counts["cases"] > 0, family


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("writes", [True, False])
def test_an_access_beyond_an_array_is_seen(at_end: bool, writes: bool) -> None:
    """A planted offence, which the child names in its last line."""
    with pytest.raises(AssertionError, match=r"exit -11 at 'one (read|write) beyond'"):
        run_child("planted_access.py", "end" if at_end else "start", "write" if writes else "read")
