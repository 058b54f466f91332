"""Files that outlive the process: private folders and the one in which compiled kernels and measurements are cached."""

from cpuruntime.store.folder import Folder, cache_folder

__all__ = ["Folder", "cache_folder"]
