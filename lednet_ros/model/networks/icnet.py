# SPDX-License-Identifier: Apache-2.0
"""
ICNet in plain PyTorch, small blocks to large.

Zhao, Qi, Shen, Shi and Jia, "ICNet for Real-Time Semantic Segmentation on High-Resolution Images",
ECCV 2018: the cascade and its branches (Fig. 2), the cascade feature fusion (Fig. 3), in the half
width to which the paper compresses PSPNet50 and which the authors' model has (hszhao/ICNet,
evaluation/prototxt/icnet_cityscapes_bnnomerge.prototxt). With 20 classes that has 6.70 M
parameters; LEDNet's Table 2 gives 7.80, which is what the authors' file of weights weighs (31 MB).
The layers that give the lower branches scores of their own in training (cascade label guidance)
are in no model file of the authors', and left out here.
Sizes are free; the authors' model takes 1025x2049.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lednet_ros.model.lednet import resize
from lednet_ros.model.networks import Network

BINS = (1, 2, 3, 6)  # of the pyramid pooling


def halved(size: torch.Size) -> tuple[int, int]:
    """Half of (height, width), rounded up."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Keep or halve the size, without a bias."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, dilation * (kernel // 2), dilation,
                  bias=False),
        nn.BatchNorm2d(out_channels))


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1
                 ) -> nn.Sequential:
    """Return the same, and ReLU."""
    return nn.Sequential(*conv_bn(in_channels, out_channels, kernel, stride), nn.ReLU())


class Bottleneck(nn.Module):
    """ResNet's, with the width in its middle a quarter of the outer one."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        inner = channels // 4
        self.branch = nn.Sequential(
            *conv_bn(in_channels, inner, 1, stride), nn.ReLU(),
            *conv_bn(inner, inner, 3, dilation=dilation), nn.ReLU(), *conv_bn(inner, channels, 1))
        self.project = (conv_bn(in_channels, channels, 1, stride)
                        if in_channels != channels else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.project(x) + self.branch(x))


def bottlenecks(in_channels: int, channels: int, count: int, dilation: int = 1) -> nn.Sequential:
    """Return some of them in a row."""
    return nn.Sequential(*(
        Bottleneck(in_channels if i == 0 else channels, channels, dilation=dilation)
        for i in range(count)))


def pyramid_pooling(x: Tensor) -> Tensor:
    """
    Add to the features their averages over 1, 2, 3 and 6 windows a side.

    Windows overlap as in the authors' model, whose kernels and strides are written out for 33x65:
    the shorter side's stride rounds down, the longer side's follows in proportion.
    """
    height, width = (int(n) for n in x.shape[2:])  # while traced for ONNX they are tensors
    shorter = min(height, width)
    total = x
    for wanted in BINS:
        bins = min(wanted, shorter)
        step = max(1, (shorter - 1) // bins)
        strides = [max(1, step * (n - 1) // max(1, shorter - 1)) for n in (height, width)]
        kernel = [n - (bins - 1) * s for n, s in zip((height, width), strides, strict=True)]
        total = total + resize(F.avg_pool2d(x, kernel, strides), (height, width))
    return total


class CascadeFeatureFusion(nn.Module):
    """Fig. 3: the coarser map doubled and convolved, the finer one projected, their sum."""

    def __init__(self, coarse_channels: int, fine_channels: int) -> None:
        super().__init__()
        self.coarse = conv_bn(coarse_channels, 128, 3, dilation=2)
        self.fine = conv_bn(fine_channels, 128, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return F.relu(self.fine(fine) + self.coarse(resize(coarse, fine.shape[2:])))


class ICNet(Network):
    """The whole of Fig. 2."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # From the image at 1/2, and from there on at 1/4 of it: the two lower branches.
        self.conv1 = nn.Sequential(conv_bn_relu(3, 32, 3, 2), conv_bn_relu(32, 32, 3),
                                   conv_bn_relu(32, 64, 3))
        self.conv2 = bottlenecks(64, 128, 3)
        self.conv3_1 = Bottleneck(128, 256, stride=2)
        self.conv3 = bottlenecks(256, 256, 3)
        self.conv4 = bottlenecks(256, 512, 6, dilation=2)
        self.conv5 = bottlenecks(512, 1024, 3, dilation=4)
        self.conv5_4 = conv_bn_relu(1024, 256, 1)
        self.fuse24 = CascadeFeatureFusion(256, 256)
        # From the whole image: three strided convolutions.
        self.conv_sub1 = nn.Sequential(conv_bn_relu(3, 32, 3, 2), conv_bn_relu(32, 32, 3, 2),
                                       conv_bn_relu(32, 64, 3, 2))
        self.fuse12 = CascadeFeatureFusion(128, 64)
        self.classifier = nn.Conv2d(128, num_classes, 1)

    def scores(self, x: Tensor) -> Tensor:
        """Before the upsampling: (N, num_classes, H/4, W/4)."""
        quarter = halved(torch.Size(halved(x.shape[2:])))
        sub1 = self.conv_sub1(x)                                   # (N, 64, H/8, W/8)
        x = self.conv1(resize(x, halved(x.shape[2:])))             # (N, 64, H/4, W/4)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        sub2 = self.conv3_1(self.conv2(x))                         # (N, 256, H/16, W/16)
        x = self.conv3(resize(sub2, halved(sub2.shape[2:])))       # (N, 256, H/32, W/32)
        x = pyramid_pooling(self.conv5(self.conv4(x)))             # (N, 1024, H/32, W/32)
        sub24 = self.fuse24(self.conv5_4(x), sub2)                 # (N, 128, H/16, W/16)
        sub12 = self.fuse12(sub24, sub1)                           # (N, 128, H/8, W/8)
        scores: Tensor = self.classifier(resize(sub12, quarter))
        return scores
