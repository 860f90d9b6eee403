# SPDX-License-Identifier: Apache-2.0
"""What the labels mean, latched, for whoever asks: vision_msgs/LabelInfo, made and read."""

from __future__ import annotations

from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from lednet_ros.model.labels import LabelSet

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # not on every robot, and on no machine without apt's ROS
    LabelInfo = None

__all__ = ['LATCHED', 'LabelInfo', 'make_label_info', 'mismatch']

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def make_label_info(labels: LabelSet, min_confidence: float, header: Header) -> Any:
    """Make the message: ids and names as they occur in label images; 255 has no name there."""
    return LabelInfo(
        header=header, threshold=min_confidence,
        class_map=[VisionClass(class_id=id_, class_name=c.name)
                   for id_, c in enumerate(labels.classes) if not c.void])


def mismatch(message: Any, labels: LabelSet) -> str:
    """Name a class that message and label set know by different names; '' if there is none."""
    names = dict(enumerate(labels.names))
    for c in message.class_map:
        if names.get(c.class_id) != c.class_name:
            return (f'label_info calls class {c.class_id} {c.class_name!r}, {labels.name} '
                    f'{names.get(c.class_id)!r}: choose the traversability of the labels')
    return ''
