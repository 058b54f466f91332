"""Samples to calibrate with: from .npz and .npy files, folders of them, images, or a generator in Python."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpuruntime.api.model import Model
from cpuruntime.errors import InvalidArgumentError, listed, nearest, printable
from cpuruntime.graph import PartialShape

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Preparation:
    """What is done with the pixels of images: (pixel - mean) / scale by channel; `bgr` reverses the channels."""

    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    bgr: bool = False


def read_samples(
    data: str, model: Model, preparation: Preparation, most: int
) -> list[dict[str, np.ndarray]]:
    """At most `most` samples, each an array for every input of the model.

    `data` is a file, a folder or `module:function`. Raises InvalidArgumentError for data that is missing, of another
    shape or type, not finite or constant.
    """
    path = Path(data)
    if path.is_dir():
        given: Iterable[Any] = _folder(path, model, preparation)
    elif path.is_file():
        given = _file(path, model, preparation)
    elif ":" in data:
        given = _generated(data)
    else:
        raise InvalidArgumentError(f"DATA {data}: there is no such file or folder; or give module:function.")
    samples = [_checked(one, model, number) for number, one in enumerate(itertools.islice(given, most))]
    if not samples:
        raise InvalidArgumentError(f"DATA {data}: it has no sample; ranges are measured on at least one.")
    _check_variation(samples)
    return samples


def _folder(path: Path, model: Model, preparation: Preparation) -> Iterable[Any]:
    """The samples of a folder's files; of its subfolders where they have the names of inputs."""
    names = _names(model)
    if all((path / name).is_dir() for name in names):
        columns = [sorted((path / name).glob("*.npy")) for name in names]
        counts = sorted(set(map(len, columns)))
        if len(counts) > 1:
            raise InvalidArgumentError(f"DATA {path}: the inputs' folders have {listed(map(str, counts))} .npy files.")
        for files in zip(*columns):
            yield {name: _array(file) for name, file in zip(names, files)}
        return
    known = (".npz", ".npy", *IMAGES)
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in known:
            yield from _file(file, model, preparation)


def _file(path: Path, model: Model, preparation: Preparation) -> Iterable[Any]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays = _array(path)
        with arrays:
            found = {_input(key, model, path): arrays[key] for key in arrays.files}
        yield from _unstacked(found, model, path)
    elif suffix == ".npy":
        yield from _unstacked({_only(path, model): _array(path)}, model, path)
    elif suffix in IMAGES:
        yield {_only(path, model): _image(path, model.input(0), preparation)}
    else:
        raise InvalidArgumentError(f"DATA {path}: files end in .npz, .npy or {' '.join(IMAGES)}.")


def _unstacked(arrays: Mapping[str, np.ndarray], model: Model, path: Path) -> Iterable[dict[str, np.ndarray]]:
    """One sample, or as many as the first axis says where every array has an axis more than its input."""
    ranks = {port.any_name: port.partial_shape.rank for port in model.inputs}
    stacked = bool(arrays) and all(
        ranks[name].is_static and array.ndim == ranks[name].get_length() + 1 for name, array in arrays.items()
    )
    if not stacked:
        yield dict(arrays)
        return
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        raise InvalidArgumentError(f"DATA {path}: its arrays hold {listed(map(str, sorted(counts)))} samples.")
    for number in range(counts.pop()):
        yield {name: array[number] for name, array in arrays.items()}


def _generated(data: str) -> Iterable[Any]:
    """What a function in a module yields; modules are found in the working folder, too."""
    module, _, name = data.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function: Callable[[], Iterable[Any]] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgumentError(f"DATA {data}: no such file, folder or function: {printable(str(error))}.") from None
    return function()


def _checked(given: Any, model: Model, number: int) -> dict[str, np.ndarray]:
    """A sample whose arrays fit the inputs: a mapping, a sequence in the inputs' order, or the only input's array."""
    names = _names(model)
    if not isinstance(given, Mapping):
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(values) != len(names):
            raise InvalidArgumentError(f"Sample {number} has {len(values)} arrays; the inputs are {listed(names)}.")
        given = dict(zip(names, values))
    for name in given:
        _known(name, names, f"Sample {number}")
    missing = [name for name in names if name not in given]
    if missing:
        raise InvalidArgumentError(f"Sample {number} has no array for {listed(missing)}; every input needs one.")
    return {port.any_name: _fitting(np.asarray(given[port.any_name]), port, number) for port in model.inputs}


def _fitting(array: np.ndarray, port: Any, number: int) -> np.ndarray:
    name, dtype = printable(port.any_name), port.element_type.to_dtype()
    if array.dtype.kind != dtype.kind:
        raise InvalidArgumentError(f"Sample {number}: '{name}' is {array.dtype}; the model's input is {dtype}.")
    if not port.partial_shape.compatible(PartialShape(list(array.shape))):
        raise InvalidArgumentError(
            f"Sample {number}: '{name}' has the shape {list(array.shape)}; the model's input has {port.partial_shape}."
        )
    if not array.size:
        raise InvalidArgumentError(f"Sample {number}: '{name}' has no element; ranges are measured on some.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidArgumentError(f"Sample {number}: '{name}' has NaN or infinite elements; give finite ones.")
    return np.ascontiguousarray(array, dtype)


def _check_variation(samples: Sequence[Mapping[str, np.ndarray]]) -> None:
    for name, first in samples[0].items():
        value = first.flat[0]
        if first.dtype.kind == "f" and all((one[name] == value).all() for one in samples):
            raise InvalidArgumentError(
                f"Input '{printable(name)}' is {value:g} everywhere in all {len(samples)} samples; ranges are measured "
                "on data as the model will get."
            )


def _names(model: Model) -> list[str]:
    return [port.any_name for port in model.inputs]


def _known(name: str, names: Sequence[str], where: object) -> str:
    if name not in names:
        raise InvalidArgumentError(
            f"{where} has an array '{printable(name)}'; the inputs are {listed(names)}.{nearest(name, names)}"
        )
    return name


def _input(key: str, model: Model, path: Path) -> str:
    """The input that an archive's array is for; `arr_0` is what numpy.savez calls one without a name."""
    names, number = _names(model), key.removeprefix("arr_")
    if key not in names and number.isdigit() and int(number) < len(names):
        return names[int(number)]
    return _known(key, names, f"DATA {path}")


def _only(path: Path, model: Model) -> str:
    names = _names(model)
    if len(names) > 1:
        raise InvalidArgumentError(
            f"DATA {path}: one array, and the inputs are {listed(names)}: give .npz files with an array for each."
        )
    return names[0]


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgumentError(f"DATA {path} cannot be read: {printable(str(error))}") from None


def _image(path: Path, port: Any, preparation: Preparation) -> np.ndarray:
    """An image as float32 of the input's shape, [N,C,H,W] or [N,H,W,C], resized to its height and width."""
    try:
        from PIL import Image
    except ImportError:
        raise InvalidArgumentError(f"DATA {path}: images are read by Pillow: pip install pillow.") from None
    sizes = [one.get_length() if one.is_static else 0 for one in port.partial_shape]
    axis = next((axis for axis in (1, 3) if len(sizes) == 4 and sizes[axis] in _MODES), None)
    if axis is None:
        raise InvalidArgumentError(
            f"DATA {path}: an image needs an input [N,C,H,W] or [N,H,W,C] with 1, 3 or 4 channels; "
            f"'{printable(port.any_name)}' has {port.partial_shape}."
        )
    channels, (height, width) = sizes[axis], sizes[2:4] if axis == 1 else sizes[1:3]
    try:
        with Image.open(path) as opened:
            image = opened.convert(_MODES[channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidArgumentError(f"DATA {path} cannot be read as an image: {printable(str(error))}") from None
    image = image.resize((width or image.width, height or image.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(image.height, image.width, channels)
    pixels = (pixels[..., ::-1] if preparation.bgr else pixels) - np.float32(preparation.mean)
    pixels = pixels / np.float32(preparation.scale)
    return (pixels.transpose(2, 0, 1) if axis == 1 else pixels)[None].astype(port.element_type.to_dtype())
