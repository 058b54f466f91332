"""The kernels: Python functions compiled by Numba for the processor they run on.

Nothing here knows of graphs, devices or properties. One family per file; `kernel.py` compiles and caches,
`simd.py` is the vector type, `isa.py` says what the processor offers.
"""

if __name__ != "cpuruntime.ops":
    raise ImportError("import this package as cpuruntime.ops: a second name would make a second kernel table")
