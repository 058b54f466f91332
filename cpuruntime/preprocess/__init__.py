"""Preprocessing and postprocessing in the model: steps become nodes of ONNX's operators, so every device has them.

ppp = PrePostProcessor(model)
ppp.input().tensor().set_element_type("u8").set_layout("NHWC").set_color_format(ColorFormat.BGR)
ppp.input().preprocess().convert_element_type("f32").convert_color(ColorFormat.RGB).mean(127.5).scale(127.5)
ppp.input().model().set_layout("NCHW")
model = ppp.build()
"""

from cpuruntime.preprocess.input_info import InputInfo, InputModelInfo, InputTensorInfo, PreProcessSteps
from cpuruntime.preprocess.output_info import OutputInfo, OutputModelInfo, OutputTensorInfo, PostProcessSteps
from cpuruntime.preprocess.processor import PrePostProcessor
from cpuruntime.preprocess.words import ColorFormat, PaddingMode, ResizeAlgorithm
from cpuruntime.preprocess.writer import StepValue
from cpuruntime.version import __version__

__all__ = [
    "ColorFormat",
    "InputInfo",
    "InputModelInfo",
    "InputTensorInfo",
    "OutputInfo",
    "OutputModelInfo",
    "OutputTensorInfo",
    "PaddingMode",
    "PostProcessSteps",
    "PrePostProcessor",
    "PreProcessSteps",
    "ResizeAlgorithm",
    "StepValue",
    "get_version",
]


def get_version() -> str:
    """The package's version."""
    return __version__
