# SPDX-License-Identifier: Apache-2.0
"""
ENet in plain PyTorch, small blocks to large.

Paszke, Chaurasia, Kim and Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time
Semantic Segmentation", arXiv 1606.02147, Section 3: Table 1 and Fig. 2. Where text and code leave
a choice, this is what the authors' code trains (e-lab/ENet-training, train/models): ReLU and no
dropout in the decoder, though the text has PReLU and a regulariser everywhere; a bias in each
bottleneck's middle convolution, though the text has none; a transposed 3x3 convolution in the
upsampling bottlenecks. 0.36 M parameters with 20 classes, as LEDNet's Table 2 has it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.lednet import BN_EPS, max_pool
from lednet_ros.model.networks import Network
from lednet_ros.model.networks.segnet import pool, unpool

# What follows each way down: 'plain', 'asymmetric' (5x1 and 1x5) or a dilation.
STAGE1 = ('plain',) * 4
STAGE2_AND_3 = ('plain', 2, 'asymmetric', 4, 'plain', 8, 'asymmetric', 16) * 2


def conv_bn(in_channels: int, out_channels: int, kernel: int = 1) -> list[nn.Module]:
    """Return a convolution without bias whose stride is its kernel, and BN."""
    return [nn.Conv2d(in_channels, out_channels, kernel, kernel, bias=False),
            nn.BatchNorm2d(out_channels, eps=BN_EPS)]


def middle(channels: int, kind: str | int) -> list[nn.Module]:
    """Return the bottleneck's own convolution (Section 3: regular, dilated or asymmetric)."""
    if kind == 'asymmetric':
        return [nn.Conv2d(channels, channels, (1, 5), padding=(0, 2), bias=False),
                nn.Conv2d(channels, channels, (5, 1), padding=(2, 0))]
    dilation = 1 if kind == 'plain' else int(kind)
    return [nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)]


class InitialBlock(nn.Module):
    """Fig. 2a: 13 channels by a strided convolution, 3 by pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(16, eps=BN_EPS)
        self.activation = nn.PReLU(16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.bn(torch.cat([self.conv(x), max_pool(x)], 1)))
        return y


class Bottleneck(nn.Module):
    """Fig. 2b in the encoder, at the same size."""

    def __init__(self, channels: int, kind: str | int, dropout: float) -> None:
        super().__init__()
        inner = channels // 4
        self.branch = nn.Sequential(
            *conv_bn(channels, inner), nn.PReLU(inner),
            *middle(inner, kind), nn.BatchNorm2d(inner, eps=BN_EPS), nn.PReLU(inner),
            *conv_bn(inner, channels), nn.Dropout2d(dropout))
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.branch(x) + x)
        return y


class DownsamplingBottleneck(nn.Module):
    """Fig. 2b, halving: the branch by a 2x2 convolution, the way past it by pooling."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = out_channels // 4
        self.branch = nn.Sequential(
            *conv_bn(in_channels, inner, 2), nn.PReLU(inner),
            *middle(inner, 'plain'), nn.BatchNorm2d(inner, eps=BN_EPS), nn.PReLU(inner),
            *conv_bn(inner, out_channels), nn.Dropout2d(dropout))
        self.activation = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and where the pooling found its maxima, for `unpool`."""
        height, width = x.shape[2:]
        if height % 2 or width % 2:  # odd sizes round up
            x = F.pad(x, (0, width % 2, 0, height % 2))
        branch = self.branch(x)
        past, places = pool(x)
        past = F.pad(past, (0, 0, 0, 0, 0, branch.shape[1] - past.shape[1]))  # channels of zeros
        return self.activation(branch + past), places


class DecoderBottleneck(nn.Module):
    """Fig. 2b in the decoder, at the same size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.branch = nn.Sequential(
            *conv_bn(channels, inner), nn.ReLU(),
            *middle(inner, 'plain'), nn.BatchNorm2d(inner, eps=BN_EPS), nn.ReLU(),
            *conv_bn(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + x)


class UpsamplingBottleneck(nn.Module):
    """Fig. 2b, doubling: the branch by a transposed convolution, the way past it by unpooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = out_channels // 4
        self.branch = nn.Sequential(
            *conv_bn(in_channels, inner), nn.ReLU(),
            nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(inner, eps=BN_EPS), nn.ReLU(),
            *conv_bn(inner, out_channels))
        self.past = nn.Sequential(*conv_bn(in_channels, out_channels))

    def forward(self, x: Tensor, places: Tensor, size: torch.Size) -> Tensor:
        branch = self.branch(x)[:, :, :size[0], :size[1]]
        return F.relu(branch + unpool(self.past(x), places, size))


class ENet(Network):
    """The whole of Table 1."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.initial = InitialBlock()
        self.down1 = DownsamplingBottleneck(16, 64, 0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, kind, 0.01) for kind in STAGE1))
        self.down2 = DownsamplingBottleneck(64, 128, 0.1)
        self.stage2_and_3 = nn.Sequential(*(Bottleneck(128, kind, 0.1) for kind in STAGE2_AND_3))
        self.up4 = UpsamplingBottleneck(128, 64)
        self.stage4 = nn.Sequential(DecoderBottleneck(64), DecoderBottleneck(64))
        self.up5 = UpsamplingBottleneck(64, 16)
        self.stage5 = DecoderBottleneck(16)
        self.fullconv = nn.ConvTranspose2d(16, num_classes, 2, stride=2)

    def scores(self, x: Tensor) -> Tensor:
        """Already of the input's size: (N, num_classes, H, W)."""
        height, width = x.shape[2:]
        half = self.initial(x)                         # (N, 16, H/2, W/2)
        quarter, places1 = self.down1(half)
        quarter = self.stage1(quarter)                 # (N, 64, H/4, W/4)
        x, places2 = self.down2(quarter)
        x = self.stage2_and_3(x)                       # (N, 128, H/8, W/8)
        x = self.stage4(self.up4(x, places2, quarter.shape[2:]))
        x = self.stage5(self.up5(x, places1, half.shape[2:]))
        scores: Tensor = self.fullconv(x)
        return scores[:, :, :height, :width]
