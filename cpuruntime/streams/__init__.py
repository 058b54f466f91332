"""CPU streams: groups of pinned threads that run native programs, and the queue in front of them.

`topology` says what processors this process has, `thread_group` runs a job by several threads, `executor` hands tasks
to idle streams. Nothing here knows of graphs or tensors.
"""
