"""Weights that are packed again from the model's file: their recipes as data, and packing them in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from cpuruntime.compiler import build
from cpuruntime.compiler.recipes import decoded, encoded
from cpuruntime.graph import Deferred, Origin, remade
from cpuruntime.program.plan.packing import Packing, Recipe

Read = Callable[[int, tuple[int, ...], np.dtype], Deferred]
"""Gives an array of the model's file by its first byte, its shape and its type."""


def described(recipe: Recipe) -> list[Any]:
    """A recipe, for JSON: the packing, the symbols of its kernels, and the origin."""
    packing, origin = recipe
    return [encoded(packing), [kernel.symbol for kernel in packing.kernels], _described(origin)]


def filling(row: Any, read: Read) -> Callable[[np.ndarray], None]:
    """What fills memory by a recipe that was `described`."""
    form, symbols, origin = row
    packing = decoded(form)
    if not isinstance(packing, Packing):
        raise ValueError("a recipe in it is none of weights")
    for kernel, symbol in zip(packing.kernels, symbols):
        build.set_symbol(kernel, symbol)
    return partial(packing.fill, source=remade(_origin(origin), read))


def fill_all(jobs: Iterable[Callable[[], None]], threads: int) -> Callable[[], None]:
    """Runs jobs in threads; the returned function awaits them, and raises what the first one that failed raised."""
    pending, failed = [*reversed([*jobs])], list[BaseException]()

    def work() -> None:
        try:
            for job in iter(partial(_next, pending), None):
                job()
        except BaseException as error:
            failed.append(error)
            pending.clear()

    workers = [threading.Thread(target=work, name="cpuruntime-pack") for _ in range(threads)]
    for worker in workers:
        worker.start()

    def finish() -> None:
        for worker in workers:
            worker.join()
        if failed:
            raise failed[0]

    return finish


def _next(jobs: list[Callable[[], None]]) -> Callable[[], None] | None:
    try:
        return jobs.pop()
    except IndexError:  # another thread was faster
        return None


def _described(origin: Origin) -> list[Any]:
    kind, first, *rest = origin
    if kind == "read":
        shape, dtype = rest
        return [kind, first, shape, dtype.str]
    if kind == "joined":
        return [kind, [_described(each) for each in first], *rest]
    factors = [np.asarray(factor) for factor in rest]
    return [kind, _described(first), *((one.dtype.str, one.shape, one.tobytes().hex()) for one in factors)]


def _origin(row: Any) -> Origin:
    kind, first, *rest = row
    if kind == "read":
        return kind, first, tuple(rest[0]), np.dtype(rest[1])
    if kind == "joined":
        return kind, [_origin(each) for each in first], *rest
    factors = [np.frombuffer(bytes.fromhex(text), dtype).reshape(shape) for dtype, shape, text in rest]
    return kind, _origin(first), *factors
