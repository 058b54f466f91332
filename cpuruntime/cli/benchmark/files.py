"""Input files: images, arrays of NumPy, raw bytes, and folders of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpuruntime.cli.benchmark.images import IMAGES, read_image
from cpuruntime.cli.benchmark.ports import InputInfo, Shape, check_fits
from cpuruntime.errors import InvalidArgumentError, listed, nearest, printable

ARRAYS = (".npy", ".npz", ".bin")

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """A file, or the array of an archive that is called `key`."""

    path: Path
    key: str = ""

    @property
    def is_image(self) -> bool:
        return self.path.suffix.lower() in IMAGES

    def __str__(self) -> str:
        return f"{self.path} ('{printable(self.key)}')" if self.key else str(self.path)


def assigned(texts: Sequence[str], names: Sequence[str], warn: Warn) -> dict[str, list[Source]]:
    """The files of each input: of -i's `file`, `folder`, `input:file,folder`; those without a name go round the inputs.

    Archives (.npz) without a name hold an array for each input, by name or in the inputs' order. Raises
    InvalidArgumentError for an unknown input, and for what is no file of a known kind.
    """
    found: dict[str, list[Source]] = {}
    unnamed: list[Path] = []
    for text in texts:
        name = ""
        for part in [text] if Path(text).exists() else filter(None, text.split(",")):
            given = [one for one in names if part.startswith(f"{one}:") and not Path(part).exists()]
            name = max(given, key=len, default=name)
            path = Path(part.removeprefix(f"{name}:") if given else part)
            if not path.exists():
                raise InvalidArgumentError(_no_such_file(part, names))
            files = _files(path, warn)
            if name:
                found.setdefault(name, []).extend(map(Source, files))
            else:
                unnamed += files
    archives = [path for path in unnamed if path.suffix.lower() == ".npz"]
    others = [path for path in unnamed if path not in archives]
    for index, path in enumerate(others):
        found.setdefault(names[index % len(names)], []).append(Source(path))
    if len(names) > 1 and others:
        warn(f"The model has {len(names)} inputs; files are assigned to them in turns. Give -i input:file to choose.")
    for path in archives:
        for key in _archive(path):
            number = key.removeprefix("arr_")  # what numpy.savez calls an array that has no name
            name = names[int(number)] if number.isdigit() and int(number) < len(names) else key
            if name not in names:
                raise InvalidArgumentError(
                    f"-i {path} has an array '{printable(key)}', and the model's inputs are {listed(names)}."
                )
            found.setdefault(name, []).append(Source(path, key))
    return found


def _no_such_file(part: str, names: Sequence[str]) -> str:
    name, separator, _ = part.partition(":")
    hint = f" '{name}' is no input; the model's are {listed(names)}.{nearest(name, names)}" if separator else ""
    return f"-i {part}: there is no such file or folder.{hint}"


def _files(path: Path, warn: Warn) -> list[Path]:
    known = (*IMAGES, *ARRAYS)
    if path.is_file():
        if path.suffix.lower() not in known:
            raise InvalidArgumentError(f"-i {path}: files end in one of {' '.join(known)}.")
        return [path]
    files = sorted(one for one in path.iterdir() if one.is_file())
    found = [one for one in files if one.suffix.lower() in known]
    if not found:
        raise InvalidArgumentError(f"-i {path}: no file of the folder ends in one of {' '.join(known)}.")
    if len(found) < len(files):
        warn(f"{len(files) - len(found)} files of {path} are left out: they do not end in one of {' '.join(known)}.")
    return found


def read_arrays(info: InputInfo, sources: Sequence[Source]) -> list[np.ndarray]:
    """The arrays of an input, each one inference's, from its files; where no shape is known, they set the shapes.

    Raises InvalidArgumentError for a file that cannot be read or does not fit.
    """
    images = [source.path for source in sources if source.is_image]
    if images and len(images) < len(sources):
        raise InvalidArgumentError(f"-i: input '{printable(info.name)}' gets images and arrays; give it one kind.")
    pieces: list[tuple[str, np.ndarray]] = []
    if images:
        turns = _turns(info, len(images), lambda index, shape: read_image(images[index], info, shape))
    else:
        pieces = [(str(source), array) for source in sources for array in _read(source, info)]
        turns = _turns(info, len(pieces), lambda index, shape: _fitting(*pieces[index], info, shape))
    if not info.shapes:
        for array, name in zip(turns, images or [name for name, _ in pieces]):
            check_fits(info, array.shape, f"-i {name}")
        info.shapes = [array.shape for array in turns]
    return turns


def _turns(info: InputInfo, count: int, read: Callable[[int, Shape | None], np.ndarray]) -> list[np.ndarray]:
    """One array an inference: pieces that are whole, or as many single samples as the batch has."""
    if not info.shapes:
        return [read(index, None) for index in range(count)]
    arrays: list[np.ndarray] = []
    axis, index = info.axis("N"), 0
    while index < count or len(arrays) < len(info.shapes):
        shape = info.shapes[len(arrays) % len(info.shapes)]
        piece = read(index % count, shape)
        index += 1
        if piece.shape != shape and axis is not None:
            samples = [piece] + [read((index + more) % count, shape) for more in range(shape[axis] - 1)]
            index += shape[axis] - 1
            if any(sample.shape != piece.shape for sample in samples):
                raise InvalidArgumentError(f"-i: input '{printable(info.name)}' gets whole batches and single samples.")
            piece = np.stack(samples, axis)
        arrays.append(np.ascontiguousarray(piece))
    return arrays


def _fitting(source: str, array: np.ndarray, info: InputInfo, shape: Shape | None) -> np.ndarray:
    """An array from a file in the input's type and shape, or in that of one sample of a batch."""
    if not np.can_cast(array.dtype, info.dtype, "same_kind"):
        name = printable(info.name)
        raise InvalidArgumentError(f"-i {source}: the array is {array.dtype}, and input '{name}' is {info.dtype}.")
    array = array.astype(info.dtype, copy=False)
    axis = info.axis("N")
    if shape is None:
        lacks_batch = axis is not None and array.ndim == len(info.partial_shape) - 1
        return np.expand_dims(array, axis) if lacks_batch else array
    sample = None if axis is None else (*shape[:axis], *shape[axis + 1 :])
    if array.shape not in (shape, sample):
        raise InvalidArgumentError(
            f"-i {source}: the array's shape {list(array.shape)} is not {list(shape)}, that of input "
            f"'{printable(info.name)}'."
        )
    return array


def _read(source: Source, info: InputInfo) -> list[np.ndarray]:
    """The arrays in a file."""
    path, kind = source.path, source.path.suffix.lower()
    if kind == ".npz":
        held = _archive(path)
        return [held[source.key]] if source.key else list(held.values())
    try:
        if kind == ".npy":
            return [np.load(path, allow_pickle=False)]
        data = path.read_bytes()
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgumentError(f"-i {path} cannot be read: {error}") from None
    for shape in info.shapes:
        if len(data) == int(np.prod(shape)) * info.dtype.itemsize and not info.dtype.hasobject:
            return [np.frombuffer(data, info.dtype).reshape(shape)]
    raise InvalidArgumentError(
        f"-i {path} has {len(data)} bytes; input '{printable(info.name)}' is {info.dtype} of shape "
        f"{' or '.join(str(list(shape)) for shape in info.shapes) or info.partial_shape}."
    )


def _archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as held:
            return dict(held)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidArgumentError(f"-i {path} cannot be read: {error}") from None
