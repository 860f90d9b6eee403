# SPDX-License-Identifier: Apache-2.0
"""Random views of a labelled image: scale, crop, flip, shift and colour, as a recipe says."""

from __future__ import annotations

import cv2
import numpy as np

from lednet_ros.labels import UNLABELLED
from lednet_ros.segmentation.fit import Fit
from lednet_ros.training.recipe import Recipe


def augment(
    image: np.ndarray, labels: np.ndarray, recipe: Recipe, crop: tuple[int, int] | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Give a view of `crop`'s (height, width), or of the resized image's size without.

    Image uint8 (H, W, 3) RGB, labels uint8 (H, W). Beside the image its edge is repeated and
    nothing is labelled. The same state of `rng` gives the same view.
    """
    height, width = resized(recipe, image.shape[:2])
    image, labels = resize_pair(image, labels, height, width)
    out_height, out_width = crop or (height, width)
    low, high = np.log(recipe.scale)
    scale = float(np.exp(rng.uniform(low, high)))
    flip = recipe.flip and rng.random() < 0.5
    # The shift last: none leaves what is drawn before as it is.
    top, left = (_offset(length * scale - out, rng) for length, out in (
        (height, out_height), (width, out_width)))
    if recipe.shift:
        top, left = (at + int(rng.integers(-recipe.shift, recipe.shift + 1))
                     for at in (top, left))
    # One warp does it all; half a pixel, because scaling is about corners and indices are centres.
    across = -scale if flip else scale
    from_left = (width * scale if flip else 0.0) + across / 2 - 0.5 - left
    matrix = np.array([[across, 0, from_left], [0, scale, scale / 2 - 0.5 - top]])
    size = (out_width, out_height)
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REPLICATE)
    labels = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST,
                            borderMode=cv2.BORDER_CONSTANT, borderValue=UNLABELLED)
    return (_recolor(image, recipe.color, rng) if recipe.color else image), labels


def resized(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int]:
    """Give the (height, width) that an image of this size has before scale and crop."""
    if recipe.resize_height:
        return recipe.resize_height, round(size[1] * recipe.resize_height / size[0])
    fit = Fit.make(size, (recipe.input_height, recipe.input_width), 'letterbox')
    return fit.height, fit.width


def resize_pair(
    image: np.ndarray, labels: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bring both to a size."""
    if (height, width) == image.shape[:2]:
        return image, labels
    return (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _offset(room: float, rng: np.random.Generator) -> int:
    """Give where a crop begins: anywhere inside, or the image anywhere inside the crop."""
    low, high = sorted((0, round(room)))
    return int(rng.integers(low, high + 1))


def _recolor(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and gamma, each by up to `strength`."""
    brightness, contrast, saturation, gamma = rng.uniform(-strength, strength, 4)
    ramp = np.linspace(0, 1, 256) ** np.exp(gamma)
    ramp = (ramp - 0.5) * (1 + contrast) + 0.5 + brightness / 2
    image = cv2.LUT(image, (255 * ramp).clip(0, 255).round().astype(np.uint8))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1 + saturation, grey, -saturation, 0)
