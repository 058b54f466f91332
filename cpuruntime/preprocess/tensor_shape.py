"""The shape and layout of a user's tensor, from what is said about it and the model's input."""

from __future__ import annotations

from cpuruntime.api.layout import Layout
from cpuruntime.api.ports import ConstOutput
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Dimension
from cpuruntime.preprocess.input_info import InputInfo
from cpuruntime.preprocess.layouts import check_order, permutation, permuted, shared
from cpuruntime.preprocess.words import ColorFormat

Extents = list[Dimension]


def describe_input(info: InputInfo, port: ConstOutput, where: str) -> tuple[Extents | None, Layout, Layout]:
    """The shape of the user's tensor (None where its rank is not known), its layout, and that of the model's input.

    Layouts that are not said follow from each other, so that only steps that convert layouts transpose. Images have the
    layout NHWC unless said. Raises InvalidArgumentError, beginning with `where`, for layouts and shapes that contradict
    each other.
    """
    tensor, orders = info.tensor(), info.preprocess().orders
    tensor_layout = tensor.layout or Layout()
    if tensor.layout is None and tensor.color is not ColorFormat.UNDEFINED:
        tensor_layout = Layout("NHWC")
    model_layout = info.model().layout or port.facts.layout
    if model_layout.empty and tensor.layout is not None:
        model_layout = info.preprocess().layout or tensor_layout
        for order in orders:
            model_layout = permuted(model_layout, order, where)
    model = port.partial_shape
    model_layout.check_fits(model, port.any_name)
    extents = None if model.rank.is_dynamic else list(model)
    if not tensor_layout.empty and not model_layout.empty and tensor_layout != model_layout:
        if extents is not None:
            extents = _as_tensor(extents, model_layout, tensor_layout, where)
    elif extents is not None:
        layout = model_layout
        for order in reversed(orders):
            check_order(order, len(extents), where)
            back = [order.index(axis) for axis in range(len(order))]
            extents, layout = [extents[axis] for axis in back], permuted(layout, back, where)
        tensor_layout = layout if tensor_layout.empty else tensor_layout
    elif tensor_layout.empty:
        tensor_layout = model_layout
    if tensor.shape is not None:
        extents = None if tensor.shape.rank.is_dynamic else list(tensor.shape)
    elif tensor.spatial is not None:
        extents = _with_spatial(extents, tensor_layout, tensor.spatial, where)
    if extents is not None:
        tensor_layout.names(len(extents), f"{port.any_name}: the user's tensor")
    return extents, tensor_layout, model_layout


def _as_tensor(extents: Extents, model: Layout, tensor: Layout, where: str) -> Extents:
    rank = len(extents)
    names = model.names(rank, where)
    kept = shared(model, tensor, rank, where)
    extents, names = [extents[axis] for axis in kept], [names[axis] for axis in kept]
    if tensor.rank not in (None, len(extents)):
        raise InvalidArgumentError(f"{where}: a tensor of layout {tensor} cannot become one of {model}.")
    order = permutation(names, tensor.names(len(extents), where), where)
    return [extents[axis] for axis in order]


def _with_spatial(extents: Extents | None, layout: Layout, spatial: tuple[int, int], where: str) -> Extents:
    names = [] if extents is None else layout.names(len(extents), where)
    if extents is None or "H" not in names or "W" not in names:
        raise InvalidArgumentError(
            f"{where}: height and width are set, and layout {layout} has no H and W: set_layout says what the "
            "dimensions mean, such as NHWC."
        )
    extents = list(extents)
    for name, size in zip("HW", spatial):
        extents[names.index(name)] = Dimension(size)
    return extents
