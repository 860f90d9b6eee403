# SPDX-License-Identifier: Apache-2.0
"""
ESPNet in plain PyTorch, small blocks to large.

Mehta, Rastegari, Caspi, Shapiro and Hajishirzi, "ESPNet: Efficient Spatial Pyramid of Dilated
Convolutions for Semantic Segmentation", ECCV 2018, Section 3: the ESP module of Fig. 1, the
network of Fig. 4d with alpha2 = 2 and alpha3 = 8, the pair of 60.3 % and 0.36 M parameters
(LEDNet's Table 2 says 0.40). As in the authors' code (sacmehta/ESPNet, train/Model.py) the first
of the parallel convolutions also takes the channels that a fifth leaves over, and no convolution
has a bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.lednet import BN_EPS
from lednet_ros.model.networks import Network

DILATIONS = (1, 2, 4, 8, 16)
ALPHA2, ALPHA3 = 2, 8  # how often the ESP module is repeated at 1/4 and at 1/8


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1,
         dilation: int = 1) -> nn.Conv2d:
    """Keep or halve the size, without a bias."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, dilation * (kernel // 2),
                     dilation, bias=False)


def up(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Double the size."""
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)


def bn_prelu(channels: int) -> nn.Sequential:
    """BN and PReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels, eps=BN_EPS), nn.PReLU(channels))


def average_pool(x: Tensor) -> Tensor:
    """Halve the image for the input reinforcement, odd sizes rounded up."""
    return F.avg_pool2d(x, 3, stride=2, padding=1)


class ESPModule(nn.Module):
    """
    Fig. 1: reduce, split into dilated convolutions, sum them stepwise, merge.

    The reduction is pointwise, or 3x3 with stride 2 where the module halves the size.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, is_residual: bool = True
    ) -> None:
        super().__init__()
        width = out_channels // len(DILATIONS)
        first = out_channels - (len(DILATIONS) - 1) * width
        self.reduce = conv(in_channels, width, 3 if stride == 2 else 1, stride)
        self.branches = nn.ModuleList(
            conv(width, width if r > 1 else first, 3, dilation=r) for r in DILATIONS)
        self.merge = bn_prelu(out_channels)
        self._is_residual = is_residual and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        parts = [branch(reduced) for branch in self.branches]
        for i in range(2, len(parts)):  # hierarchical feature fusion, against gridding
            parts[i] = parts[i] + parts[i - 1]
        y = torch.cat(parts, 1)
        merged: Tensor = self.merge(x + y if self._is_residual else y)
        return merged


class ESPNet(Network):
    """The whole of Fig. 4d."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # The decoder's ESP module needs a channel for each branch.
        classes = max(num_classes, len(DILATIONS))
        self.level1 = nn.Sequential(conv(3, 16, 3, stride=2), bn_prelu(16))
        self.merge1 = bn_prelu(16 + 3)
        self.down2 = ESPModule(16 + 3, 64, stride=2)
        self.level2 = nn.Sequential(*(ESPModule(64, 64) for _ in range(ALPHA2)))
        self.merge2 = bn_prelu(128 + 3)
        self.down3 = ESPModule(128 + 3, 128, stride=2)
        self.level3 = nn.Sequential(*(ESPModule(128, 128) for _ in range(ALPHA3)))
        self.merge3 = bn_prelu(256)
        self.classes3 = conv(256, classes, 1)
        self.classes2 = conv(128 + 3, classes, 1)
        self.bn3 = nn.BatchNorm2d(classes, eps=BN_EPS)
        self.classes1 = nn.Sequential(conv(16 + 3 + classes, classes, 3), bn_prelu(classes))
        self.up3 = up(classes, classes)
        self.fuse = nn.Sequential(
            bn_prelu(2 * classes), ESPModule(2 * classes, classes, is_residual=False))
        self.up2 = nn.Sequential(up(classes, classes), bn_prelu(classes))
        self.up1 = up(classes, num_classes)

    def scores(self, x: Tensor) -> Tensor:
        """Already of the input's size: (N, num_classes, H, W)."""
        height, width = x.shape[2:]
        half = average_pool(x)
        features1 = self.merge1(torch.cat([self.level1(x), half], 1))  # (N, 19, H/2, W/2)
        first = self.down2(features1)
        features2 = self.merge2(torch.cat(
            [self.level2(first), first, average_pool(half)], 1))       # (N, 131, H/4, W/4)
        first = self.down3(features2)
        features3 = self.merge3(torch.cat(
            [first, self.level3(first)], 1))                           # (N, 256, H/8, W/8)
        classes = self.up3(self.bn3(self.classes3(features3)))
        classes = self._like(classes, features2)
        classes = self.up2(self.fuse(torch.cat([self.classes2(features2), classes], 1)))
        classes = self._like(classes, features1)
        scores: Tensor = self.up1(self.classes1(torch.cat([classes, features1], 1)))
        return scores[:, :, :height, :width]

    @staticmethod
    def _like(x: Tensor, other: Tensor) -> Tensor:
        return x[:, :, :other.shape[2], :other.shape[3]]
