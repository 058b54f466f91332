"""What an inference by the public interface finds and leaves. It imports no kernels, as the public objects use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """What an inference finds and leaves; see `again.CALL`. The lists and dicts stay the same.

    Attributes:
        running: empty while no inference runs.
        followed: empty unless memory has to be looked after before an inference.
        owned: the own array of each input.
        bound: the array of each input that inferences read.
        outputs: the array of each output.
        times: two words: when the latest inference that ran again began, and how long it took, in nanoseconds.
        kind: the type of results, which have `_arrays` and `_ports`.
        ports: what results have as `_ports`.
    """

    running: Mapping[Any, Any]
    followed: Mapping[Any, Any]
    owned: Sequence[np.ndarray | None]
    bound: Sequence[np.ndarray | None]
    outputs: Sequence[np.ndarray]
    times: np.ndarray
    kind: type
    ports: object
