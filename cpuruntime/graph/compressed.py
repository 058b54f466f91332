"""Constant matrices held in fewer bits than float32: kernels read them as they are, anything else as float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.graph.deferred import Deferred

_F32 = np.dtype(np.float32)


class Compressed(Deferred):
    """Stands for a float32 matrix [K, N]: `(numbers - zeros) * scales`, or 16-bit floating point `numbers`.

    Attributes:
        kind: "u8", "u4", "f16" or "bf16".
        numbers: [K, N], of u4 a byte each.
        group: how many successive rows share a scale; the last group may have fewer. 0 without scales.
        scales: float32 [groups, N], or empty.
        zeros: a number, or u8 [groups, N].
        quantises_rows: whether a product of few rows may take these as 16-bit integers.
        error: what this lost of the float32 matrix that it was made of, root mean square over root mean square; None
            where the model has the numbers.
        note: what else is to be said of it, for people.
    """

    is_read_late = False

    def __init__(
        self, kind: str, numbers: np.ndarray, group: int = 0, scales: np.ndarray | None = None,
        zeros: np.ndarray | int = 0, quantises_rows: bool = True, error: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(numbers.shape, _F32, self._as_float32)
        self.kind, self.numbers, self.group, self.zeros = kind, numbers, group, zeros
        self.scales = np.zeros((0, numbers.shape[1]), np.float32) if scales is None else scales
        self.quantises_rows, self.error = quantises_rows, error
        self.note = ""

    def _as_float32(self) -> np.ndarray:
        if not self.group:
            return self.numbers.astype(np.float32)
        zeros = self.zeros if np.ndim(self.zeros) == 0 else self._spread(np.asarray(self.zeros))
        numbers = self.numbers.astype(np.float32)
        numbers -= zeros
        numbers *= self._spread(self.scales)
        return numbers

    def _spread(self, of_groups: np.ndarray) -> np.ndarray:
        """A row for each row of the matrix."""
        return np.repeat(of_groups, self.group, 0)[: self.shape[0]]

    def __mul__(self, factor: np.ndarray) -> Deferred | np.ndarray:
        """Factors of columns go into the scales."""
        if not self.group or np.shape(factor) not in ((), (1,), (self.shape[1],), (1, self.shape[1])):
            return super().__mul__(factor)
        scales = (self.scales * np.asarray(factor)).astype(np.float32)
        return self._like(self.numbers, scales, self.zeros)

    def _like(self, numbers: np.ndarray, scales: np.ndarray, zeros: np.ndarray | int) -> Compressed:
        return Compressed(self.kind, numbers, self.group, scales, zeros, self.quantises_rows, self.error)

    def parts(self) -> list[np.ndarray]:
        """The arrays that it consists of."""
        return [self.numbers, self.scales, np.asarray(self.zeros)]

    def outline(self) -> Compressed:
        """The same without the numbers, in next to no memory."""
        numbers, scales, zeros = (np.broadcast_to(np.zeros((), part.dtype), part.shape) for part in self.parts())
        return self._like(numbers, scales, zeros if zeros.ndim else int(self.zeros))

    @classmethod
    def joined(cls, matrices: list[Any]) -> Compressed | None:
        """Matrices of the same form side by side; None where they differ in it."""
        first = matrices[0]
        if not all(isinstance(each, Compressed) and each.form == first.form for each in matrices):
            return None
        numbers, scales = (np.concatenate(parts, 1) for parts in zip(*((m.numbers, m.scales) for m in matrices)))
        zeros = first.zeros if np.ndim(first.zeros) == 0 else np.concatenate([each.zeros for each in matrices], 1)
        errors = [each.error for each in matrices if each.error is not None]
        return cls(first.kind, numbers, first.group, scales, zeros, first.quantises_rows, max(errors, default=None))

    @property
    def form(self) -> tuple[Any, ...]:
        """What matrices have in common that can be joined."""
        zero = self.zeros if np.ndim(self.zeros) == 0 else None
        return self.kind, self.group, self.shape[0], zero, self.quantises_rows
