# SPDX-License-Identifier: Apache-2.0
"""Run image_source_node with a webcam that opens, and does not come back from reading."""

from __future__ import annotations

import sys
import time
from unittest.mock import patch

import cv2


class StuckWebcam:
    """Stands for cv2.VideoCapture."""

    def __init__(self, number: int) -> None:
        pass

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return True

    def read(self) -> None:
        print('reading', flush=True)
        time.sleep(600)

    def release(self) -> None:
        pass


if __name__ == '__main__':
    patch.object(cv2, 'VideoCapture', StuckWebcam).start()
    from lednet_ros.nodes import image_source_node
    sys.exit(image_source_node.main())
