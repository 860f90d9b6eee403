# SPDX-License-Identifier: Apache-2.0
"""
LEDNet as in Table 1 of the paper, in plain PyTorch, small blocks to large.

Wang et al., "LEDNet: A Lightweight Encoder-Decoder Network for Real-Time Semantic Segmentation",
ICIP 2019. Where text and figure leave a choice, this is the 0.94 M parameter network that the
authors' code trains and Table 2 reports (925,663 parameters with 20 classes).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BN_EPS = 1e-3  # of every batch normalisation, as in the authors' code


def channel_shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels, so that the next split mixes both branches."""
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize bilinearly with aligned corners, as everywhere in this network."""
    return F.interpolate(x, size, mode='bilinear', align_corners=True)


def max_pool(x: Tensor) -> Tensor:
    """Halve by the maximum of 2x2; odd sizes round up, as a strided convolution's do."""
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        # What ceil_mode would do, in a form that TensorRT converts: the edge counts twice.
        x = F.pad(x, (0, width % 2, 0, height % 2), mode='replicate')
    return F.max_pool2d(x, 2)


class DownsamplingUnit(nn.Module):
    """Halve the size: a strided convolution and a max-pooling side by side (Section 2.2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(torch.cat([self.conv(x), max_pool(x)], 1)))


class FactorizedBranch(nn.Module):
    """One half of an SS-nbt unit: two 3x3 convolutions, each as two 1-D ones (Fig. 2d)."""

    def __init__(
        self, channels: int, vertical_first: bool, dilation: int, dropout: float
    ) -> None:
        super().__init__()

        def conv(vertical: bool, r: int = 1) -> nn.Conv2d:
            kernel, padding = ((3, 1), (r, 0)) if vertical else ((1, 3), (0, r))
            return nn.Conv2d(channels, channels, kernel, padding=padding, dilation=r)

        self.conv1 = conv(vertical_first)
        self.conv2 = conv(not vertical_first)
        self.bn1 = nn.BatchNorm2d(channels, eps=BN_EPS)
        self.conv3 = conv(vertical_first, dilation)
        self.conv4 = conv(not vertical_first, dilation)
        self.bn2 = nn.BatchNorm2d(channels, eps=BN_EPS)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.bn1(self.conv2(x)))
        x = F.relu(self.conv3(x))
        return self.dropout(self.bn2(self.conv4(x)))


class SSnbtUnit(nn.Module):
    """Split-shuffle-non-bottleneck: split, two factorized branches, residual, shuffle (2.1)."""

    def __init__(self, channels: int, dropout: float, dilation: int = 1) -> None:
        super().__init__()
        self.left = FactorizedBranch(channels // 2, True, dilation, dropout)
        self.right = FactorizedBranch(channels // 2, False, dilation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        residual = torch.cat([self.left(left), self.right(right)], 1)
        return channel_shuffle(F.relu(x + residual))


class Encoder(nn.Module):
    """The upper part of Table 1: three times half the size, context by dilation."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.down1 = DownsamplingUnit(3, 32)
        self.units1 = nn.Sequential(*(SSnbtUnit(32, 0.03) for _ in range(3)))
        self.down2 = DownsamplingUnit(32, 64)
        self.units2 = nn.Sequential(*(SSnbtUnit(64, 0.03) for _ in range(2)))
        self.down3 = DownsamplingUnit(64, 128)
        self.units3 = nn.Sequential(*(SSnbtUnit(128, 0.3, r) for r in (1, 2, 5, 9, 2, 5, 9, 17)))
        # Classes straight from the encoder: the first training stage and the auxiliary loss.
        self.output_conv = nn.Conv2d(128, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.units1(self.down1(x))     # (N, 32, H/2, W/2)
        x = self.units2(self.down2(x))     # (N, 64, H/4, W/4)
        return self.units3(self.down3(x))  # (N, 128, H/8, W/8)


class ConvBNReLU(nn.Module):
    """A convolution that keeps (stride 1) or halves (stride 2) the size, BN and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        bn = self.bn
        if (self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1
                and type(bn) is nn.BatchNorm2d):  # a synchronised one has other processes' too
            # One value a channel has no variance (global branch, batch of 1): use what was learnt.
            return F.relu(F.batch_norm(
                x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps))
        return F.relu(bn(x))


class APN(nn.Module):
    """
    Attention pyramid network, the decoder (Section 2.2): one-channel attention times classes.

    The kernels run 7, 5, 3 from the largest map to the smallest, as in the authors' code.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.global_branch = ConvBNReLU(in_channels, num_classes, 1)
        self.mid = ConvBNReLU(in_channels, num_classes, 1)
        self.down1 = ConvBNReLU(in_channels, 1, 7, stride=2)
        self.down2 = ConvBNReLU(1, 1, 5, stride=2)
        self.down3 = ConvBNReLU(1, 1, 3, stride=2)
        self.conv1 = ConvBNReLU(1, 1, 7)
        self.conv2 = ConvBNReLU(1, 1, 5)
        self.conv3 = ConvBNReLU(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        pyramid1 = self.down1(x)         # (N, 1, H/16, W/16)
        pyramid2 = self.down2(pyramid1)  # (N, 1, H/32, W/32)
        pyramid3 = self.down3(pyramid2)  # (N, 1, H/64, W/64)
        attention = resize(self.conv3(pyramid3), pyramid2.shape[2:]) + self.conv2(pyramid2)
        attention = resize(attention, pyramid1.shape[2:]) + self.conv1(pyramid1)
        attention = resize(attention, x.shape[2:])
        context = self.global_branch(F.adaptive_avg_pool2d(x, 1))  # (N, C, 1, 1), broadcast
        return attention * self.mid(x) + context


class LEDNet(nn.Module):
    """
    The whole of Table 1.

    Input: (N, 3, H, W) float RGB in [0, 1], H and W at least 32 and otherwise free.
    Output: (N, num_classes, H, W) scores, the larger the likelier (not below 0, no softmax).
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = Encoder(num_classes)
        self.apn = APN(128, num_classes)

    def scores(self, x: Tensor) -> Tensor:
        """Return what the APN gives, before the upsampling unit: (N, num_classes, H/8, W/8)."""
        return self.apn(self.encoder(x))

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.scores(x), x.shape[2:])
