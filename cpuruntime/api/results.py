"""What an inference returns."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView

import numpy as np

from cpuruntime.api.ports import ConstOutput, Ports
from cpuruntime.errors import listed, nearest, printable


class OVDict(Mapping[ConstOutput, np.ndarray]):
    """The outputs of one inference: an ordered mapping by port, also by name or index (negative ones from the end).

    Iterating yields the ports. A key that is not there raises KeyError,
    one of another kind TypeError.
    """

    __slots__ = ("_arrays", "_ports")

    def __init__(self, arrays: Sequence[np.ndarray], ports: Ports) -> None:
        self._arrays = arrays
        self._ports = ports

    def __getitem__(self, key: ConstOutput | int | str) -> np.ndarray:
        found = self._ports.output_positions.get(key)
        if found is not None:
            return self._arrays[found]
        if isinstance(key, int) and -len(self._arrays) <= key < 0:
            return self._arrays[key]
        if isinstance(key, ConstOutput) and key.any_name in self._ports.output_positions:
            return self._arrays[self._ports.output_positions[key.any_name]]
        if not isinstance(key, (ConstOutput, int, str)):
            raise TypeError(f"Unknown key type: {type(key)}. Give an output's index, name or port.")
        names = [port.any_name for port in self._ports.outputs]
        hint = nearest(key, names) if isinstance(key, str) else ""
        raise KeyError(f"No output {printable(repr(key))}.{hint} The model has {len(names)}: {listed(names)}.")

    def __iter__(self) -> Iterator[ConstOutput]:
        return iter(self._ports.outputs)

    def __len__(self) -> int:
        return len(self._ports.outputs)

    def names(self) -> tuple[set[str], ...]:
        """The names of each output."""
        return tuple(port.names for port in self._ports.outputs)

    def to_dict(self) -> dict[ConstOutput, np.ndarray]:
        """The arrays by port."""
        return dict(zip(self._ports.outputs, self._arrays))

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
