"""OpenVINO's names of exceptions, for programs that catch them."""

from cpuruntime.errors import Error as OVError
from cpuruntime.errors import InvalidArgumentError as UserInputError
from cpuruntime.errors import WrongTypeError as OVTypeError

__all__ = ["OVError", "OVTypeError", "UserInputError"]
