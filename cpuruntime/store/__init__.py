"""Files that outlive the process: private folders, the cache in one of them, and the environment that names them."""

from cpuruntime.store.environment import is_environment_trusted, trusted_environment
from cpuruntime.store.folder import Folder, cache_folder
from cpuruntime.store.pack import Entry, Pack, kernel_packs, pack_files, problem_of, write_pack
from cpuruntime.store.private import PrivateFolder
from cpuruntime.store.sections import SectionFile, written

__all__ = [
    "Entry", "Folder", "Pack", "PrivateFolder", "SectionFile", "cache_folder", "is_environment_trusted", "kernel_packs",
    "pack_files", "problem_of", "trusted_environment", "write_pack", "written",
]  # fmt: skip
