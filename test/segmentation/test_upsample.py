# SPDX-License-Identifier: Apache-2.0
"""Sparse upsampling against torch's interpolate and argmax on the same scores."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lednet_ros.model.lednet import resize
from lednet_ros.segmentation.upsample import Upsampling


def dense(scores: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, Any]:
    """Labels, confidence, and by how much the best score leads, relative to it."""
    full = resize(torch.from_numpy(scores)[None], size)[0]
    lead = 1.0
    if len(full) > 1:
        top = full.topk(2, 0).values
        lead = ((top[0] - top[1]) / top[0].abs().clamp_min(1e-20)).numpy()
    return full.argmax(0).numpy(), (255 * full.softmax(0).amax(0)).numpy(), lead


def compare(scores: np.ndarray, size: tuple[int, int]) -> None:
    upsampling = Upsampling(scores.shape[1:], size)
    labels, confidence, lead = dense(scores, size)
    ours = upsampling.labels(scores)
    assert ours.dtype == np.uint8
    assert ours.shape == size
    assert not ((ours != labels) & (lead >= 1e-5)).any()
    assert np.abs(upsampling.confidence(scores) - confidence).max() < 1.0


def blobs(random: np.random.Generator, classes: int, height: int, width: int) -> np.ndarray:
    """Smooth scores, not below zero, many exactly zero: like the network's."""
    coarse = torch.from_numpy(random.standard_normal((1, classes, 5, 7)).astype(np.float32))
    return np.maximum(resize(coarse, (height, width))[0].numpy(), 0)


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (71, 90), (32, 32), (360, 480)])
@pytest.mark.parametrize('classes', [1, 2, 11, 20])
def test_it_equals_upsampling_and_argmax(size: tuple[int, int], classes: int) -> None:
    random = np.random.default_rng(classes)
    shape = [-(-n // 8) for n in size]
    compare(blobs(random, classes, *shape), size)
    compare(random.standard_normal((classes, *shape)).astype(np.float32), size)


def test_more_border_cells_than_one_part_holds() -> None:
    random = np.random.default_rng(0)
    compare(random.standard_normal((5, 40, 40)).astype(np.float32), (320, 320))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 9), st.integers(1, 6))
def test_it_equals_it_on_ties_too(seed: int, height: int, width: int, classes: int) -> None:
    """Small whole numbers tie often, at corners and along whole edges."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 3, (classes, height, width)).astype(np.float32)
    compare(scores, (8 * height, 8 * width - 3))


def test_equal_scores_give_the_first_class() -> None:
    scores = np.ones((4, 4, 4), np.float32)
    assert (Upsampling((4, 4), (32, 32)).labels(scores) == 0).all()


def test_the_first_class_wins_a_tie_between_the_corners() -> None:
    """As in torch. Fractions of eighths: there is nothing to round."""
    scores = np.zeros((3, 2, 2), np.float32)
    scores[1, :, 0] = scores[2, :, 1] = 4
    labels = Upsampling((2, 2), (9, 9)).labels(scores)
    assert labels.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 2]] * 9
    assert dense(scores, (9, 9))[0].tolist() == labels.tolist()


def test_a_class_that_wins_only_inside_a_cell_is_found() -> None:
    """Second at every corner, first in the middle: a cell whose corners disagree must look."""
    scores = np.zeros((3, 2, 2), np.float32)
    scores[0, :, 0] = scores[1, :, 1] = 10
    scores[2] = 6
    labels = Upsampling((2, 2), (9, 9)).labels(scores)
    assert labels.tolist() == [[0, 0, 0, 0, 2, 1, 1, 1, 1]] * 9


@pytest.mark.full
@pytest.mark.parametrize('seed', range(20))
def test_it_equals_it_at_full_size(seed: int) -> None:
    compare(blobs(np.random.default_rng(seed), 20, 64, 128), (512, 1024))
