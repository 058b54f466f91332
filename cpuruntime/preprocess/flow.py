"""What a chain of steps works on: the values so far, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpuruntime.api.layout import Layout
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Type, Value
from cpuruntime.preprocess.words import ColorFormat
from cpuruntime.preprocess.writer import StepWriter, partial_shape


@dataclass
class Flow:
    """The state between two steps.

    Attributes:
        writer: writes nodes.
        values: the planes of the image; but for NV12 and I420 there is one.
        layout: what the dimensions mean now.
        target_layout: what the model, or the user of an output, wants.
        target_type: the element type that the model, or the user of an output, wants.
        target_shape: the model's, as far as it is known.
        color: what the channels mean now.
        where: what messages begin with.
    """

    writer: StepWriter
    values: list[Value]
    layout: Layout
    target_layout: Layout
    target_type: Type
    target_shape: Sequence[int | None] | None
    where: str
    color: ColorFormat = ColorFormat.UNDEFINED

    @property
    def value(self) -> Value:
        """The only plane. Raises InvalidArgumentError where there are several."""
        if len(self.values) != 1:
            raise self.error(f"{self.color.name} has {len(self.values)} planes, and it needs one: convert_color first.")
        return self.values[0]

    @value.setter
    def value(self, value: Value) -> None:
        self.values = [value]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of the only plane, whose rank must be known."""
        shape = self.value.shape
        if shape is None:
            raise self.error("the rank of the tensor must be known: give its shape by tensor().set_shape.")
        return shape

    def axis(self, name: str) -> int:
        """The axis that the layout calls so. Raises InvalidArgumentError where there is none."""
        names = self.layout.names(len(self.shape), self.where)
        if name not in names:
            raise self.error(
                f"layout {self.layout} has no {name}: set_layout says what the dimensions mean, such as NHWC."
            )
        return names.index(name)

    def error(self, text: str) -> InvalidArgumentError:
        """An error of this step."""
        return InvalidArgumentError(f"{self.where}: {text}")

    def describe(self) -> str:
        """The first plane in brackets: shape, layout, element type, colour."""
        color = "" if self.color is ColorFormat.UNDEFINED else f", {self.color.name}"
        return f"({described(self.values[0], self.layout)}{color})"


def described(value: Value, layout: Layout) -> str:
    """Shape, layout and element type, as OpenVINO writes them."""
    return f"{partial_shape(value)}, {'<no layout>' if layout.empty else layout}, {value.element_type.type_name}"


Action = Callable[[Flow], None]


@dataclass(frozen=True)
class Step:
    """One step: how it is called, OpenVINO's words for it, and what it does to the flow."""

    name: str
    words: str
    run: Action


def listed(numbers: Sequence[float]) -> str:
    """Numbers as OpenVINO writes them in its words for a step."""
    return ",".join(f"{number:g}" for number in numbers)


def run(flow: Flow, steps: Sequence[Step], of: str, name: str) -> list[str]:
    """Run steps; a line about each. `of` is what messages call the input or output, `name` its name."""
    lines = []
    for step in steps:
        flow.where = f"{of}, {step.name}"
        flow.writer.prefix = f"{name}/{step.name.partition('(')[0]}"
        before = flow.describe()
        step.run(flow)
        lines.append(f"      {step.words}: {before} -> {flow.describe()}")
    return lines
