"""What an inference returns."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any

import numpy as np

from cpuruntime.errors import nearest
from cpuruntime.port import ConstOutput


class Results(Mapping[ConstOutput, np.ndarray]):
    """The outputs of one inference: an ordered mapping by port, also by name or index (negative ones from the end).

    Iterating yields the ports, as OpenVINO's OVDict does. A key that is not there raises KeyError.
    """

    __slots__ = ("_arrays", "_ports", "_positions")

    def __init__(
        self, arrays: Sequence[np.ndarray], ports: Sequence[ConstOutput], positions: Mapping[Any, int]
    ) -> None:
        self._arrays = arrays
        self._ports = ports
        self._positions = positions

    def __getitem__(self, key: ConstOutput | int | str) -> np.ndarray:
        found = self._positions.get(key)
        if found is not None:
            return self._arrays[found]
        if isinstance(key, int) and -len(self._arrays) <= key < 0:
            return self._arrays[key]
        if isinstance(key, ConstOutput) and key.any_name in self._positions:
            return self._arrays[self._positions[key.any_name]]
        names = [port.any_name for port in self._ports]
        hint = nearest(key, names) if isinstance(key, str) else ""
        raise KeyError(f"No output {key!r}.{hint} The model has {len(names)}: {', '.join(map(repr, names))}.")

    def __iter__(self) -> Iterator[ConstOutput]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def names(self) -> tuple[set[str], ...]:
        """The names of each output."""
        return tuple(port.names for port in self._ports)

    def to_dict(self) -> dict[ConstOutput, np.ndarray]:
        """The arrays by port."""
        return dict(zip(self._ports, self._arrays))

    def to_tuple(self) -> tuple[np.ndarray, ...]:
        """The arrays in the model's order."""
        return tuple(self._arrays)

    def keys(self) -> KeysView[ConstOutput]:
        """The ports."""
        return self.to_dict().keys()

    def values(self) -> ValuesView[np.ndarray]:
        """The arrays."""
        return self.to_dict().values()

    def items(self) -> ItemsView[ConstOutput, np.ndarray]:
        """Ports with arrays."""
        return self.to_dict().items()

    def __repr__(self) -> str:
        return repr(self.to_dict())
