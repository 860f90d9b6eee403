# SPDX-License-Identifier: Apache-2.0
"""
LEDNet with the convolutions of its APN as pairs of 1-D ones, the future work of Section 4.

Each 7x7, 5x5 and 3x3 becomes a column and a row with nothing between them, so what a pair can
compute, the plain convolution can too. 920,223 parameters with 20 classes instead of 925,663.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.lednet import BN_EPS, ConvBNReLU, LEDNet


class PairBNReLU(nn.Module):
    """A column and a row that together keep or halve the size, BN and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        half = kernel // 2
        self.column = nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (half, 0),
                                bias=False)
        self.row = nn.Conv2d(out_channels, out_channels, (1, kernel), (1, stride), (0, half))
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.row(self.column(x))))


class LEDNet1D(LEDNet):
    """LEDNet, its attention pyramid in pairs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        for name, part in list(self.apn.named_children()):
            assert isinstance(part, ConvBNReLU)
            conv = part.conv
            if conv.kernel_size[0] > 1:
                setattr(self.apn, name, PairBNReLU(
                    conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]))
