"""The models of bench/models at sizes that run in moments, with all of their operators."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {},
    "resnet18": dict(size=64),
    "mobilenet_v2": dict(size=64),
    "mobilenet_v3_large": dict(size=64),
    "efficientnet_b0": dict(size=64),
    "shufflenet_v2": dict(size=64),
    "resnext50": dict(size=64),
    "regnet_y_400mf": dict(size=64),
    "convnext_tiny": dict(size=64, widths=(24, 48, 72, 96), blocks=(1, 1, 2, 1)),
    "yolov8n": dict(size=96),
    "unet": dict(size=32, width=8),
    "deeplabv3": dict(size=64),
    "style_transfer": dict(size=32),
    "super_resolution": dict(size=24),
    "vit_tiny": dict(size=64, layers=2),
    "vit_base": dict(size=64, layers=2, width=128),
    "swin_tiny": dict(size=112, blocks=(2, 2, 1)),
    "bert_base": dict(tokens=20, layers=2, width=128, vocabulary=100),
    "gpt2": dict(tokens=12, layers=2, width=128, vocabulary=300),
    "llama": dict(tokens=10, layers=2, width=96, vocabulary=300),
    "wav2vec2": dict(samples=1200, layers=1, width=256),
    "lstm_classifier": dict(tokens=9, width=20, embedded=24, vocabulary=50),
    "crnn": dict(length=24, width=20),
}
