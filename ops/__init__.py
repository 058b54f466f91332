"""The kernels: Python functions compiled by Numba for the processor they run on.

Nothing here knows of graphs, devices or properties. One family per file. How they are compiled and cached stands in
`cpuruntime.compiler`.
"""

if __name__ != "cpuruntime.ops":
    raise ImportError("import this package as cpuruntime.ops: a second name would make a second kernel table")
