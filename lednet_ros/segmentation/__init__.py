# SPDX-License-Identifier: Apache-2.0
"""Camera frames to label images. `Segmenter` is the one door; nothing here knows of ROS."""

from lednet_ros.segmentation.config import SegmenterConfig
from lednet_ros.segmentation.segmenter import Segmentation, Segmenter

__all__ = ['Segmentation', 'Segmenter', 'SegmenterConfig']
