"""Models of images: classifiers, segmentation, detectors with their selection of boxes."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from recipe import Recipe
from text_recipes import EAGER, Call
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    Swinv2Config,
    Swinv2Model,
    ViTConfig,
    ViTForImageClassification,
)

SIZES = [dict(batch=2, height=48, width=64), dict(batch=1, height=64, width=96), dict(batch=3, height=33, width=47)]


def block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU())


class UNet(nn.Module):
    """Three scales; the way up takes the size of what it is joined with."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(3, 8), block(8, 16), block(16, 24)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(24, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.join = nn.ModuleList([block(32, 16), block(16, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skips = [self.down[0](image)]
        for layer in self.down[1:]:
            skips.append(layer(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up, join in zip(self.up, self.join):
            skip = skips.pop()
            x = F.interpolate(up(x), size=skip.shape[2:], mode="bilinear", align_corners=True)
            x = join(torch.cat([skip, x], 1))
        return self.head(x)


class Yolo(nn.Module):
    """Boxes on two scales, each around a centre in its cell; the best of each class, less what overlaps it."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, 2), block(8, 16, 2), block(16, 24, 2))
        self.next = block(24, 24, 2)
        self.heads = nn.ModuleList([nn.Conv2d(24, 4 + classes, 1) for _ in range(2)])

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        import torchvision

        fine = self.stem(image)
        boxes, scores = [], []
        for stride, x, head in zip((8, 16), (fine, self.next(fine)), self.heads):
            y = head(x)[0]
            height, width = y.shape[1:]
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            centre = torch.stack([columns + y[0].sigmoid(), rows + y[1].sigmoid()]) * stride
            half = torch.exp(y[2:4]) * stride
            boxes.append(torch.cat([centre - half, centre + half]).flatten(1).T)
            scores.append(y[4:].sigmoid().flatten(1).T)
        best, label = torch.cat(scores).max(1)
        box = torch.cat(boxes)
        chosen = torchvision.ops.nms(box + label[:, None] * 4096.0, best, 0.5)
        chosen = chosen[best[chosen] > 0.5]
        return box[chosen], best[chosen], label[chosen]


def settled(module: nn.Module, example: Any = None) -> nn.Module:
    """The module as after training: normalisations that have seen images, and scores that differ from each other."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in module.eval().modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight)
    for norm in norms:
        norm.train().momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        module(torch.rand(2, 3, 96, 128) if example is None else example)
    return module.eval()


def images(module: nn.Module, outputs: list[str], **more: Any) -> Recipe:
    axes = [{0: "batch", 2: "height", 3: "width"}] * len(outputs)
    return Recipe(module, dict(image="batch 3 height width"), outputs, SIZES, output_axes=axes, **more)


def unet() -> Recipe:
    return images(settled(UNet()), ["mask"])


def unet_dynamo() -> Recipe:
    return images(settled(UNet()), ["mask"], dynamo=True)


def segformer() -> Recipe:
    model = SegformerForSemanticSegmentation(
        SegformerConfig(
            num_encoder_blocks=3,
            depths=[1, 1, 1],
            sr_ratios=[4, 2, 1],
            hidden_sizes=[8, 16, 24],
            patch_sizes=[7, 3, 3],
            strides=[4, 2, 2],
            num_attention_heads=[1, 2, 3],
            mlp_ratios=[2, 2, 2],
            decoder_hidden_size=16,
            num_labels=4,
            initializer_range=0.2,
        )
    )
    return images(settled(Call(model, lambda m, image: m(image).logits)), ["logits"])


def vit() -> Recipe:
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=5,
        initializer_range=0.2,
    )
    recipe = images(Call(ViTForImageClassification(config), lambda m, x: m(x).logits), ["logits"], dynamo=True)
    recipe.inputs = dict(image="batch 3 32 32")
    return recipe


def clip() -> Recipe:
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    text = dict(sizes, vocab_size=99, max_position_embeddings=16, bos_token_id=1, eos_token_id=98)
    config = CLIPConfig(
        text_config=text, vision_config=dict(sizes, image_size=32, patch_size=8), projection_dim=24, **EAGER
    )

    def call(m: Any, ids: torch.Tensor, mask: torch.Tensor, image: torch.Tensor) -> Any:
        found = m(input_ids=ids, attention_mask=mask, pixel_values=image)
        return found.logits_per_image, found.text_embeds, found.image_embeds

    return Recipe(
        Call(CLIPModel(config), call),
        dict(input_ids="texts length", attention_mask="texts length", image="batch 3 32 32"),
        ["logits", "text", "picture"],
        [dict(texts=2, length=7, batch=1), dict(texts=3, length=16, batch=2), dict(texts=1, length=2, batch=3)],
        dict(input_ids="below 99", attention_mask="mask"),
        output_axes=[{0: "batch", 1: "texts"}, {0: "texts"}, {0: "batch"}],
    )


def swin() -> Recipe:
    config = Swinv2Config(
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2],
        num_heads=[2],
        window_size=4,
        initializer_range=0.2,
    )
    recipe = images(Call(Swinv2Model(config), lambda m, x: m(x).last_hidden_state), ["states"])
    recipe.inputs, recipe.output_axes = dict(image="batch 3 32 32"), [{0: "batch"}]
    return recipe


def deeplab() -> Recipe:
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    model = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    return images(Call(model, lambda m, image: m(image)["out"]), ["mask"])


def detector(model: nn.Module, outputs: list[str], sizes: list[tuple[int, int]]) -> Recipe:
    """A detector of torchvision, which takes a list of images and returns a dictionary for each."""

    def call(m: Any, image: torch.Tensor) -> Any:
        found = m([image])[0]
        return tuple(found[name] for name in outputs)

    return Recipe(
        Call(settled(model, list(torch.rand(2, 3, 240, 320))), call),
        dict(image="3 height width"),
        outputs,
        [dict(height=height, width=width) for height, width in sizes],
        dict(image="uniform"),
        output_axes=[{0: "found"}] * len(outputs),
    )


def ssd() -> Recipe:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    few = dict(score_thresh=0.3, topk_candidates=40, detections_per_img=10)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4, **few)
    recipe = detector(model, ["boxes", "scores", "labels"], [(240, 320), (320, 320), (97, 130)])
    for layer in model.head.classification_head.module_list:
        layer[-1].weight.data *= 0.2  # scores that are not all next to 1
    return recipe


def yolo() -> Recipe:
    recipe = images(settled(Yolo(), torch.rand(1, 3, 96, 128)), ["boxes", "scores", "labels"])
    recipe.inputs, recipe.output_axes = dict(image="1 3 height width"), [{0: "found"}] * 3
    return recipe


def yolo_dynamo() -> Recipe:
    recipe = yolo()
    recipe.dynamo = True
    return recipe


class Pyramid(nn.Module):
    """Features on two scales."""

    out_channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, 2), block(8, 16, 2))
        self.next = block(16, 16, 2)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.stem(image)
        return {"0": fine, "1": self.next(fine)}


def mask_rcnn() -> Recipe:
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    model = MaskRCNN(
        Pyramid(),
        num_classes=3,
        min_size=96,
        max_size=128,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 4, 2),
        mask_roi_pool=MultiScaleRoIAlign(["0", "1"], 6, 2),
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=20,
        box_detections_per_img=8,
        box_score_thresh=0.2,
    )
    return detector(model, ["boxes", "labels", "scores", "masks"], [(96, 128), (60, 80), (128, 100)])


RECIPES = [unet, unet_dynamo, segformer, vit, clip, swin]
if importlib.util.find_spec("torchvision"):
    RECIPES += [deeplab, ssd, yolo, yolo_dynamo, mask_rcnn]
