# SPDX-License-Identifier: Apache-2.0
"""How much labels flicker from frame to frame of a film, where the picture itself moves on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lednet_ros.model.labels import UNLABELLED, LabelSet

_FLOW_WIDTH = 320   # pixels: at which the optical flow is sought
_MOST_ASTRAY = 1.0  # of those pixels: how far the way there and back may end from its beginning


@dataclass(frozen=True)
class Flicker:
    """Pixels that are seen in both of two neighbouring frames, and those whose class changed."""

    labels: LabelSet
    pairs: int
    seen: np.ndarray     # int64 (classes,): by the class in the earlier frame
    changed: np.ndarray  # likewise
    compared: float      # the share of all pixels that could be followed, 0 to 1

    @property
    def share(self) -> float:
        """Return the share of the pixels that change their class, 0 to 1."""
        return float(self.changed.sum()) / max(int(self.seen.sum()), 1)

    def by_class(self) -> dict[str, float]:
        """Return that share by class; classes without a pixel are left out."""
        return {name: float(self.changed[i] / self.seen[i])
                for i, name in enumerate(self.labels.names) if self.seen[i]}

    def table(self) -> Iterator[str]:
        """Say it to people."""
        yield (f'flicker along the optical flow: {100 * self.share:.2f} % of the pixels change '
               f'their class from frame to frame ({self.pairs} pairs, {100 * self.compared:.0f} % '
               'of the pixels could be followed)')
        for name, share in sorted(self.by_class().items(), key=lambda item: -item[1]):
            yield f'  {name:<16}{100 * share:6.2f} %'

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return {'flicker': round(self.share, 6), 'pairs': self.pairs,
                'compared': round(self.compared, 6),
                'by_class': {name: round(v, 6) for name, v in self.by_class().items()}}


def measure_flicker(
    frames: Iterable[np.ndarray], segment: Callable[[np.ndarray], np.ndarray], labels: LabelSet,
    on_frame: Callable[[], None] = lambda: None,
) -> Flicker:
    """
    Measure a film: frames uint8 (H, W, 3) BGR of one size, `segment` gives labels uint8 (H, W).

    A pixel is compared with where the flow says that it was in the frame before, if the way back
    agrees; what appears or is hidden is left out.
    """
    before: tuple[np.ndarray, np.ndarray] | None = None
    seen, changed = np.zeros(256, np.int64), np.zeros(256, np.int64)
    pairs = followed = pixels = 0
    for frame in frames:
        now = _small_grey(frame), segment(frame)
        if before is not None and before[0].shape == now[0].shape:
            moved, is_known = _moved(before[1], before[0], now[0])
            is_known &= (moved != UNLABELLED) & (now[1] != UNLABELLED)
            seen += np.bincount(moved[is_known], minlength=256)
            changed += np.bincount(moved[is_known & (moved != now[1])], minlength=256)
            pairs += 1
            followed += int(is_known.sum())
            pixels += moved.size
        before = now
        on_frame()
    classes = len(labels)
    return Flicker(labels, pairs, seen[:classes], changed[:classes], followed / max(pixels, 1))


def _small_grey(frame: np.ndarray) -> np.ndarray:
    height = max(32, round(frame.shape[0] * _FLOW_WIDTH / frame.shape[1]))
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (_FLOW_WIDTH, height), interpolation=cv2.INTER_AREA)


def _moved(
    labels: np.ndarray, before: np.ndarray, now: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the frame before where the picture is now, and where that is known."""
    flow = cv2.DISOpticalFlow_create(  # type: ignore[attr-defined]
        cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = flow.calc(now, before, None), flow.calc(before, now, None)
    rows, columns = (v.astype(np.float32) for v in np.indices(now.shape))
    x, y = columns + back[..., 0], rows + back[..., 1]
    returned = cv2.remap(forth, x, y, cv2.INTER_LINEAR)
    astray = np.linalg.norm(back + returned, axis=2)
    inside = (x >= 0) & (y >= 0) & (x <= now.shape[1] - 1) & (y <= now.shape[0] - 1)
    is_known = (inside & (astray <= _MOST_ASTRAY)).astype(np.uint8)
    # To the labels' size: coordinates of pixel centres.
    size = labels.shape[1], labels.shape[0]
    scale_x, scale_y = size[0] / now.shape[1], size[1] / now.shape[0]
    full_x = (cv2.resize(x, size) + 0.5) * scale_x - 0.5
    full_y = (cv2.resize(y, size) + 0.5) * scale_y - 0.5
    moved = cv2.remap(labels, full_x, full_y, cv2.INTER_NEAREST)
    return moved, cv2.resize(is_known, size, interpolation=cv2.INTER_NEAREST) > 0
