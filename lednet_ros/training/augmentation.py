# SPDX-License-Identifier: Apache-2.0
"""Random views of a labelled image: another place, lens, light and camera, as a recipe says."""

from __future__ import annotations

import cv2
import numpy as np

from lednet_ros.model.labels import UNLABELLED
from lednet_ros.segmentation.letterbox import Fit
from lednet_ros.training.recipe import Recipe

_SMALL = 0.05  # of a view: poles, signs, people and what is far away; not walls, not the ground

def augment(
    image: np.ndarray, labels: np.ndarray, recipe: Recipe, crop: tuple[int, int] | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a view of `crop`'s (height, width), or of the resized image's size without.

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
    if recipe.rotation or recipe.perspective:
        matrix = _other_camera(size, recipe, rng) @ np.vstack([matrix, [0, 0, 1]])
    warp = cv2.warpAffine if len(matrix) == 2 else cv2.warpPerspective
    image = warp(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    labels = warp(labels, matrix, size, flags=cv2.INTER_NEAREST,
                  borderMode=cv2.BORDER_CONSTANT, borderValue=UNLABELLED)
    for changed, strength in (
            (_white_balance, recipe.white_balance), (_hue, recipe.hue), (_recolor, recipe.color),
            (_grey, recipe.grey), (_shading, recipe.shading), (_blur, recipe.blur),
            (_noise, recipe.noise), (_jpeg, recipe.jpeg)):
        if strength:
            image = changed(image, strength, rng)
    return image, labels


def paste_objects(
    image: np.ndarray, labels: np.ndarray, other: np.ndarray, other_labels: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a view with what is small in another one in front of it, where it was there.

    Images uint8 (H, W, 3) and labels uint8 (H, W), all of one size. Small is a class with at most
    _SMALL of the view; each is pasted with even chance, so that rare classes are seen more often
    and before other things (Ghiasi et al., "Simple Copy-Paste", 2021).
    """
    pixels = np.bincount(other_labels.ravel(), minlength=256)
    pixels[UNLABELLED] = 0
    small = np.flatnonzero((pixels > 0) & (pixels <= _SMALL * labels.size))
    is_pasted = np.zeros(256, bool)
    is_pasted[small[rng.random(len(small)) < 0.5]] = True
    mask = is_pasted[other_labels]
    return np.where(mask[..., None], other, image), np.where(mask, other_labels, labels)


def resized(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that an image of this size has before scale and crop."""
    if recipe.resize_height:
        return recipe.resize_height, round(size[1] * recipe.resize_height / size[0])
    fit = Fit.make(size, (recipe.input_height, recipe.input_width), 'letterbox')
    return fit.height, fit.width


def padding_of(recipe: Recipe, size: tuple[int, int]) -> float:
    """
    Return the share of the largest crop that an image of a (height, width) leaves empty.

    Before the random scale; 0 to 1.
    """
    height, width = resized(recipe, size)
    return max((1 - min(1, height / crop_height) * min(1, width / crop_width)
                for _, crop_height, crop_width in recipe.crops), default=0.0)


def resize_pair(
    image: np.ndarray, labels: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bring both to a size."""
    if (height, width) == image.shape[:2]:
        return image, labels
    return (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _offset(room: float, rng: np.random.Generator) -> int:
    """Return where a crop begins: anywhere inside, or the image anywhere inside the crop."""
    low, high = sorted((0, round(room)))
    return int(rng.integers(low, high + 1))


def _other_camera(
    size: tuple[int, int], recipe: Recipe, rng: np.random.Generator
) -> np.ndarray:
    """Return a homography of a view, (width, height), to that of a camera held otherwise."""
    width, height = size
    matrix = np.eye(3)
    if recipe.rotation:
        degrees = rng.uniform(-recipe.rotation, recipe.rotation)
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix[:2] = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    if recipe.perspective:
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        moves = rng.uniform(-recipe.perspective, recipe.perspective, (4, 2)) * size
        matrix = cv2.getPerspectiveTransform(
            corners, (corners + moves).astype(np.float32)) @ matrix
    return matrix


def _white_balance(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply each channel by e^N(0, strength), their mean brightness kept."""
    gains = np.exp(rng.normal(0, strength, 3))
    gains /= gains.mean()
    ramps = (np.arange(256)[:, None] * gains).clip(0, 255).round().astype(np.uint8)
    return cv2.LUT(image, ramps[:, None])


def _hue(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turn the hue by up to so many degrees either way."""
    shift = rng.uniform(-degrees, degrees) / 360 * 256
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(shift) % 256)  # wraps round
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _grey(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Take the colour from a share of the images."""
    if rng.random() >= share:
        return image
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _shading(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply by a smooth field of e^(up to `strength` either way): shadow, glare, vignette."""
    height, width = image.shape[:2]
    coarse = np.exp(rng.uniform(-strength, strength, (3, 3))).astype(np.float32)
    coarse /= coarse.mean()  # the whole brightness is another knob's
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.multiply(image, cv2.merge([field] * 3), dtype=cv2.CV_8U)


def _blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blur a third of the images by up to `sigma` pixels, and move as many while they expose."""
    kind, amount, angle = rng.random(3)
    if kind < 1 / 3:
        return cv2.GaussianBlur(image, (0, 0), max(0.1, amount * sigma))
    if kind < 2 / 3:
        return cv2.filter2D(image, -1, motion_kernel(1 + round(3 * amount * sigma), np.pi * angle))
    return image


def motion_kernel(length: int, angle: float) -> np.ndarray:
    """Return what blurs along a line: float32 (length, length), its sum 1; `angle` in radians."""
    centre = (length - 1) / 2
    step = centre * np.array([np.cos(angle), np.sin(angle)])
    from_, to = np.round(centre - step).astype(int), np.round(centre + step).astype(int)
    kernel = cv2.line(np.zeros((length, length), np.float32), from_.tolist(), to.tolist(), 1.0)
    return kernel / kernel.sum()


def _noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add a sensor's noise of up to `sigma` of 255 to half of the images."""
    is_noisy, amount = rng.random(2)
    if is_noisy >= 0.5:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(amount * sigma)
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Store half of the images as a JPEG of at least this quality, and read them back."""
    is_stored, amount = rng.random(2)
    if is_stored >= 0.5:
        return image
    chosen = round(quality + amount * (100 - quality))
    data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, chosen])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def _recolor(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and gamma, each by up to `strength`."""
    brightness, contrast, saturation, gamma = rng.uniform(-strength, strength, 4)
    ramp = np.linspace(0, 1, 256) ** np.exp(gamma)
    ramp = (ramp - 0.5) * (1 + contrast) + 0.5 + brightness / 2
    image = cv2.LUT(image, (255 * ramp).clip(0, 255).round().astype(np.uint8))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1 + saturation, grey, -saturation, 0)
