# SPDX-License-Identifier: Apache-2.0
"""
ERFNet in plain PyTorch, small blocks to large.

Romera, Alvarez, Bergasa and Arroyo, "ERFNet: Efficient Residual Factorized ConvNet for Real-time
Semantic Segmentation", IEEE T-ITS 2018, Section III: Table I and Fig. 2c; rates of dropout as in
the authors' code (Eromera/erfnet_pytorch, train/erfnet.py). 2,064,256 parameters with 20 classes;
the authors' file has 2,580 more (2.07 M), the encoder's own classes, which only their first stage
of training uses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.lednet import BN_EPS, DownsamplingUnit
from lednet_ros.model.networks import Network

DILATIONS = (2, 4, 8, 16, 2, 4, 8, 16)  # of the units at 1/8


class NonBottleneck1D(nn.Module):
    """Fig. 2c: two 3x3 convolutions, each as two 1-D ones, around a residual connection."""

    def __init__(self, channels: int, dropout: float = 0.0, dilation: int = 1) -> None:
        super().__init__()
        r = dilation
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = nn.BatchNorm2d(channels, eps=BN_EPS)
        self.conv3 = nn.Conv2d(channels, channels, (3, 1), padding=(r, 0), dilation=(r, 1))
        self.conv4 = nn.Conv2d(channels, channels, (1, 3), padding=(0, r), dilation=(1, r))
        self.bn2 = nn.BatchNorm2d(channels, eps=BN_EPS)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x))
        y = F.relu(self.bn1(self.conv2(y)))
        y = F.relu(self.conv3(y))
        return F.relu(self.dropout(self.bn2(self.conv4(y))) + x)


class UpsamplingUnit(nn.Module):
    """Double the size by a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return F.relu(self.bn(self.conv(x)[:, :, :size[0], :size[1]]))


class ERFNet(Network):
    """The whole of Table I."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.down1 = DownsamplingUnit(3, 16)
        self.down2 = DownsamplingUnit(16, 64)
        self.units2 = nn.Sequential(*(NonBottleneck1D(64, 0.03) for _ in range(5)))
        self.down3 = DownsamplingUnit(64, 128)
        self.units3 = nn.Sequential(*(NonBottleneck1D(128, 0.3, r) for r in DILATIONS))
        self.up2 = UpsamplingUnit(128, 64)
        self.units4 = nn.Sequential(NonBottleneck1D(64), NonBottleneck1D(64))
        self.up1 = UpsamplingUnit(64, 16)
        self.units5 = nn.Sequential(NonBottleneck1D(16), NonBottleneck1D(16))
        self.output_conv = nn.ConvTranspose2d(16, num_classes, 2, stride=2)

    def scores(self, x: Tensor) -> Tensor:
        """Already of the input's size: (N, num_classes, H, W)."""
        height, width = x.shape[2:]
        half = self.down1(x)                         # (N, 16, H/2, W/2)
        quarter = self.units2(self.down2(half))      # (N, 64, H/4, W/4)
        x = self.units3(self.down3(quarter))         # (N, 128, H/8, W/8)
        x = self.units4(self.up2(x, quarter.shape[2:]))
        x = self.units5(self.up1(x, half.shape[2:]))
        scores: Tensor = self.output_conv(x)
        return scores[:, :, :height, :width]
