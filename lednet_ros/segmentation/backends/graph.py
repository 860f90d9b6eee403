# SPDX-License-Identifier: Apache-2.0
"""
What is compiled and run: pixels in, scores or labels out, all between them in one graph.

The forms are chosen so that each graph becomes one TensorRT engine; a test holds them to it.
"""

from __future__ import annotations

import copy
import pkgutil
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lednet_ros.model import networks
from lednet_ros.model.checkpoint import Checkpoint, Preprocessing
from lednet_ros.model.networks import AnyNetwork, upsample


class ScoreGraph(nn.Module):
    """
    Pixels to scores: normalise, network, and no upsampling.

    Input: uint8 (N, H, W, 3) RGB. Output: floating (N, classes, h, w): H and W over the stride of
    the network's scores (LEDNet's is 8), rounded up.
    """

    def __init__(self, network: AnyNetwork, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(v).view(1, 3, 1, 1)
                     for v in (preprocessing.mean, preprocessing.std))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer('scale', 1 / (255 * std))
        self.register_buffer('shift', -mean / std)

    def forward(self, frames: Tensor) -> Tensor:
        # Cast before permute: the other order does not convert to a TensorRT engine.
        x = frames.to(self.scale.dtype).permute(0, 3, 1, 2) * self.scale + self.shift
        return self.network.scores(x)


class LabelGraph(nn.Module):
    """
    Pixels to labels: the ScoreGraph, upsampling, argmax.

    Input: uint8 (N, H, W, 3) RGB. Output: int32 (N, H, W) class ids, and with `confidence` also
    int32 (N, H, W), 255 x softmax of the chosen class, of scores divided by `temperature`; 0
    where its score is below the class's of `floors`. Both fit a byte; casting to uint8 inside
    would split the TensorRT engine.
    """

    def __init__(
        self, network: AnyNetwork, preprocessing: Preprocessing, confidence: bool = False,
        temperature: float = 1.0, floors: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.score_graph = ScoreGraph(network, preprocessing)
        self.confidence = confidence
        self.temperature = temperature
        self.floors: Tensor | None
        self.register_buffer('floors', torch.tensor(floors).view(1, -1, 1, 1) if floors else None)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        scores = upsample(
            self.score_graph.network, self.score_graph(frames), frames.shape[1:3])
        labels = scores.argmax(1).to(torch.int32)
        if not self.confidence:
            return (labels,)
        behind = scores - scores.amax(1, keepdim=True)  # the best class; labels are made already
        cooled = behind * (1 / self.temperature) if self.temperature != 1 else behind
        softmax = 1 / cooled.exp().sum(1)
        if self.floors is not None:
            # Only the best class is not behind: the minimum reaches 0 where it is above its floor.
            familiar = torch.minimum(behind, scores - self.floors).amax(1) >= 0
            softmax = softmax * familiar.to(softmax.dtype)
        return labels, (255 * softmax).round().to(torch.int32)


def make_graph(
    checkpoint: Checkpoint, confidence: bool, device: torch.device, precision: str,
    floors: Sequence[float] = (),
) -> LabelGraph:
    """Make a graph ready to run or to compile, with weights of its own."""
    network = copy.deepcopy(checkpoint.network)  # the caller's stays as it is
    graph = LabelGraph(network, checkpoint.preprocessing, confidence,
                       checkpoint.metadata.temperature, floors)
    return graph.to(device, torch.float16 if precision == 'fp16' else torch.float32).eval()


def graph_sources() -> tuple[str, ...]:
    """
    Return the modules that decide what a graph computes: all of the networks', and this one.

    Networks share blocks, so any of those modules may be a part of any network.
    """
    package = networks.__name__
    return (__name__, 'lednet_ros.model.lednet', package,
            *(f'{package}.{module.name}' for module in pkgutil.iter_modules(networks.__path__)))
