"""The `cpuruntime` command: `benchmark` measures a model, `devices` lists what is available.

Built on the public names only.
"""
