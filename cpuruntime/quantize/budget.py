"""Which layers are worth their error: as much time as can be saved within a limit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from cpuruntime.quantize.errors import Difference


@dataclass(frozen=True)
class Limit:
    """What the outputs may differ by: a relative error of at most `error`, a cosine of at least `cosine`."""

    error: float | None = None
    cosine: float | None = None

    def holds(self, found: Difference) -> bool:
        within = self.error is None or found.error <= self.error
        return within and (self.cosine is None or found.cosine >= self.cosine)

    def __str__(self) -> str:
        parts = [f"--max-error {self.error:g}"] if self.error is not None else []
        return " ".join(parts + ([f"--min-cosine {self.cosine:g}"] if self.cosine is not None else []))


def choose(
    errors: Mapping[str, float],
    gains: Mapping[str, float],
    difference: Callable[[Collection[str]], Difference],
    limit: Limit,
) -> list[str]:
    """Layers by falling gain for the square of their error, each kept where the limit holds with it.

    Layers without a gain are left out. `errors` are those of each layer alone.
    """
    least = 1e-12
    order = sorted((name for name in errors if gains[name] > 0), key=lambda n: -gains[n] / (errors[n] ** 2 + least))
    chosen: list[str] = []
    for name in order:
        if limit.holds(difference([*chosen, name])):
            chosen.append(name)
    return chosen
