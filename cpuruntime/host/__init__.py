"""The machine: processors, affinity, quota, caches, memory, pinned cores of other processes, forks."""
