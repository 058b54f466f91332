"""Standard architectures with seeded random weights, as exporters write them: `build(name)`.

`build("unet", size=64)` makes a smaller one by the architecture's own parameters; `bench/peers.py -m bench:unet`
measures one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import onnx

from cpuruntime.errors import InvalidArgumentError, nearest
from cpuruntime.properties import ENVIRONMENT_PREFIX
from models.bert import bert_base
from models.builder import LIMIT
from models.convnext import convnext_tiny
from models.efficientnet import efficientnet_b0
from models.gpt2 import gpt2
from models.images import deeplabv3, style_transfer, super_resolution
from models.llama import llama
from models.mobilenet import mobilenet_v2, mobilenet_v3_large
from models.recurrent import crnn, lstm_classifier
from models.resnext import regnet_y_400mf, resnext50
from models.shufflenet import shufflenet_v2
from models.simple import mlp, resnet18
from models.swin import swin_tiny
from models.unet import unet
from models.vit import vit_base, vit_tiny
from models.wav2vec2 import wav2vec2
from models.yolo import yolov8n

# Measured are final kernels, never what stands in for them on a machine that has not compiled them yet.
os.environ.setdefault(f"{ENVIRONMENT_PREFIX}COMPILE_MODE", "OPTIMIZED")

_BUILDERS: tuple[Callable[..., onnx.ModelProto], ...] = (
    mlp,
    resnet18,
    mobilenet_v2,
    mobilenet_v3_large,
    efficientnet_b0,
    shufflenet_v2,
    resnext50,
    regnet_y_400mf,
    convnext_tiny,
    yolov8n,
    unet,
    deeplabv3,
    style_transfer,
    super_resolution,
    vit_tiny,
    vit_base,
    swin_tiny,
    bert_base,
    gpt2,
    llama,
    wav2vec2,
    lstm_classifier,
    crnn,
)

__all__ = ["LIMIT", "MODELS", "build"]

MODELS = {builder.__name__: builder for builder in _BUILDERS}
"""Builders by name. Each takes a seed and, by keyword, sizes that default to those of the real architecture."""


def build(name: str, seed: int = 0, **sizes: Any) -> onnx.ModelProto:
    """The model `name`; the same for the same seed and sizes. Raises InvalidArgumentError for an unknown name."""
    return find(name)(seed, **sizes)


def find(name: str) -> Callable[..., onnx.ModelProto]:
    """The builder of the model `name`. Raises InvalidArgumentError for an unknown name."""
    builder = MODELS.get(name)
    if builder is None:
        raise InvalidArgumentError(
            f"there is no bench model '{name}'.{nearest(name, MODELS)} There are: {', '.join(MODELS)}."
        )
    return builder
