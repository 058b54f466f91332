"""The environment, which counts only where the user who set it is the one whose rights the process has."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

log = logging.getLogger("cpuruntime")

_AT_SECURE = 23
"""The entry of the auxiliary vector that is set where a program got rights by a file: setuid, setgid, capabilities."""


def is_environment_trusted() -> bool:
    """Whether the environment is that of the effective user: real and effective ids agree, and AT_SECURE is not set."""
    return os.getuid() == os.geteuid() and os.getgid() == os.getegid() and not _is_secure()


def trusted_environment() -> Mapping[str, str]:
    """The environment; empty where it is not to be trusted, which is logged once. Thread-safe."""
    if is_environment_trusted():
        return os.environ
    _log_untrusted()
    return MappingProxyType({})


@cache
def _is_secure() -> bool:
    getauxval = ctypes.CDLL(None).getauxval  # a process that changed its user may not read /proc/self/auxv
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(getauxval(_AT_SECURE))


@cache
def _log_untrusted() -> None:
    log.warning(
        "the environment is ignored, CPURUNTIME_ variables and HOME too: this process has the rights of another user "
        "than the one who started it, or file capabilities"
    )
