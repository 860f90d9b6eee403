# SPDX-License-Identifier: Apache-2.0
"""
SegNet in plain PyTorch: VGG16's convolutions, and their mirror fed through pooling indices.

Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", TPAMI 2017, Section 3 and Fig. 2; widths as in the authors' Caffe model
(alexgkendall/SegNet-Tutorial, Models/segnet_inference.prototxt): 29.46 M parameters with 20
classes, the 29.5 M of LEDNet's Table 2. That model fixes the input to 480x360; here it is free.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.networks import Network

ENCODER = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """
    Halve by the maximum of 2x2, odd sizes rounded up, and tell where each maximum was.

    The places are (N, C, 4, h, w) booleans, the four in reading order, of equal ones the first:
    what pooling indices say, in a form that ONNX and TensorRT convert.
    """
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2), mode='replicate')
    maximum = F.max_pool2d(x, 2)
    places: list[Tensor] = []
    for corner in (x[:, :, i::2, j::2] == maximum for i in (0, 1) for j in (0, 1)):
        is_first = corner
        for earlier in places:
            is_first = is_first & ~earlier
        places.append(is_first)
    return maximum, torch.stack(places, 2)


def unpool(x: Tensor, places: Tensor, size: torch.Size) -> Tensor:
    """Put each value of (N, C, h, w) where its maximum was and 0 elsewhere (Fig. 3)."""
    _, channels, height, width = x.shape
    spread = torch.where(places, x.unsqueeze(2), torch.zeros_like(x).unsqueeze(2))
    spread = spread.reshape(-1, 4 * channels, height, width)
    return F.pixel_shuffle(spread, 2)[:, :, :size[0], :size[1]]


def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3, same size."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1),
                         nn.BatchNorm2d(out_channels), nn.ReLU())


def stages(in_channels: int, widths: tuple[tuple[int, ...], ...]) -> nn.ModuleList:
    """One run of convolutions between two changes of size each."""
    result = nn.ModuleList()
    for stage in widths:
        inputs = (in_channels, *stage[:-1])
        result.append(nn.Sequential(*map(conv_bn_relu, inputs, stage)))
        in_channels = stage[-1]
    return result


class SegNet(Network):
    """The whole of Fig. 2."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = stages(3, ENCODER)
        self.decoder = stages(512, DECODER)
        self.classifier = nn.Conv2d(64, num_classes, 3, padding=1)

    def scores(self, x: Tensor) -> Tensor:
        """Already of the input's size: (N, num_classes, H, W)."""
        pooled = []
        for stage in self.encoder:
            x = stage(x)                # (N, 64 to 512, H, W) to (N, 512, H/16, W/16)
            size = x.shape[2:]
            x, places = pool(x)
            pooled.append((places, size))
        for stage in self.decoder:      # and back
            x = stage(unpool(x, *pooled.pop()))
        scores: Tensor = self.classifier(x)
        return scores
