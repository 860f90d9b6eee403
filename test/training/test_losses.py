# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch

from lednet_ros.training.losses import PixelLoss, enet_weights


def test_enet_weights_are_the_papers() -> None:
    weights = enet_weights(np.array([0.5, 0.01]))
    assert weights.tolist() == pytest.approx([1 / math.log(1.52), 1 / math.log(1.03)])


def test_the_mean_leaves_out_what_is_not_labelled() -> None:
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 0, 0, 0] = 2.0  # the first pixel says class 0, the second nothing
    labels = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    wanted = math.log(1 + math.exp(-2))
    assert PixelLoss().full_size(scores, labels).item() == pytest.approx(wanted)
    assert PixelLoss().small_size(scores, labels).item() == pytest.approx(wanted)


def test_weights_count_in_the_denominator_too() -> None:
    scores = torch.zeros(1, 2, 1, 2)
    labels = torch.tensor([[[0, 1]]])
    loss = PixelLoss(torch.tensor([1.0, 3.0]))
    assert loss.full_size(scores, labels).item() == pytest.approx(math.log(2))
    scores[0, 1, 0, 1] = 100.0  # the heavy pixel is right: a quarter of the weight is left
    assert loss.full_size(scores, labels).item() == pytest.approx(math.log(2) / 4, rel=1e-4)


def test_only_the_hardest_pixels_if_asked() -> None:
    scores = torch.zeros(1, 2, 1, 4)
    scores[0, 0, 0] = torch.tensor([-3.0, 3.0, 3.0, 3.0])  # one wrong of four
    labels = torch.zeros(1, 1, 4, dtype=torch.uint8)
    assert PixelLoss(hardest=0.25).full_size(scores, labels).item() == pytest.approx(
        math.log(1 + math.exp(3)))


def test_soft_iou_counts_a_rare_class_as_much_as_a_common_one() -> None:
    sure = 50.0
    scores = torch.zeros(1, 2, 1, 4)
    scores[0, 0] = sure  # all is seen as class 0; class 1 has one pixel of four
    labels = torch.tensor([[[0, 0, 0, 1]]])
    plain = PixelLoss().full_size(scores, labels)
    with_iou = PixelLoss(iou=2.0).full_size(scores, labels)
    assert (with_iou - plain).item() == pytest.approx(2 * (1 - (3 / 4 + 0) / 2))
    scores[0, :, 0, 3] = torch.tensor([0.0, sure])
    assert PixelLoss(iou=2.0).full_size(scores, labels).item() == pytest.approx(0, abs=1e-6)
    # A class that the batch lacks does not count.
    three = torch.cat([scores, torch.zeros(1, 1, 1, 4)], 1)
    assert PixelLoss(iou=2.0).full_size(three, labels).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_without_labels_costs_nothing() -> None:
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.full((1, 16, 16), 255, dtype=torch.uint8)
    for hardest, iou in ((1.0, 0.0), (0.3, 0.0), (1.0, 3.0)):
        loss = PixelLoss(torch.ones(3), hardest, iou).full_size(scores, labels)
        loss.backward()
        assert loss.item() == 0
        assert torch.isfinite(scores.grad).all()
