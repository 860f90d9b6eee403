# SPDX-License-Identifier: Apache-2.0
"""How much labels flicker along the optical flow of a film."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from lednet_ros.model.labels import LabelSet
from lednet_ros.training.flicker import measure_flicker

LABELS = LabelSet.from_dict({'name': 'yard', 'classes': [
    {'name': 'road', 'color': [9, 9, 9]}, {'name': 'wall', 'color': [1, 1, 1]}]})
HEIGHT, WIDTH, STEP = 120, 320, 6


def film(frames: int) -> Iterator[np.ndarray]:
    """A camera that pans over a wall of a texture: a dark and a bright half."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 90, (HEIGHT, WIDTH + frames * STEP, 3)).astype(np.uint8)
    wall = cv2.GaussianBlur(noise, (0, 0), 2)
    wall[:, WIDTH // 2:] += 120
    for i in range(frames):
        yield wall[:, i * STEP:i * STEP + WIDTH].copy()


def by_brightness(frame: np.ndarray) -> np.ndarray:
    return (frame.mean(2) > 110).astype(np.uint8)


def test_labels_that_move_with_the_picture_do_not_flicker() -> None:
    found = measure_flicker(film(4), by_brightness, LABELS)
    assert found.pairs == 3
    assert found.compared > 0.8
    assert found.share < 0.01


def test_labels_that_stay_while_the_picture_moves_do() -> None:
    fixed = by_brightness(next(film(1)))
    found = measure_flicker(film(4), lambda _: fixed, LABELS)
    assert found.share > STEP / WIDTH * 0.5


def test_it_is_told_by_the_class_before() -> None:
    """Every second frame loses its road, so half of the road's pixels flicker, and all of it."""
    turn = iter(range(9))

    def sees(frame: np.ndarray) -> np.ndarray:
        return by_brightness(frame) if next(turn) % 2 == 0 else np.ones((HEIGHT, WIDTH), np.uint8)

    found = measure_flicker(film(2), sees, LABELS)
    assert found.by_class()['road'] > 0.95
    assert found.by_class()['wall'] < 0.02
    assert found.to_dict()['pairs'] == 1
    assert 'road' in list(found.table())[1]


def test_what_is_unlabelled_in_either_frame_is_no_flicker() -> None:
    nothing = np.full((HEIGHT, WIDTH), 255, np.uint8)
    found = measure_flicker(film(3), lambda _: nothing, LABELS)
    assert (found.share, found.compared, found.by_class()) == (0, 0, {})


def test_label_images_may_be_of_another_size_than_the_flow_s() -> None:
    frames = [cv2.resize(frame, (960, 360)) for frame in film(3)]
    assert measure_flicker(frames, by_brightness, LABELS).share == pytest.approx(0, abs=0.01)
