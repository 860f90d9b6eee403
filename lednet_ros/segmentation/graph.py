# SPDX-License-Identifier: Apache-2.0
"""What is compiled and run: pixels in, labels out, with everything between in one graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lednet_ros.checkpoint import Preprocessing
from lednet_ros.lednet import LEDNet, resize


class LabelGraph(nn.Module):
    """Pixels to labels: normalise, network, x8 upsampling, argmax.

    Input: uint8 (N, H, W, 3) RGB. Output: int32 (N, H, W) class ids and, where asked for, uint8
    (N, H, W) confidence, 255 x softmax of the chosen class, else None.
    """

    def __init__(self, network: LEDNet, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(v).view(1, 3, 1, 1)
                     for v in (preprocessing.mean, preprocessing.std))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer('scale', 1 / (255 * std))
        self.register_buffer('shift', -mean / std)

    def forward(self, frames: Tensor, confidence: bool = False) -> tuple[Tensor, Tensor | None]:
        # Cast before permute: the other order does not convert to a TensorRT engine.
        x = frames.to(self.scale.dtype).permute(0, 3, 1, 2) * self.scale + self.shift
        scores = resize(self.network.scores(x), frames.shape[1:3])
        labels = scores.argmax(1).to(torch.int32)
        if not confidence:
            return labels, None
        softmax = 1 / (scores - scores.amax(1, keepdim=True)).exp().sum(1)
        return labels, (255 * softmax).round().to(torch.uint8)
