# SPDX-License-Identifier: Apache-2.0
"""
How a checkpoint's score holds when light, lens and camera change: one family of changes.

The family is fixed, so that figures of different checkpoints can be compared; it has nothing to do
with what a recipe's augmentation draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lednet_ros.datasets.layouts import DataSet
from lednet_ros.model.labels import UNLABELLED
from lednet_ros.segmentation import Segmenter
from lednet_ros.training.augmentation import motion_kernel
from lednet_ros.training.metrics import Confusion

STRENGTHS = 5
JUDGED = 2     # the strength that one figure is given for: a bad day rather than a broken camera

_SEED = 19
_ROWS = 360    # lengths in pixels are those of an image so high, and grow with it
_AIR = 205     # how bright thick fog is


@dataclass(frozen=True)
class Change:
    """A change of an image, or of the view and so of its labels, at five rising amounts."""

    amounts: tuple[float, float, float, float, float]
    unit: str
    light: Callable[[np.ndarray, float, np.random.Generator], np.ndarray] | None = None
    view: Callable[[tuple[int, int], float, np.random.Generator], np.ndarray] | None = None


@dataclass(frozen=True)
class Robustness:
    """The mean IoU without and with each change, by strength; 0 to 1."""

    clean: float
    changed: dict[str, tuple[float, ...]]

    @property
    def mean(self) -> tuple[float, ...]:
        """Return the mean over the changes, by strength."""
        return tuple(float(np.mean(by_change))
                     for by_change in zip(*self.changed.values(), strict=True))

    @property
    def kept(self) -> tuple[float, ...]:
        """Return which share of the clean score the mean is, by strength; NaN where that is 0."""
        return tuple(mean / self.clean if self.clean else float('nan') for mean in self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON; NaN becomes null."""
        def plain(values: tuple[float, ...]) -> list[float | None]:
            return [None if np.isnan(v) else round(v, 6) for v in values]
        return {'clean': plain((self.clean,))[0], 'mean': plain(self.mean),
                'kept': plain(self.kept),
                'changes': {name: {
                    'amounts': list(FAMILY[name].amounts), 'unit': FAMILY[name].unit,
                    'miou': plain(values)}
                            for name, values in self.changed.items()}}

    def table(self) -> Iterator[str]:
        """Yield lines for people, in percent."""
        def row(name: str, values: tuple[float, ...]) -> str:
            return f'{name:<16}' + ''.join(
                f'{"-" if np.isnan(v) else f"{100 * v:.1f}":>6}' for v in values)
        yield f'{"mIoU at strength":<16}' + ''.join(f'{i:>6}' for i in range(1, STRENGTHS + 1))
        for name, values in self.changed.items():
            yield row(name, values)
        yield row('mean', self.mean)
        yield row('of clean', self.kept)
        yield (f'at strength {JUDGED} the mean is {100 * self.kept[JUDGED - 1]:.1f} % of the '
               f'clean {100 * self.clean:.2f}')


def measure_robustness(
    segmenter: Segmenter, data: DataSet, on_frame: Callable[[], None] = lambda: None
) -> Robustness:
    """
    Score a split without and with every change; `on_frame` is called after each frame.

    Raise DataError.
    """
    clean = Confusion(len(data.labels))
    changed = {name: [Confusion(len(data.labels)) for _ in range(STRENGTHS)] for name in FAMILY}
    for index in range(len(data)):
        image, truth = data.read(index)
        clean.add(truth, segmenter.segment([image], rgb=True)[0].labels)
        on_frame()
        for name, confusions in changed.items():
            for strength, confusion in enumerate(confusions, 1):
                view, labels = change(image, truth, name, strength, index)
                confusion.add(labels, segmenter.segment([view], rgb=True)[0].labels)
                on_frame()
    return Robustness(clean.scores(data.labels).miou, {
        name: tuple(confusion.scores(data.labels).miou for confusion in confusions)
        for name, confusions in changed.items()})


def change(
    image: np.ndarray, labels: np.ndarray, name: str, strength: int, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return an image and its labels under a change of FAMILY at a strength, 1 to 5.

    Image uint8 (H, W, 3) RGB, labels uint8 (H, W). What is random depends on the change and on
    `index`, the image's place in its data set, alone: all strengths change it the same way.
    """
    one = FAMILY[name]
    amount = one.amounts[strength - 1]
    rng = np.random.default_rng([_SEED, list(FAMILY).index(name), index])
    if one.light:
        image = one.light(image, amount, rng)
    if one.view:
        height, width = image.shape[:2]
        matrix = one.view((height, width), amount, rng)
        image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE)
        labels = cv2.warpAffine(labels, matrix, (width, height), flags=cv2.INTER_NEAREST,
                                borderMode=cv2.BORDER_CONSTANT, borderValue=UNLABELLED)
    return image, labels


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _by_ramp(image: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """Replace each value, 0 to 255, by what a ramp (256,) or (256, channels) has for it."""
    table = ramp.clip(0, 255).round().astype(np.uint8)
    return cv2.LUT(image, table.reshape(256, 1, -1))


def _cast(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    hue = rng.normal(size=3)
    hue -= hue.mean()
    gains = np.exp(amount * hue / np.abs(hue).max())
    return _by_ramp(image, np.arange(256)[:, None] * gains)


def _brightness(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return _by_ramp(image, np.arange(256) * 2.0 ** (_sign(rng) * amount))


def _contrast(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    mean = image.mean()
    return _by_ramp(image, (np.arange(256) - mean) * amount + mean)


def _gamma(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return _by_ramp(image, 255 * np.linspace(0, 1, 256) ** np.exp(_sign(rng) * amount))


def _blur(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), amount * image.shape[0] / _ROWS)


def _motion(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    length = max(1, round(amount * image.shape[0] / _ROWS))
    return cv2.filter2D(image, -1, motion_kernel(length, np.pi * rng.random()))


def _noise(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(amount)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _jpeg(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    bgr = np.ascontiguousarray(image[..., ::-1])
    data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, int(amount)])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def _fog(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Hide what is far: a flat ground below the middle of the image, above it all farthest."""
    height = image.shape[0]
    below = (np.arange(height) + 0.5 - height / 2).clip(min=0) / height  # of the horizon
    distance = 1 / np.maximum(1, 20 * below)
    seen = np.exp(-amount * distance).astype(np.float32)[:, None, None]
    return (image * seen + _AIR * (1 - seen)).round().astype(np.uint8)


def _zoom(size: tuple[int, int], amount: float, rng: np.random.Generator) -> np.ndarray:
    factor = amount ** _sign(rng)
    height, width = size
    return np.array([[factor, 0, (1 - factor) * (width - 1) / 2],
                     [0, factor, (1 - factor) * (height - 1) / 2]])


def _tilt(size: tuple[int, int], amount: float, rng: np.random.Generator) -> np.ndarray:
    return np.array([[1.0, 0, 0], [0, 1, _sign(rng) * round(amount * size[0])]])


FAMILY = {  # a new one goes to the end: what the others draw depends on their places
    'colour cast': Change((0.1, 0.2, 0.3, 0.4, 0.55), 'a channel by e^', light=_cast),
    'brightness': Change((0.3, 0.6, 1.0, 1.5, 2.0), 'stops, more or less', light=_brightness),
    'contrast': Change((0.85, 0.7, 0.55, 0.4, 0.25), 'times the contrast', light=_contrast),
    'gamma': Change((0.15, 0.3, 0.5, 0.7, 0.9), 'exponent e^, or 1 / e^', light=_gamma),
    'blur': Change((0.6, 1.0, 1.5, 2.2, 3.2), 'pixels of 360 rows, sigma', light=_blur),
    'motion': Change((3, 5, 8, 12, 18), 'pixels of 360 rows', light=_motion),
    'noise': Change((4, 8, 14, 22, 35), 'of 255, sigma', light=_noise),
    'JPEG': Change((60, 40, 25, 15, 8), 'quality', light=_jpeg),
    'fog': Change((0.3, 0.6, 1.0, 1.5, 2.2), 'optical depth at the horizon', light=_fog),
    'scale': Change((1.15, 1.3, 1.5, 1.75, 2.0), 'times larger, or smaller', view=_zoom),
    'horizon': Change((0.05, 0.1, 0.15, 0.2, 0.25), 'of the height, up or down', view=_tilt)}
