"""Every family's lowerings, imported so that the table is complete."""

from cpuruntime.program import (
    lower_attention,
    lower_convolution,
    lower_depth,
    lower_elementwise,
    lower_extreme,
    lower_fused,
    lower_group_norm,
    lower_layer_norm,
    lower_matmul,
    lower_movement,
    lower_normalisation,
    lower_padding,
    lower_pooling,
    lower_recurrent,
    lower_reduction,
    lower_resize,
    lower_transposed_convolution,
)
from cpuruntime.program.lowering import find

__all__ = [
    "find",
    "lower_attention",
    "lower_convolution",
    "lower_depth",
    "lower_elementwise",
    "lower_extreme",
    "lower_fused",
    "lower_group_norm",
    "lower_layer_norm",
    "lower_matmul",
    "lower_movement",
    "lower_normalisation",
    "lower_padding",
    "lower_pooling",
    "lower_recurrent",
    "lower_reduction",
    "lower_resize",
    "lower_transposed_convolution",
]
