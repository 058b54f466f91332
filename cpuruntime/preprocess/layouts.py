"""Conversions between layouts: which axes are left out, added and permuted."""

from __future__ import annotations

from collections.abc import Sequence

from cpuruntime.api.layout import Layout
from cpuruntime.errors import InvalidArgumentError


def permutation(source: Sequence[str], target: Sequence[str], where: str) -> list[int]:
    """For each name of `target` its position in `source`; dimensions without a name there are taken in order.

    Raises InvalidArgumentError where the target lacks one.
    """
    if len(source) != len(target) or any(name != "?" and name not in target for name in source):
        raise InvalidArgumentError(
            f"{where}: layout {written(source)} cannot become {written(target)}: they must have the same dimensions."
        )
    known = {name: index for index, name in enumerate(source) if name != "?"}
    rest = iter([index for index, name in enumerate(source) if name == "?"])
    return [known[name] if name in known else next(rest) for name in target]


def permuted(layout: Layout, order: Sequence[int], where: str) -> Layout:
    """The layout after a transposition in which axis i of the result is axis `order[i]`."""
    if layout.empty:
        return layout
    names = layout.names(len(order), where)
    return Layout(written([names[index] for index in order]))


def check_order(order: Sequence[int], rank: int | None, where: str) -> None:
    """Raise InvalidArgumentError where `order` is no permutation of the axes."""
    if sorted(order) != list(range(len(order) if rank is None else rank)):
        raise InvalidArgumentError(f"{where}: {list(order)} is no order of the axes of rank {rank or len(order)}.")


def shared(model: Layout, tensor: Layout, rank: int, where: str) -> list[int]:
    """Which of a model's axes a tensor has: all, or those its layout names where it has fewer dimensions.

    Raises InvalidArgumentError where that is not clear.
    """
    if model.rank is None or tensor.rank is None or tensor.rank >= model.rank:
        return list(range(rank))
    names, wanted = model.names(rank, where), tensor.names(tensor.rank, where)
    if "?" in (*names, *wanted) or not set(wanted) <= set(names):
        raise InvalidArgumentError(f"{where}: a tensor of layout {tensor} cannot become one of {model}.")
    return [index for index, name in enumerate(names) if name in wanted]


def added(source: Sequence[str], target: Layout, where: str) -> list[str]:
    """The names that `target` has more than `source`: of axes of one element that are put in front."""
    if target.rank is None or target.rank <= len(source):
        return []
    missing = [name for name in target.names(target.rank, where) if name not in source]
    if "?" in (*source, *missing) or len(missing) + len(source) != target.rank:
        raise InvalidArgumentError(f"{where}: layout {written(source)} cannot become {target}.")
    return missing


def written(names: Sequence[str]) -> str:
    """The text of a layout."""
    return f"[{','.join(names)}]"
