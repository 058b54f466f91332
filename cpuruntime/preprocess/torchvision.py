"""torchvision's transforms as steps of a model. Neither torch nor torchvision is imported.

model = PreprocessConverter.from_torchvision(model, transform, image)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpuruntime.api.model import Model
from cpuruntime.api.ports import keys, position
from cpuruntime.errors import InvalidArgumentError, UnsupportedError, nearest
from cpuruntime.graph import Type
from cpuruntime.preprocess.input_info import PreProcessSteps
from cpuruntime.preprocess.processor import PrePostProcessor
from cpuruntime.preprocess.words import ColorFormat, PaddingMode, ResizeAlgorithm
from cpuruntime.preprocess.writer import StepValue

_OF_IMAGES = {"nearest": "NEAREST", "bilinear": "BILINEAR_PILLOW", "bicubic": "BICUBIC_PILLOW"}
_OF_TENSORS = {"nearest": "NEAREST", "bilinear": "LINEAR", "bicubic": "CUBIC"}
_PADDING = {"constant": PaddingMode.CONSTANT, "reflect": PaddingMode.REFLECT, "symmetric": PaddingMode.SYMMETRIC}


class PreprocessConverter:
    """By OpenVINO's name."""

    @staticmethod
    def from_torchvision(model: Model, transform: Any, input_example: Any, input_name: str | None = None) -> Model:
        """Put transforms before a model's input.

        Args:
            model: is changed, and returned.
            transform: a Compose, a Sequential, or one transform.
            input_example: an image as it will be given: a PIL image or array [H, W, C], or a tensor [C, H, W], each
                also with a batch. The model's input gets its type, layout and shape, but for height and width where the
                first transform resizes to both.
            input_name: of the input; not needed where there is one.

        Raises:
            UnsupportedError: a transform has no counterpart.
            InvalidArgumentError: a transform does not fit the image, or the model; the model stays as it was.
        """
        key = position(input_name, keys(model.inputs), "input", default=True)
        ppp = PrePostProcessor(model)
        tensor, steps = ppp.input(key).tensor(), ppp.input(key).preprocess()
        array = np.asarray(input_example)
        if array.ndim not in (3, 4):
            raise InvalidArgumentError(f"The example has the shape {list(array.shape)}: an image has rank 3 or 4.")
        shape = [1, *array.shape][-4:] if array.ndim == 3 else list(array.shape)
        layout = "NCHW" if type(input_example).__module__.partition(".")[0] == "torch" else "NHWC"
        height, width = (shape[layout.index(name)] for name in "HW")
        state = _State(steps, layout, Type(array.dtype), height, width)
        transforms = list(_flat(transform))
        for one in transforms:
            _convert(state, one)
        if transforms and type(transforms[0]).__name__ == "Resize" and len(_pair(transforms[0].size)) == 2:
            shape[layout.index("H")] = shape[layout.index("W")] = -1
        tensor.set_element_type(Type(array.dtype)).set_layout(layout).set_shape(shape)
        if shape[layout.index("C")] == 3:
            tensor.set_color_format(ColorFormat.RGB)
        return ppp.build()


@dataclass
class _State:
    """The steps so far, and what an image is like behind them."""

    steps: PreProcessSteps
    layout: str
    element_type: Type
    height: int
    width: int

    def per_axis(self, height: int, width: int, other: int = 0) -> list[int]:
        """A number for each axis."""
        return [{"H": height, "W": width}.get(name, other) for name in self.layout]


def _flat(transform: Any) -> Iterable[Any]:
    if type(transform).__name__ in ("Compose", "Sequential"):
        for one in getattr(transform, "transforms", transform):
            yield from _flat(one)
    else:
        yield transform


def _convert(state: _State, transform: Any) -> None:
    name = type(transform).__name__
    if name not in _CONVERTERS:
        known = f"{nearest(name, _CONVERTERS)} There are {', '.join(sorted(_CONVERTERS))}."
        raise UnsupportedError(f"torchvision's {name} has no counterpart here.{known}")
    _CONVERTERS[name](state, transform)


def _pair(size: Any) -> tuple[int, ...]:
    return (int(size),) if isinstance(size, int) else tuple(int(one) for one in size)


def _to_tensor(state: _State, transform: Any) -> None:
    _to_planes(state, transform)
    _to_type(state, Type.f32, state.element_type is Type.u8)


def _to_planes(state: _State, transform: Any) -> None:
    if state.layout != "NCHW":
        state.steps.convert_layout("NCHW")
        state.layout = "NCHW"


def _to_type(state: _State, wanted: Type, scales: bool) -> None:
    """In the type wanted; numbers of an integer type are brought to 0..1."""
    if scales and state.element_type.is_integral() and not (wanted.is_real() and state.element_type is Type.u8):
        names = state.element_type.type_name, wanted.type_name
        raise UnsupportedError(f"{names[0]} is not brought to the range of {names[1]} here; only u8 to 0..1 is.")
    state.steps.convert_element_type(wanted)
    if scales and state.element_type is Type.u8:
        state.steps.scale(255.0)
    state.element_type = wanted


def _convert_type(state: _State, transform: Any) -> None:
    wanted = Type(str(transform.dtype).rpartition(".")[2])
    if wanted is not state.element_type:
        _to_type(state, wanted, getattr(transform, "scale", True))


def _normalize(state: _State, transform: Any) -> None:
    state.steps.mean(transform.mean).scale(transform.std)


def _resize(state: _State, transform: Any) -> None:
    if getattr(transform, "max_size", None):
        raise UnsupportedError(f"Resize with max_size {transform.max_size} has no counterpart here: give both sizes.")
    word = getattr(transform.interpolation, "value", transform.interpolation)
    averages = state.layout == "NHWC" or getattr(transform, "antialias", True)
    algorithms = _OF_IMAGES if averages else _OF_TENSORS
    if word not in algorithms:
        raise UnsupportedError(f"Resize by {word} has no counterpart here: {', '.join(algorithms)} have.")
    size, height, width = _pair(transform.size), state.height, state.width
    if len(size) == 1:  # of the shorter side
        size = (int(size[0] * max(height / width, 1)), int(size[0] * max(width / height, 1)))
    state.height, state.width = size
    state.steps.resize(ResizeAlgorithm[f"RESIZE_{algorithms[word]}"], *size)


def _center_crop(state: _State, transform: Any) -> None:
    height, width = (*_pair(transform.size), _pair(transform.size)[-1])[:2]
    if height > state.height or width > state.width:
        raise InvalidArgumentError(f"CenterCrop to {height} x {width} of an image of {state.height} x {state.width}.")
    top, left = round((state.height - height) / 2), round((state.width - width) / 2)
    most = np.iinfo(np.int32).max
    state.steps.crop(state.per_axis(top, left), state.per_axis(top + height, left + width, most))
    state.height, state.width = height, width


def _pad(state: _State, transform: Any) -> None:
    if transform.padding_mode not in _PADDING:
        raise UnsupportedError(f"Pad by {transform.padding_mode} has no counterpart here: {', '.join(_PADDING)} have.")
    given = _pair(transform.padding)
    left, top, right, bottom = (given * 4)[:4]
    mode = _PADDING[transform.padding_mode]
    state.steps.pad(state.per_axis(top, left), state.per_axis(bottom, right), transform.fill, mode)
    state.height, state.width = state.height + top + bottom, state.width + left + right


def _grayscale(state: _State, transform: Any) -> None:
    state.steps.convert_color(ColorFormat.GRAY)
    if transform.num_output_channels != 1:
        axis = state.layout.index("C")

        def repeated(value: StepValue) -> StepValue:
            return value.apply("Concat", value, value, axis=axis)

        state.steps.custom(repeated)


_CONVERTERS: dict[str, Callable[[_State, Any], None]] = {
    "CenterCrop": _center_crop,
    "ConvertImageDtype": _convert_type,
    "Grayscale": _grayscale,
    "Normalize": _normalize,
    "PILToTensor": _to_planes,
    "Pad": _pad,
    "Resize": _resize,
    "ToDtype": _convert_type,
    "ToImage": _to_planes,
    "ToTensor": _to_tensor,
}
