"""From a graph to a flat program of kernel calls: layouts, kernels, packed weights, the arena, the steps."""
