"""What an inference returns, and tensors from files, by OpenVINO's names."""

from cpuruntime.api.results import OVDict
from cpuruntime.api.tensor import tensor_from_file

__all__ = ["OVDict", "tensor_from_file"]
