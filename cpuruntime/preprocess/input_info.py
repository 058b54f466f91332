"""What is said about an input: the user's tensor, the steps, the model's own tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from cpuruntime.api.layout import Layout
from cpuruntime.api.tensor import Tensor
from cpuruntime.errors import InvalidArgumentError, WrongTypeError
from cpuruntime.graph import PartialShape, Type
from cpuruntime.preprocess import colors, resizing, steps
from cpuruntime.preprocess.flow import Action, Step, listed
from cpuruntime.preprocess.words import ColorFormat, PaddingMode, ResizeAlgorithm
from cpuruntime.preprocess.writer import StepValue


def checked(value: Any, kind: type, example: str) -> Any:
    """The value. Raises WrongTypeError where it is not of this kind."""
    if not isinstance(value, kind):
        raise WrongTypeError(f"{value!r:.60} is no {kind.__name__}: give one such as {example}.")
    return value


def as_layout(layout: Layout | str) -> Layout:
    """The layout of a text, or itself."""
    return layout if isinstance(layout, Layout) else Layout(layout)


def integers(values: Any) -> list[int]:
    """A list of integers. Raises WrongTypeError for other things."""
    try:
        return [int(value.__index__()) for value in values]
    except (AttributeError, TypeError):
        raise WrongTypeError(f"{values!r:.60} is no list of integers.") from None


def numbers(values: Any) -> list[float]:
    """A list of numbers, from one or several. Raises WrongTypeError for other things."""
    if isinstance(values, (Real, np.number)):
        return [float(values)]
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        found = []
    if not found or isinstance(values, str):
        raise WrongTypeError(f"{values!r:.60} is no number, and no list of numbers.")
    return found


class InputTensorInfo:
    """What the user's tensor is like; what is not said is as the model's. Each method returns the object itself."""

    def __init__(self) -> None:
        self.element_type: Type | None = None
        self.layout: Layout | None = None
        self.shape: PartialShape | None = None
        self.spatial: tuple[int, int] | None = None
        self.color, self.sub_names = ColorFormat.UNDEFINED, [""]
        self.memory_type = ""

    def set_element_type(self, type: Any) -> InputTensorInfo:
        """Its element type."""
        self.element_type = Type(type)
        return self

    def set_layout(self, layout: Layout | str) -> InputTensorInfo:
        """What its dimensions mean."""
        self.layout = as_layout(layout)
        return self

    def set_shape(self, shape: Any) -> InputTensorInfo:
        """Its shape, a PartialShape or what makes one; of NV12 and I420 the image's."""
        self.shape = PartialShape(shape)
        return self

    def set_spatial_static_shape(self, height: int, width: int) -> InputTensorInfo:
        """Its height and width, where its layout has them."""
        self.spatial = tuple(integers([height, width]))  # type: ignore[assignment]
        return self

    def set_spatial_dynamic_shape(self) -> InputTensorInfo:
        """Height and width are known with each image only."""
        self.spatial = (-1, -1)
        return self

    def set_color_format(self, format: ColorFormat, sub_names: Sequence[str] = ()) -> InputTensorInfo:
        """What its channels mean; `sub_names` name the planes, "y" and "uv", or "y", "u" and "v", where not given.

        Raises InvalidArgumentError for another number of names than planes.
        """
        planes = colors.PLANES.get(checked(format, ColorFormat, "ColorFormat.BGR"), ("",))
        if sub_names and len(sub_names) != len(planes):
            raise InvalidArgumentError(
                f"{list(sub_names)} are {len(sub_names)} names; {format.name} has {len(planes)} planes."
            )
        self.color, self.sub_names = format, list(sub_names or planes)
        return self

    def set_memory_type(self, memory_type: str) -> InputTensorInfo:
        """Note it in the input's `rt_info`, and nothing else: there is one kind of memory."""
        self.memory_type = memory_type
        return self

    def set_from(self, tensor: Tensor | np.ndarray) -> InputTensorInfo:
        """Element type and shape of a tensor or array."""
        tensor = Tensor(tensor) if isinstance(tensor, np.ndarray) else checked(tensor, Tensor, "Tensor(array)")
        return self.set_element_type(tensor.element_type).set_shape(tensor.shape)


class InputModelInfo:
    """What the model's own input is like."""

    def __init__(self) -> None:
        self.layout: Layout | None = None

    def set_layout(self, layout: Layout | str) -> InputModelInfo:
        """What its dimensions mean."""
        self.layout = as_layout(layout)
        return self


class PreProcessSteps:
    """The steps from the user's tensor to the model's, in the order of the calls. Each returns the object itself.

    What does not fit is found by `PrePostProcessor.build`.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.layout: Layout | None = None
        self.orders: list[list[int]] = []

    def _add(self, name: str, words: str, action: Action) -> PreProcessSteps:
        self.steps.append(Step(name, words, action))
        return self

    def convert_element_type(self, type: Any = Type.dynamic) -> PreProcessSteps:
        """Convert the elements; to the model's type where none is given."""
        wanted = Type(type)
        name, words = f"convert_element_type({wanted.type_name})", f"convert type ({wanted.type_name})"
        return self._add(name, words, partial(steps.convert_element_type, element_type=wanted))

    def mean(self, value: float | Sequence[float]) -> PreProcessSteps:
        """Subtract a number, or one for each channel. The elements must be real."""
        given = numbers(value)
        subtract = partial(steps.arithmetic, op_type="Sub", numbers=given)
        return self._add(f"mean({given})", f"mean ({listed(given)})", subtract)

    def scale(self, value: float | Sequence[float]) -> PreProcessSteps:
        """Divide by a number, or by one for each channel. The elements must be real."""
        given = numbers(value)
        divide = partial(steps.arithmetic, op_type="Div", numbers=given)
        return self._add(f"scale({given})", f"scale ({listed(given)})", divide)

    def reverse_channels(self) -> PreProcessSteps:
        """The channels in the opposite order."""
        return self._add("reverse_channels()", "reverse channels", steps.reverse_channels)

    def convert_color(self, dst_format: ColorFormat) -> PreProcessSteps:
        """Convert to RGB, BGR or GRAY."""
        target = checked(dst_format, ColorFormat, "ColorFormat.RGB")
        convert = partial(colors.convert_color, target=target)
        return self._add(f"convert_color({target.name})", f"convert color ({target.name})", convert)

    def resize(
        self, alg: ResizeAlgorithm, dst_height: int | None = None, dst_width: int | None = None
    ) -> PreProcessSteps:
        """Resize to a height and width, or to the model's."""
        checked(alg, ResizeAlgorithm, "ResizeAlgorithm.RESIZE_LINEAR")
        if (dst_height is None) != (dst_width is None):
            raise InvalidArgumentError(f"resize to height {dst_height} and width {dst_width}: give both, or none.")
        height, width = (None, None) if dst_height is None else integers([dst_height, dst_width])
        name = f"resize({alg.name}, {'model' if height is None else f'{height} x {width}'})"
        words = "resize to " + ("model width/height" if height is None else f"({height}, {width})")
        return self._add(name, words, partial(resizing.resize, algorithm=alg, height=height, width=width))

    def crop(self, begin: Sequence[int], end: Sequence[int]) -> PreProcessSteps:
        """The part from `begin` to before `end` of each dimension; negative ones count from the end."""
        bounds = integers(begin), integers(end)
        words = "Crop ([ {} ],[ {} ])".format(*(", ".join(map(str, one)) for one in bounds))
        return self._add(f"crop({bounds[0]}, {bounds[1]})", words, partial(steps.crop, begin=bounds[0], end=bounds[1]))

    def pad(
        self, pads_begin: Sequence[int], pads_end: Sequence[int], value: float | Sequence[float], mode: PaddingMode
    ) -> PreProcessSteps:
        """Elements before and behind each dimension, of one value where the mode is CONSTANT."""
        checked(mode, PaddingMode, "PaddingMode.CONSTANT")
        bounds, given = (integers(pads_begin), integers(pads_end)), numbers(value)
        if len(given) != 1:
            raise InvalidArgumentError(f"pad with {given}: give one value.")
        name = f"pad({bounds[0]}, {bounds[1]}, {given[0]}, {mode.name})"
        words = f"pad(begin ({listed(bounds[0])}), end ({listed(bounds[1])}), with ({given[0]:g}))"
        return self._add(name, words, partial(steps.pad, begin=bounds[0], end=bounds[1], number=given[0], mode=mode))

    def convert_layout(self, dst_layout: Layout | str | Sequence[int]) -> PreProcessSteps:
        """Transpose to a layout, an empty one is the model's; or, given integers, axis i becomes that of the i-th."""
        if isinstance(dst_layout, (Layout, str)):
            self.layout, self.orders = as_layout(dst_layout), []
            convert = partial(steps.convert_layout, layout=self.layout)
            return self._add(f"convert_layout({self.layout})", f"convert layout {self.layout}", convert)
        order = integers(dst_layout)
        self.orders.append(order)
        permute = partial(steps.permute, order=order)
        return self._add(f"convert_layout({order})", f"convert layout ({listed(order)})", permute)

    def custom(self, operation: Callable[[StepValue], StepValue]) -> PreProcessSteps:
        """What a function makes of the value: it writes nodes by `value.apply("Abs")` and returns the last."""
        if not callable(operation):
            raise WrongTypeError(f"{operation!r:.60} is no function: give one that takes and returns a StepValue.")
        return self._add("custom()", "custom", partial(steps.custom, function=operation))


class InputInfo:
    """What is said about one input."""

    def __init__(self) -> None:
        self._tensor, self._steps, self._model = InputTensorInfo(), PreProcessSteps(), InputModelInfo()

    def tensor(self) -> InputTensorInfo:
        """The user's tensor."""
        return self._tensor

    def preprocess(self) -> PreProcessSteps:
        """The steps."""
        return self._steps

    def model(self) -> InputModelInfo:
        """The model's own input."""
        return self._model
