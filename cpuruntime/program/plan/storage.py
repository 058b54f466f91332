"""The memory of values: storages, addresses in them, and views in the layouts of kernels.

A storage is one piece of memory: of the arena (placed when all steps are known), of an input or output of the request,
or fixed (packed weights). Views add a layout: `Plain` is row-major; `Blocked` is [N][C/LANES][H][W][LANES] with an
optional halo left and right of every row; `Interleaved` is [N][H][W][C] for the few channels of an image.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES
from cpuruntime.graph import Extent, alike
from cpuruntime.records import entity, record


class Place(enum.IntEnum):
    """Which memory an address lies in. Storages are pieces of the first five; the others are a program's own."""

    ARENA = 0
    INPUT = 1
    OUTPUT = 2
    FIXED = 3
    FAULT = 4
    KERNEL = 5
    IMAGE = 6


@entity
class Storage:
    """A piece of memory; `index` numbers inputs, outputs and faults, `owner` is the memory of fixed ones.

    A fixed one without an owner is a table that is made when its sizes are known: by a function, from numbers.
    """

    place: Place
    size: int
    index: int = 0
    first_step: int = -1
    last_step: int = -1
    offset: int = -1
    owner: np.ndarray | None = None
    table: tuple[Callable[..., np.ndarray], tuple[Extent, ...]] | None = None


@record
class Address:
    """A byte position in a storage."""

    storage: Storage
    offset: int = 0

    def __add__(self, offset: int) -> Address:
        return Address(self.storage, self.offset + offset)


@record
class Plain:
    """A row-major tensor without padding."""

    address: Address
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Byte strides."""
        return tuple(self.dtype.itemsize * prod(self.shape[i + 1 :]) for i in range(len(self.shape)))


@record
class Blocked:
    """Elements in blocks of LANES channels; `address` is the first interior element, strides are in bytes.

    Only float32 has a halo; it holds zeros. The unused lanes of the last block hold any numbers.
    """

    address: Address
    batch: int
    channels: int
    height: int
    width: int
    batch_stride: int
    block_stride: int
    row_stride: int
    itemsize: int = 4

    @property
    def pixel(self) -> int:
        """Bytes of a pixel in a block."""
        return LANES * self.itemsize

    @property
    def blocks(self) -> int:
        return -(-self.channels // LANES)

    @property
    def has_whole_rows(self) -> bool:
        """Whether rows follow each other without a gap, so that a plane is one long row."""
        return alike(self.row_stride, self.width * self.pixel) or alike(self.height, 1)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Those of images, blocks and rows."""
        return self.batch_stride, self.block_stride, self.row_stride

    def fields(self, name: str) -> dict[str, Any]:
        """The argument fields `name`, `name`_batch, `name`_block and `name`_row."""
        return {name: self.address, **{f"{name}_{key}": n for key, n in zip(("batch", "block", "row"), self.strides)}}

    def sizes(self) -> dict[str, Any]:
        """The argument fields batch, blocks, height and width."""
        return dict(batch=self.batch, blocks=self.blocks, height=self.height, width=self.width)

    def slice(self, first_block: int, channels: int) -> Blocked:
        """The `channels` channels from block `first_block` on."""
        moved = self.address + first_block * self.block_stride
        return Blocked(moved, self.batch, channels, self.height, self.width, *self.strides, self.itemsize)


@record
class Interleaved:
    """float32 pixels of all channels side by side; `address` is the first interior pixel."""

    address: Address
    batch_stride: int
    row_stride: int

    def fields(self, name: str) -> dict[str, Any]:
        """The argument fields `name`, `name`_batch and `name`_row."""
        return {name: self.address, f"{name}_batch": self.batch_stride, f"{name}_row": self.row_stride}


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a rank 3 or 4 shape; a signal of rank 3 is an image of height 1."""
    n, c, *spatial = shape
    return (n, c, 1, spatial[0]) if len(spatial) == 1 else (n, c, spatial[0], spatial[1])


def blocked_view(storage: Storage, shape: tuple[int, ...], left: int, right: int, itemsize: int = 4) -> Blocked:
    """The blocked layout of a whole storage with a halo of `left` and `right` pixels; sets the storage's size."""
    batch, channels, height, width = image_shape(shape)
    row = (left + width + right) * LANES * itemsize
    blocks = -(-channels // LANES)
    storage.size = batch * blocks * height * row
    origin = Address(storage, left * LANES * itemsize)
    return Blocked(origin, batch, channels, height, width, blocks * height * row, height * row, row, itemsize)
