# SPDX-License-Identifier: Apache-2.0
"""Cross entropy over labelled pixels, by class weights, of the hardest only; and a soft IoU."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lednet_ros.model.labels import UNLABELLED
from lednet_ros.training.distributed import Processes


def enet_weights(frequencies: np.ndarray, c: float = 1.02) -> Tensor:
    """Return 1 / ln(c + frequency) by class (Paszke et al., 2016, Section 5.2)."""
    return torch.from_numpy(1 / np.log(c + frequencies)).float()


class PixelLoss:
    """
    The mean over the labelled pixels of a batch, which may lie in several processes.

    Divided by the weights of all of them, so that the mean of the processes' gradients is that
    of the whole batch.
    """

    def __init__(
        self, weights: Tensor | None = None, hardest: float = 1.0, iou: float = 0.0,
        processes: Processes = Processes(),  # noqa: B008  (frozen)
    ) -> None:
        self._weights = weights
        self._hardest = hardest
        self._iou = iou
        self._processes = processes

    def full_size(self, scores: Tensor, labels: Tensor, aligned: bool = True) -> Tensor:
        """
        Compare scores (N, C, h, w), upsampled, with labels, integer (N, H, W), 255 left out.

        `aligned` says whether the network's upsampling aligns corners.
        """
        scores = F.interpolate(
            scores.float(), labels.shape[1:], mode='bilinear', align_corners=aligned)
        labels = labels.long()
        loss = self._mean(scores, labels)
        return loss + self._iou * self._soft_iou(scores, labels) if self._iou else loss

    def small_size(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Compare scores (N, C, h, w) with labels (N, H, W) brought to their size."""
        small = F.interpolate(labels[:, None].float(), scores.shape[2:], mode='nearest-exact')
        return self._mean(scores.float(), small[:, 0].long())

    def _mean(self, scores: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(
            scores, labels, self._weights, ignore_index=UNLABELLED, reduction='none')
        counted = labels != UNLABELLED
        if self._hardest < 1:
            counted = counted & (losses >= self._threshold(losses.detach(), counted))
            losses = losses * counted
        masses = counted.float()
        if self._weights is not None:
            masses = masses * self._weights[labels.where(counted, torch.zeros_like(labels))]
        mass = self._processes.sum(masses.sum())
        return losses.sum() * self._processes.count / mass.clamp(min=1e-6)

    def _soft_iou(self, scores: Tensor, labels: Tensor) -> Tensor:
        """
        Return 1 - the mean IoU of the classes in the batch, by probabilities instead of labels.

        Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
        Segmentation", 2016. A rare class counts as much as a common one, as in the score.
        """
        known = (labels != UNLABELLED)[:, None]
        seen = scores.softmax(1) * known
        true = torch.zeros_like(seen).scatter_(1, labels.where(known[:, 0], 0)[:, None], 1.0)
        true *= known
        sums = torch.stack([(seen * true).sum((0, 2, 3)), seen.sum((0, 2, 3)),
                            true.sum((0, 2, 3))])
        both, seen_sum, true_sum = self._processes.differentiable_sum(sums)
        present = true_sum > 0
        iou = both / (seen_sum + true_sum - both).clamp(min=1e-6)
        # A batch without labels costs nothing.
        return ((1 - iou) * present).sum() / present.sum().clamp(min=1)

    def _threshold(self, losses: Tensor, counted: Tensor) -> Tensor:
        """Return the loss that the hardest pixels reach (online hard example mining)."""
        # The processes' parts are of one shape, but what they count is not.
        losses = self._processes.gather(losses.masked_fill(~counted, -torch.inf))
        losses = losses[losses != -torch.inf]
        if not losses.numel():
            return losses.new_zeros(())
        keep = max(1, int(losses.numel() * self._hardest))
        return losses.kthvalue(losses.numel() - keep + 1).values
