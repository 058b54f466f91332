"""Conversions that programs for OpenVINO import from `openvino.utils`."""

from cpuruntime.utils import types

__all__ = ["types"]
