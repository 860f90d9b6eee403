# SPDX-License-Identifier: Apache-2.0
"""One segmented frame as messages: only those that somebody listens to, labels first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from lednet_ros.images.annotate import overlay
from lednet_ros.nodes.shared.image_messages import Frame, encode_image
from lednet_ros.segmentation import Segmentation

OUTPUTS = {'label': Image, 'color': Image, 'overlay': Image, 'confidence': Image,
           'camera_info': CameraInfo}
"""Each camera's topics, by their last names."""


def make_images(
    wanted: Collection[str], frame: Frame, header: Header, seen: Segmentation,
    colorize: Callable[[np.ndarray], np.ndarray], overlay_alpha: float,
) -> Iterator[tuple[str, Any]]:
    """
    Yield (output, Image) one by one, each made when it is asked for.

    `header`, the camera image's own, is the header of each.
    """
    if 'label' in wanted:
        yield 'label', encode_image(seen.labels, 'mono8', header)
    if 'confidence' in wanted and seen.confidence is not None:
        yield 'confidence', encode_image(seen.confidence, 'mono8', header)
    if 'color' in wanted or 'overlay' in wanted:
        colors = colorize(seen.labels)
        if 'color' in wanted:
            yield 'color', encode_image(colors, 'rgb8', header)
        if 'overlay' in wanted:
            blend = overlay(_picture(frame, seen), colors, overlay_alpha)
            yield 'overlay', encode_image(blend, 'rgb8', header)


def _picture(frame: Frame, seen: Segmentation) -> np.ndarray:
    """Return the camera's picture as RGB, uint8 (H, W, 3), of the labels' size."""
    if seen.labels.shape != frame.pixels.shape[:2]:
        return seen.place.picture(frame.pixels, frame.rgb)
    return frame.pixels if frame.rgb else cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2RGB)
