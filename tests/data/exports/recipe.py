"""What an export is made from: a module, its inputs with symbolic shapes, and the sizes that it is tried at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Sizes = Mapping[str, int]


@dataclass
class Recipe:
    """`inputs` has a shape for each input, of sizes and of symbols that become dynamic axes: `"batch 3 height width"`.

    `cases` has the symbols' sizes, the first for the exporter's own run. `values` has kinds of numbers for
    `support.exports.draw`, "normal" if there is none, or a function from sizes to the numbers themselves.
    """

    module: Any
    inputs: dict[str, str]
    outputs: list[str]
    cases: Sequence[Sizes]
    values: dict[str, str | Callable[[Sizes], Any]] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    dynamo: bool = False
    opset: int = 0
    output_axes: list[dict[int, str]] = field(default_factory=list)

    def dynamic_axes(self, name: str) -> dict[int, str]:
        """The dynamic axes of an input."""
        return {axis: size for axis, size in enumerate(self.inputs[name].split()) if not size.isdigit()}

    def stated_cases(self) -> list[dict[str, Any]]:
        """The cases as the metadata has them."""
        return [{name: self._stated(name, sizes) for name in self.inputs} for sizes in self.cases]

    def _stated(self, name: str, sizes: Sizes) -> list[Any]:
        kind = self.values.get(name, "normal")
        if callable(kind):
            return ["given", kind(sizes)]
        return [kind, [int(size) if size.isdigit() else sizes[size] for size in self.inputs[name].split()]]
