"""Packing of elements narrower than a byte, by OpenVINO's names."""

from cpuruntime.api.packing import pack_data, unpack_data

__all__ = ["pack_data", "unpack_data"]
