# SPDX-License-Identifier: Apache-2.0
"""
Pictures that explain a segmentation: camera, colours, overlay and legend side by side.

Plain functions from arrays to arrays; every picture is uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from lednet_ros.images.resizing import resize_image
from lednet_ros.model.labels import UNLABELLED, LabelSet

PANEL_WIDTH = 640        # of one of the four, in pixels; text is sized for it
PANEL_MAX_HEIGHT = 640   # a portrait camera's panels become narrower instead
PANEL_MIN_HEIGHT = 208   # a legend needs room; flatter pictures get bars above and below
GAP = 6

_BACKGROUND = (22, 24, 29)
_CARD = (32, 35, 42)
_RAIL = (52, 56, 66)
_BRIGHT = (240, 242, 245)
_DIM = (150, 156, 168)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Share(NamedTuple):
    """How much of a picture a class covers."""

    name: str
    color: tuple[int, int, int]  # RGB
    share: float                 # 0 to 1


def shares(labels: np.ndarray, label_set: LabelSet) -> list[Share]:
    """Return every class's share of a label image, the largest first; 'unlabelled' if there is."""
    counts = np.bincount(labels.ravel(), minlength=256) / max(labels.size, 1)
    rows = [Share(c.name, c.color, float(counts[id_]))
            for id_, c in enumerate(label_set.classes) if not c.void]
    if counts[UNLABELLED] > 0:
        rows.append(Share('unlabelled', (0, 0, 0), float(counts[UNLABELLED])))
    return sorted(rows, key=lambda row: -row.share)  # stable: equal shares stay in id order


def overlay(camera: np.ndarray, colors: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Lay the colours over the camera picture; `alpha` 1 hides it."""
    return cv2.addWeighted(camera, 1.0 - alpha, colors, alpha, 0.0)


def side_by_side(
    camera: np.ndarray,
    colors: np.ndarray,
    rows: Sequence[Share],
    title: str = 'lednet_ros',
    figures: Sequence[tuple[str, str]] = (),
    ground: tuple[np.ndarray, str] | None = None,
) -> np.ndarray:
    """
    Arrange camera and colours above overlay and legend, of even height and width.

    `colors` is of the camera's size. `figures` are pairs of bright and dim text for the legend.
    `ground`, a picture of `panel_size` and its caption, takes the place of the colours.
    """
    height, width = panel_size(camera.shape[0], camera.shape[1])
    camera = _fitted(camera, height, width, cv2.INTER_AREA)
    colors = _fitted(colors, height, width, cv2.INTER_NEAREST)
    return _grid([
        _captioned(camera, 'camera'),
        _captioned(*(ground or (colors, 'labels'))),
        _captioned(overlay(camera, colors), 'overlay'),
        legend(height, width, rows, title, figures)])


def legend_strip(
    width: int, entries: Sequence[tuple[str, tuple[int, int, int]]]
) -> np.ndarray:
    """Draw names beside their RGB colours, in as many rows as it takes: uint8 (H, width, 3)."""
    row_height, side, gap = 24, 12, 16
    places, x, row = [], gap, 0
    for name, _ in entries:
        length = side + 7 + _text_width(name, 13)
        if x + length + gap > width and x > gap:
            x, row = gap, row + 1
        places.append((x, row))
        x += length + gap
    strip = np.full(((row + 1) * row_height + 8, width, 3), _CARD, np.uint8)
    for (name, color), (x, row) in zip(entries, places, strict=True):
        middle = 4 + row * row_height + row_height // 2
        corner, opposite = (x, middle - side // 2), (x + side, middle + side // 2)
        cv2.rectangle(strip, corner, opposite, color, cv2.FILLED)
        cv2.rectangle(strip, corner, opposite, _DIM, 1)
        _text(strip, name, x + side + 7, middle + 5, 13, _BRIGHT, room=width - x - side - 7)
    return strip


def with_legend(
    picture: np.ndarray, entries: Sequence[tuple[str, tuple[int, int, int]]]
) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3) RGB, with names and their colours below it."""
    return np.vstack([picture, legend_strip(picture.shape[1], entries)])


def class_colors(labels: LabelSet) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the classes that label images show, with their RGB colours, for a legend."""
    return [(c.name, c.color) for c in labels.classes if not c.void]


def captioned_grid(pictures: Sequence[tuple[np.ndarray, str]]) -> np.ndarray:
    """Arrange pictures of one size, uint8 (H, W, 3) RGB, with their captions in two columns."""
    height, width = panel_size(*pictures[0][0].shape[:2])
    return _grid([_captioned(_fitted(p, height, width, cv2.INTER_NEAREST), caption)
                  for p, caption in pictures])


def _grid(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Lay panels of one size out in two columns, on a picture of even height and width."""
    height, width = panels[0].shape[:2]
    rows = (len(panels) + 1) // 2
    picture = np.full((rows * (height + GAP) + GAP, 2 * width + 3 * GAP, 3), _BACKGROUND, np.uint8)
    picture = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)),
                     'edge')
    for place, panel in enumerate(panels):
        top = GAP + (place // 2) * (height + GAP)
        left = GAP + (place % 2) * (width + GAP)
        picture[top:top + height, left:left + width] = panel
    return picture


def legend(
    height: int,
    width: int,
    rows: Sequence[Share],
    title: str,
    figures: Sequence[tuple[str, str]] = (),
) -> np.ndarray:
    """Draw names, colours and shares on a card; rows that find no room are counted."""
    card = np.full((height, width, 3), _CARD, np.uint8)
    margin = 18
    _text(card, title, margin, 33, 17, _BRIGHT, bold=True, room=width - 2 * margin)
    bottom = height - 14
    if figures:
        bottom = height - 48
        cv2.line(card, (margin, bottom + 6), (width - margin, bottom + 6), _RAIL, 1)
        step = (width - 2 * margin) // len(figures)
        for i, (bright, dim) in enumerate(figures):
            x = margin + i * step
            x += _text(card, bright, x, height - 16, 14, _BRIGHT, room=step) + 7
            room = margin + (i + 1) * step - x
            if room >= _text_width('..', 12):
                _text(card, dim, x, height - 16, 12, _DIM, room=room)

    top = 50
    row_height = int(np.clip((bottom - top) // max(len(rows), 1), 22, 34))
    by_column = max(1, (bottom - top) // row_height)
    columns = 1 if len(rows) <= by_column or width < 360 else 2
    if columns == 2:
        by_column = min(by_column, (len(rows) + 1) // 2)
        row_height = min(34, (bottom - top) // by_column)
    shown = list(rows)
    if len(rows) > columns * by_column:
        shown = shown[:columns * by_column - 1]
        rest = rows[len(shown):]
        shown.append(Share(f'{len(rest)} more', _CARD, sum(row.share for row in rest)))
    column_width = (width - 2 * margin - (columns - 1) * 24) // columns
    for i, row in enumerate(shown):
        left = margin + (i // by_column) * (column_width + 24)
        _legend_row(card, row, left, top + (i % by_column) * row_height, column_width, row_height)
    return card


def _legend_row(
    card: np.ndarray, row: Share, left: int, top: int, width: int, height: int
) -> None:
    middle = top + height // 2
    seen = row.share >= 0.0005
    side = 14
    corner, opposite = (left, middle - side // 2), (left + side, middle + side // 2)
    cv2.rectangle(card, corner, opposite, row.color, cv2.FILLED)
    cv2.rectangle(card, corner, opposite, _DIM if seen else _RAIL, 1)
    name_width = 104 if width < 420 else 130
    _text(card, row.name, left + side + 10, middle + 5, 14, _BRIGHT if seen else _DIM,
          room=name_width)
    number = f'{row.share * 100:.1f} %' if seen else '-'
    number_width = 62
    _text(card, number, left + width, middle + 5, 13, _BRIGHT if seen else _DIM, align_right=True)
    bar_left = left + side + 10 + name_width + 8
    bar_right = left + width - number_width
    if bar_right - bar_left >= 20:
        cv2.rectangle(card, (bar_left, middle - 3), (bar_right, middle + 3), _RAIL, cv2.FILLED)
        length = round((bar_right - bar_left) * row.share)
        if length:
            # A dark class's bar would not show on a dark card.
            bright = tuple(int(40 + c * 215 / 255) for c in row.color)
            cv2.rectangle(card, (bar_left, middle - 3), (bar_left + length, middle + 3), bright,
                          cv2.FILLED)


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Scale a camera's height and width to a panel's, keeping its shape; both even, for video."""
    scale = min(PANEL_WIDTH / width, PANEL_MAX_HEIGHT / height)
    panel_width = max(PANEL_WIDTH // 2, round(width * scale))
    panel_height = max(PANEL_MIN_HEIGHT, round(height * scale))
    return panel_height + panel_height % 2, panel_width + panel_width % 2


def _fitted(image: np.ndarray, height: int, width: int, shrink: int) -> np.ndarray:
    """Scale into a panel, keeping the shape; `shrink` says how to sample where it gets smaller."""
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = (min(width, max(1, round(image.shape[1] * scale))),
             min(height, max(1, round(image.shape[0] * scale))))
    # One pixel of rounding is stretched rather than framed.
    inner = (width if width - inner[0] <= 2 else inner[0],
             height if height - inner[1] <= 2 else inner[1])
    grow = cv2.INTER_NEAREST if shrink == cv2.INTER_NEAREST else cv2.INTER_CUBIC
    if inner != (image.shape[1], image.shape[0]):
        image = resize_image(image, *inner, shrink if scale < 1 else grow)
    panel = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    panel[top:top + inner[1], left:left + inner[0]] = image
    return panel


def _captioned(panel: np.ndarray, caption: str) -> np.ndarray:
    """Write a caption on a darkened strip in the upper left corner."""
    panel = panel.copy()
    width = min(_text_width(caption, 14) + 22, panel.shape[1] - 16)
    corner = panel[8:34, 8:8 + width]
    corner[:] = cv2.addWeighted(corner, 0.35, np.full_like(corner, _BACKGROUND), 0.65, 0.0)
    _text(panel, caption, 19, 26, 14, _BRIGHT, room=width - 22)
    return panel


def _scale(height: int) -> float:
    """
    Return the font scale for lines of about this height, in pixels.

    Measured by width, so that one layout suits the fonts of OpenCV 4 and 5.
    """
    return height * 5.7 / (cv2.getTextSize('pedestrian', _FONT, 10.0, 1)[0][0] / 10.0)


def drawable(text: str) -> str:
    """Return what OpenCV 4 can draw of a text: 5 crashes over names that are no UTF-8."""
    return text.encode('ascii', 'replace').decode()


def _text_width(text: str, height: int, bold: bool = False) -> int:
    return int(cv2.getTextSize(drawable(text), _FONT, _scale(height), 2 if bold else 1)[0][0])


def _text(
    image: np.ndarray,
    text: str,
    x: int,
    baseline: int,
    height: int,
    color: tuple[int, int, int],
    *,
    bold: bool = False,
    align_right: bool = False,
    room: int = 0,
) -> int:
    """Write one line, shortened to `room` pixels; its width."""
    text = drawable(text)
    while room and text.strip('.') and _text_width(text, height, bold) > room:
        text = text[:-3] + '..' if text.endswith('..') else text[:-2] + '..'
    width = _text_width(text, height, bold)
    at = (x - width if align_right else x, baseline)
    cv2.putText(image, text, at, _FONT, _scale(height), color, 2 if bold else 1, cv2.LINE_AA)
    return width
