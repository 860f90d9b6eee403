# SPDX-License-Identifier: Apache-2.0
"""A sheet of small pictures in rows, to see at a glance what many look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from lednet_ros.common.atomic_file import write_png
from lednet_ros.images.annotate import drawable, overlay
from lednet_ros.model.labels import UNLABELLED, LabelSet

_WIDTH = 240    # of a picture, in pixels
_CAPTION = 18
_GAP = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_sheet(
    pictures: Sequence[tuple[np.ndarray, str]], columns: int, path: Path,
    beside: Callable[[int], np.ndarray] | None = None,
) -> None:
    """
    Write pictures, uint8 (H, W, 3) RGB, of any sizes, with captions, `columns` in a row.

    `beside` makes what stands right of them, of that height in pixels or more. Raise ConfigError.
    """
    write_png(path, draw_sheet(pictures, columns, beside))


def draw_sheet(
    pictures: Sequence[tuple[np.ndarray, str]], columns: int,
    beside: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Return such a sheet, uint8 (H, W, 3) RGB."""
    height = max(round(_WIDTH * p.shape[0] / p.shape[1]) for p, _ in pictures)
    tile_height, tile_width = height + _CAPTION + _GAP, _WIDTH + _GAP
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * tile_height, columns * tile_width, 3), 24, np.uint8)
    for place, (picture, caption) in enumerate(pictures):
        top, left = place // columns * tile_height, place % columns * tile_width
        size = (_WIDTH, max(1, round(_WIDTH * picture.shape[0] / picture.shape[1])))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        sheet[top + _CAPTION:top + _CAPTION + size[1], left:left + _WIDTH] = small
        cv2.putText(sheet, _shortened(drawable(caption)), (left + 3, top + 13), _FONT, 0.42,
                    (235, 235, 235), 1, cv2.LINE_AA)
    if beside:
        card = beside(sheet.shape[0])
        height = max(sheet.shape[0], card.shape[0])
        sheet = np.hstack([np.pad(part, ((0, height - part.shape[0]), (0, 0), (0, 0)))
                           for part in (sheet, card)])
    return sheet


def _shortened(text: str) -> str:
    """Return a caption that fits over a picture: its end is left, which tells files apart."""
    while cv2.getTextSize(text, _FONT, 0.42, 1)[0][0] > _WIDTH - 6:
        text = '..' + text.lstrip('.')[1:]
    return text


def labelled(image: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Return an image with its labels' colours laid over it; striped where there are none."""
    colors = label_set.palette[labels]
    rows, columns = np.nonzero(labels == UNLABELLED)
    period = max(4, labels.shape[1] // 30)
    colors[rows, columns] = np.where(
        ((rows + columns) % period < period // 4)[:, None], np.uint8(230), np.uint8(0))
    return overlay(image, colors, 0.45)
