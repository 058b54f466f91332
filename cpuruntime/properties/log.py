"""The log, by OpenVINO's names; here it is Python's `logging`, logger "cpuruntime"."""

from __future__ import annotations

from cpuruntime.properties.declaration import Choice, accepted
from cpuruntime.properties.words import Word


class Level(Word):
    """How much is logged."""

    NO = "LOG_NONE", -1
    ERR = "LOG_ERROR", 0
    WARNING = "LOG_WARNING", 1
    INFO = "LOG_INFO", 2
    DEBUG = "LOG_DEBUG", 3
    TRACE = "LOG_TRACE", 4


level = accepted(
    "LOG_LEVEL", Choice(Level), Level.NO,
    'the level is that of Python\'s logger "cpuruntime"',
)  # fmt: skip
