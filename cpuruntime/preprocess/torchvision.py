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
from cpuruntime.preprocess.colors import weighted
from cpuruntime.preprocess.input_info import PreProcessSteps
from cpuruntime.preprocess.processor import PrePostProcessor
from cpuruntime.preprocess.resizing import resized
from cpuruntime.preprocess.words import PaddingMode, ResizeAlgorithm
from cpuruntime.preprocess.writer import StepValue

_AVERAGED = {"bilinear": ResizeAlgorithm.RESIZE_BILINEAR_PILLOW, "bicubic": ResizeAlgorithm.RESIZE_BICUBIC_PILLOW}
_INTERPOLATED = {"bilinear": ResizeAlgorithm.RESIZE_LINEAR, "bicubic": ResizeAlgorithm.RESIZE_CUBIC}
_NEAREST = ("nearest", "nearest-exact")
_GRAY_OF_IMAGES, _GRAY_OF_TENSORS = (19595, 38470, 7471), (0.2989, 0.587, 0.114)
"""Of red, green and blue: Pillow's are parts of 65536."""
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
                also with a batch; a PIL image of one channel is given as [H, W, 1]. The model's input gets its type,
                layout and shape, but for height and width where the first transform resizes to both, and not
                to nearest pixels.
            input_name: of the input; not needed where there is one.

        Raises:
            UnsupportedError: a transform has no counterpart.
            InvalidArgumentError: a transform does not fit the image, or the model; the model stays as it was.
        """
        key = position(input_name, keys(model.inputs), "input", default=True)
        ppp = PrePostProcessor(model)
        tensor, steps = ppp.input(key).tensor(), ppp.input(key).preprocess()
        array, library = np.asarray(input_example), type(input_example).__module__.partition(".")[0]
        if library == "PIL" and array.ndim == 2:
            array = array[..., None]
        if array.ndim not in (3, 4):
            raise InvalidArgumentError(f"The example has the shape {list(array.shape)}: an image has rank 3 or 4.")
        shape = [1, *array.shape][-4:] if array.ndim == 3 else list(array.shape)
        layout = "NCHW" if library in ("torch", "torchvision") else "NHWC"
        state = _State(steps, layout, Type(array.dtype), *(shape[layout.index(name)] for name in "CHW"))
        transforms = list(_flat(transform))
        for one in transforms:
            _convert(state, one)
        if transforms and _takes_any_size(transforms[0]):
            shape[layout.index("H")] = shape[layout.index("W")] = -1
        tensor.set_element_type(Type(array.dtype)).set_layout(layout).set_shape(shape)
        return ppp.build()


@dataclass
class _State:
    """The steps so far, and what an image is like behind them."""

    steps: PreProcessSteps
    layout: str
    element_type: Type
    channels: int
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


def _takes_any_size(transform: Any) -> bool:
    """Whether the steps do not depend on the image's size."""
    if type(transform).__name__ != "Resize" or transform.size is None or len(_pair(transform.size)) != 2:
        return False
    return getattr(transform.interpolation, "value", transform.interpolation) not in _NEAREST


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
    word = getattr(transform.interpolation, "value", transform.interpolation)
    is_averaged = state.layout == "NHWC" or getattr(transform, "antialias", True)
    algorithms = _AVERAGED if is_averaged else _INTERPOLATED
    if word not in (*algorithms, *_NEAREST):
        raise UnsupportedError(f"Resize by {word} has no counterpart here: {', '.join((*algorithms, *_NEAREST))} have.")
    if transform.size is None:
        raise UnsupportedError("Resize with size None has no counterpart here: give one size, or both.")
    height, width = state.height, state.width
    size = _pair(transform.size)
    if len(size) == 1:  # of the shorter side
        size = _shorter(size[0], height, width, getattr(transform, "max_size", None))
    state.height, state.width = size
    axes, is_picture = [state.layout.index(name) for name in "HW"], state.layout == "NHWC"

    def run(value: StepValue) -> StepValue:
        if word in algorithms:
            return StepValue(value.writer, resized(value.writer, value.value, axes, list(size), algorithms[word]))
        for axis, source, target in zip(axes, (height, width), size):
            value = value.apply("Gather", _nearest(source, target, word, is_picture), axis=axis)
        return value

    state.steps.custom(run)


def _nearest(source: int, target: int, word: str, is_picture: bool) -> np.ndarray:
    """The elements that are taken: as Pillow adds in double precision, or as torch multiplies in single precision."""
    if is_picture:
        steps = np.full(target, source / target)
        steps[0] /= 2
        found = np.cumsum(steps)
    else:
        points = np.arange(target, dtype=np.float32) + np.float32(0.5 if word == "nearest-exact" else 0)
        found = points * (np.float32(source) / np.float32(target))
    return np.minimum(found.astype(np.int64), source - 1)


def _shorter(size: int, height: int, width: int, most: int | None) -> tuple[int, int]:
    """Height and width where the shorter side gets a size, or a smaller one so that the longer has at most `most`."""
    short, long = min(height, width), max(height, width)
    sides = size, int(size * long / short)
    if most is not None and sides[1] > most:
        sides = int(most * sides[0] / sides[1]), most
    return sides if height <= width else (sides[1], sides[0])


def _center_crop(state: _State, transform: Any) -> None:
    height, width = (*_pair(transform.size), _pair(transform.size)[-1])[:2]
    more = max(height - state.height, 0), max(width - state.width, 0)
    if any(more):
        begin, end = (state.per_axis(*((one + up) // 2 for one in more)) for up in (0, 1))
        state.steps.pad(begin, end, 0.0, PaddingMode.CONSTANT)
        state.height, state.width = state.height + more[0], state.width + more[1]
    top, left = round((state.height - height) / 2), round((state.width - width) / 2)
    most = np.iinfo(np.int32).max
    state.steps.crop(state.per_axis(top, left), state.per_axis(top + height, left + width, most))
    state.height, state.width = height, width


def _pad(state: _State, transform: Any) -> None:
    given, word = _pair(transform.padding), transform.padding_mode
    left, top, right, bottom = (given * 4)[:4]
    begin, end = state.per_axis(top, left), state.per_axis(bottom, right)
    if word == "edge":
        counts = np.array([*begin, *end])
        state.steps.custom(lambda value: value.apply("Pad", counts, None, mode="edge"))
    elif word in _PADDING:
        state.steps.pad(begin, end, transform.fill or 0, _PADDING[word])
    else:
        raise UnsupportedError(f"Pad by {word} has no counterpart here: edge, {', '.join(_PADDING)} have.")
    state.height, state.width = state.height + top + bottom, state.width + left + right


def _grayscale(state: _State, transform: Any) -> None:
    axis, is_picture, count = state.layout.index("C"), state.layout == "NHWC", transform.num_output_channels
    if state.channels == 3:
        state.steps.custom(lambda value: _gray(value, axis, is_picture and value.element_type is Type.u8))
    if count != 1:
        state.steps.custom(lambda value: value.apply("Concat", *[value] * (count - 1), axis=axis))
    state.channels = count


def _gray(value: StepValue, axis: int, is_whole: bool) -> StepValue:
    """What Pillow's integers make of red, green and blue, or what torch makes of them: bytes are cut, not rounded."""
    writer, element_type = value.writer, value.element_type
    work = Type.i32 if is_whole else element_type if element_type.is_real() else Type.f32
    whole = writer.cast(value.value, work)
    parts = [writer.slice(whole, axis, index, index + 1) for index in range(3)]
    total = weighted(writer, parts, _GRAY_OF_IMAGES if is_whole else _GRAY_OF_TENSORS)
    if is_whole:
        half, one = (writer.constant(number, np.int32) for number in (1 << 15, 1 << 16))
        total = writer.op("Div", writer.op("Add", total, half), one)
    return StepValue(writer, writer.cast(total, element_type))


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
