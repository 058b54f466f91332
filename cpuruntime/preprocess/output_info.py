"""What is said about an output: the model's own tensor, the steps, the user's tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cpuruntime.api.layout import Layout
from cpuruntime.errors import WrongTypeError
from cpuruntime.graph import Type
from cpuruntime.preprocess import steps
from cpuruntime.preprocess.flow import Action, Step, listed
from cpuruntime.preprocess.input_info import as_layout, integers
from cpuruntime.preprocess.writer import StepValue


class OutputTensorInfo:
    """What the user's tensor is like; what is not said is as the model's. Each method returns the object itself."""

    def __init__(self) -> None:
        self.element_type: Type | None = None
        self.layout = Layout()

    def set_element_type(self, type: Any) -> OutputTensorInfo:
        """Its element type."""
        self.element_type = Type(type)
        return self

    def set_layout(self, layout: Layout | str) -> OutputTensorInfo:
        """What its dimensions mean."""
        self.layout = as_layout(layout)
        return self


class OutputModelInfo:
    """What the model's own output is like."""

    def __init__(self) -> None:
        self.layout: Layout | None = None

    def set_layout(self, layout: Layout | str) -> OutputModelInfo:
        """What its dimensions mean."""
        self.layout = as_layout(layout)
        return self


class PostProcessSteps:
    """The steps from the model's tensor to the user's, in the order of the calls. Each returns the object itself."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def _add(self, name: str, words: str, action: Action) -> PostProcessSteps:
        self.steps.append(Step(name, words, action))
        return self

    def convert_element_type(self, type: Any = Type.dynamic) -> PostProcessSteps:
        """Convert the elements; to the user's type where none is given."""
        wanted = Type(type)
        name, words = f"convert_element_type({wanted.type_name})", f"convert type ({wanted.type_name})"
        return self._add(name, words, partial(steps.convert_element_type, element_type=wanted))

    def convert_layout(self, dst_layout: Layout | str | Sequence[int]) -> PostProcessSteps:
        """Transpose to a layout, an empty one is the user's; or, given integers, axis i becomes that of the i-th."""
        if isinstance(dst_layout, (Layout, str)):
            layout = as_layout(dst_layout)
            convert = partial(steps.convert_layout, layout=layout)
            return self._add(f"convert_layout({layout})", f"convert layout {layout}", convert)
        order = integers(dst_layout)
        permute = partial(steps.permute, order=order)
        return self._add(f"convert_layout({order})", f"convert layout ({listed(order)})", permute)

    def custom(self, operation: Callable[[StepValue], StepValue]) -> PostProcessSteps:
        """What a function makes of the value: it writes nodes by `value.apply("Abs")` and returns the last."""
        if not callable(operation):
            raise WrongTypeError(f"{operation!r:.60} is no function: give one that takes and returns a StepValue.")
        return self._add("custom()", "custom", partial(steps.custom, function=operation))


class OutputInfo:
    """What is said about one output."""

    def __init__(self) -> None:
        self._tensor, self._steps, self._model = OutputTensorInfo(), PostProcessSteps(), OutputModelInfo()

    def tensor(self) -> OutputTensorInfo:
        """The user's tensor."""
        return self._tensor

    def postprocess(self) -> PostProcessSteps:
        """The steps."""
        return self._steps

    def model(self) -> OutputModelInfo:
        """The model's own output."""
        return self._model
