# SPDX-License-Identifier: Apache-2.0
"""
CGNet in plain PyTorch, small blocks to large.

Wu, Tang, Zhang and Zhang, "CGNet: A Light-weight Context Guided Network for Semantic
Segmentation", arXiv 1811.08201, Section III: the context guided block, and the network of Table I
with M = 3 and N = 21, the pair whose 64.8 % and 0.50 M parameters LEDNet's Table 2 reports. As in
the authors' code (wutianyiRosun/CGNet, model/CGNet.py) the first block of each stage reduces by a
3x3 convolution with stride 2 and projects its joint features back to one width, and the scores
grow by 8 without aligned corners.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.networks import Network
from lednet_ros.model.networks.espnet import average_pool, bn_prelu, conv

M, N = 3, 21  # blocks of stage 2 and of stage 3, the one that halves the size counted


def conv_bn_prelu(in_channels: int, out_channels: int, kernel: int, stride: int = 1
                  ) -> nn.Sequential:
    """Return a convolution without bias, BN and PReLU."""
    return nn.Sequential(conv(in_channels, out_channels, kernel, stride), bn_prelu(out_channels))


def channel_wise(channels: int, dilation: int = 1) -> nn.Conv2d:
    """Convolve each channel by itself, 3x3."""
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels,
                     bias=False)


class GlobalContext(nn.Module):
    """f_glo: weigh the channels by what the whole map holds."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // reduction, 1)  # a linear layer: of one pixel
        self.expand = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.expand(context))


class DownBlock(nn.Module):
    """A context guided block that halves the size."""

    def __init__(self, in_channels: int, channels: int, dilation: int, reduction: int) -> None:
        super().__init__()
        self.reduce = conv_bn_prelu(in_channels, channels, 3, stride=2)
        self.local = channel_wise(channels)
        self.surrounding = channel_wise(channels, dilation)
        self.joint = bn_prelu(2 * channels)
        self.project = conv(2 * channels, channels, 1)
        self.context = GlobalContext(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        joint = self.joint(torch.cat([self.local(x), self.surrounding(x)], 1))
        y: Tensor = self.context(self.project(joint))
        return y


class Block(nn.Module):
    """A context guided block, around a residual connection."""

    def __init__(self, channels: int, dilation: int, reduction: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = conv_bn_prelu(channels, half, 1)
        self.local = channel_wise(half)
        self.surrounding = channel_wise(half, dilation)
        self.joint = bn_prelu(channels)
        self.context = GlobalContext(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x)
        joint = self.joint(torch.cat([self.local(y), self.surrounding(y)], 1))
        refined: Tensor = self.context(joint)
        return x + refined


class CGNet(Network):
    """The whole of Table I."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stage1 = nn.Sequential(conv_bn_prelu(3, 32, 3, stride=2), conv_bn_prelu(32, 32, 3),
                                    conv_bn_prelu(32, 32, 3))
        self.merge1 = bn_prelu(32 + 3)
        self.down2 = DownBlock(32 + 3, 64, 2, 8)
        self.stage2 = nn.Sequential(*(Block(64, 2, 8) for _ in range(M - 1)))
        self.merge2 = bn_prelu(128 + 3)
        self.down3 = DownBlock(128 + 3, 128, 4, 16)
        self.stage3 = nn.Sequential(*(Block(128, 4, 16) for _ in range(N - 1)))
        self.merge3 = bn_prelu(256)
        self.classifier = conv(256, num_classes, 1)

    def scores(self, x: Tensor) -> Tensor:
        """Before the upsampling: (N, num_classes, H/8, W/8)."""
        half = average_pool(x)                                           # input injection
        x = self.merge1(torch.cat([self.stage1(x), half], 1))            # (N, 35, H/2, W/2)
        first = self.down2(x)
        x = self.merge2(torch.cat(
            [self.stage2(first), first, average_pool(half)], 1))         # (N, 131, H/4, W/4)
        first = self.down3(x)
        x = self.merge3(torch.cat([first, self.stage3(first)], 1))       # (N, 256, H/8, W/8)
        scores: Tensor = self.classifier(x)
        return scores
