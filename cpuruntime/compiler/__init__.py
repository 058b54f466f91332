"""From a Python function to machine code: the target, the vector type, kernels and their cache."""
