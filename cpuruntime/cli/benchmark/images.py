"""Image files as samples of an input, read by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cpuruntime.cli.benchmark.ports import InputInfo, Shape
from cpuruntime.errors import InvalidArgumentError, printable

IMAGES = (
    ".bmp", ".dib", ".jpeg", ".jpg", ".jpe", ".jp2", ".png", ".pbm", ".pgm", ".ppm", ".ras", ".tiff", ".tif", ".webp"
)  # fmt: skip
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_image(path: Path, info: InputInfo, shape: Shape | None) -> np.ndarray:
    """An image as one sample of the input, grey or RGB, resized to its height and width where they are known.

    Raises InvalidArgumentError when the file is no image, or the input none for images.
    """
    named = {name: axis for name in "HWC" if (axis := info.axis(name)) is not None}
    if not {"H", "W"} <= named.keys():
        raise InvalidArgumentError(
            f"-i {path}: an image needs an input with H and W in its layout; '{printable(info.name)}' has the layout "
            f"{info.layout}. Give -layout."
        )
    extents = [*map(str, info.partial_shape if shape is None else shape)]
    known = {name: int(extents[axis]) for name, axis in named.items() if extents[axis].isdigit()}
    channels = known.get("C", 3 if "C" in named else 1)
    if channels not in _MODES:
        raise InvalidArgumentError(
            f"-i {path}: input '{printable(info.name)}' has {channels} channels by its layout {info.layout}; images "
            "have 1, 3 or 4."
        )
    pixels = _pixels(path, _MODES[channels], known.get("W"), known.get("H"))
    order = sorted(named, key=lambda name: named[name])
    sample = pixels.transpose(["HWC".index(name) for name in order] + ([] if "C" in named else [2]))
    sample = (sample if "C" in named else sample[..., 0]).astype(info.dtype)
    batch = info.axis("N")
    is_whole = batch is not None and (shape is None or shape[batch] == 1)
    return np.expand_dims(sample, batch) if is_whole else sample


def _pixels(path: Path, mode: str, width: int | None, height: int | None) -> np.ndarray:
    """The pixels of a file as [height, width, channels] of uint8."""
    try:
        from PIL import Image
    except ImportError:
        raise InvalidArgumentError(f"-i {path}: images are read by Pillow; install it: pip install pillow.") from None
    try:
        with Image.open(path) as opened:
            image = opened.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidArgumentError(f"-i {path} cannot be read as an image: {printable(str(error))}") from None
    size = (width or image.width, height or image.height)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size[1], size[0], -1)
