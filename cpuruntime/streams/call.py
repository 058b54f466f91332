"""What an inference by the public interface finds and leaves. It imports no kernels, as the public objects use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cpuruntime.records import record


@record
class Call:
    """What an inference finds and leaves; see `inputs.CALL`. The lists and dicts stay the same.

    Attributes:
        running: empty while no inference runs.
        key, claim: what is put there where inputs are bound and the inference is to be run otherwise.
        empty: dicts that are empty unless memory has to be looked after before an inference.
        owned: the own array of each input.
        bound: the array of each input that inferences read.
        outputs: the array of each output.
        positions: the number of each input by its name, its number and its port.
        port: the type of ports.
        times: two words: when the latest inference that ran again began, and how long it took, in nanoseconds.
        kind: the type of results, which have `_arrays` and `_ports`.
        ports: what results have as `_ports`.
        is_static: whether all arrays keep their shapes.
    """

    running: Mapping[Any, Any]
    key: str
    claim: object
    empty: Sequence[Mapping[Any, Any]]
    owned: list[np.ndarray | None]
    bound: list[np.ndarray | None]
    outputs: list[np.ndarray]
    positions: Mapping[Any, int]
    port: type
    times: np.ndarray
    kind: type
    ports: object
    is_static: bool

    @property
    def is_own(self) -> bool:
        """Whether inferences read the inputs' own arrays and nothing has to be looked after."""
        return not any(self.empty) and all(b is not None and b is own for b, own in zip(self.bound, self.owned))


class Varying(NamedTuple):
    """What changes with the shapes of a request's inputs; see `inputs.CALL`.

    The object `device` has the arrays and their addresses, int64, and as `_current` the `Seen` that they are of.
    `table` is that of its `SeenShapes`.
    """

    device: object
    table: np.ndarray
    inputs: list[np.ndarray | None]
    outputs: list[np.ndarray]
    addresses: np.ndarray
