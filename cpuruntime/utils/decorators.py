"""The decorator of custom steps of `PrePostProcessor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def custom_preprocess_function(custom_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function itself: one that takes and returns a `StepValue` is a custom step as it is."""
    return custom_function
