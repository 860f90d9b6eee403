# SPDX-License-Identifier: Apache-2.0
"""Camera frames brought to the network's size on a GPU, as letterbox.py does on the CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lednet_ros.segmentation.letterbox import Fit


def place_on_gpu(frame: Tensor, rgb: bool, fit: Fit, out: Tensor) -> None:
    """
    Write a camera frame, uint8 (H, W, 3), into `out` as RGB: what Fit.place does on the CPU.

    Equal to it where nothing is resized, else within one grey level.
    """
    bottom, right = fit.top + fit.height, fit.left + fit.width
    if frame.shape[:2] != (fit.height, fit.width):
        resized = frame.float()
        if fit.height * 2 < frame.shape[0] or fit.width * 2 < frame.shape[1]:
            resized = _average(_average(resized, min(fit.height, frame.shape[0]), 0),
                               min(fit.width, frame.shape[1]), 1)
        if resized.shape[:2] != (fit.height, fit.width):
            resized = F.interpolate(
                resized.permute(2, 0, 1)[None], (fit.height, fit.width), mode='bilinear',
                align_corners=False)[0].permute(1, 2, 0)
        frame = resized.round().clamp(0, 255).to(torch.uint8)
    inside = out[fit.top:bottom, fit.left:right]
    inside[:] = frame if rgb else frame.flip(2)
    out[fit.top:bottom, :fit.left] = inside[:, :1]
    out[fit.top:bottom, right:] = inside[:, -1:]
    out[:fit.top] = out[fit.top].clone()
    out[bottom:] = out[bottom - 1].clone()


def _average(x: Tensor, size: int, dim: int) -> Tensor:
    """Shrink one dimension by area, as OpenCV does: differences of the running sum."""
    step = x.shape[dim] / size
    edges = torch.arange(size + 1, dtype=torch.float64, device=x.device) * step
    whole = edges.long().clamp(max=x.shape[dim] - 1)
    part = (edges - whole).to(x.dtype).view([-1 if d == dim else 1 for d in range(x.ndim)])
    until_edge = x.cumsum(dim).sub_(x).index_select(dim, whole) + part * x.index_select(dim, whole)
    return until_edge.diff(dim=dim) / step
